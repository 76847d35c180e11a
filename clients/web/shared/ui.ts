/** Small things that every app shows: icons, toasts, theme, freshness, attachments, sign-in, sounds and notices. */

import { LitElement, html, nothing, svg, type TemplateResult } from 'lit';
import { isHubFile, type Attachment, type HubConnection } from '../sdk/hub.ts';
import { claimsOf, personas, type Account, type Persona } from './auth.ts';
import { LOCALES, ago, chooseLocale, locale, words, type Locale } from './i18n.ts';

const t = words({
  en: {
    live: 'Live',
    connecting: 'Connecting…',
    catchingUp: 'Catching up…',
    offline: 'Offline since {ago}',
    stale: 'No connection, last update {ago}',
    stopped: 'Not connected',
    retry: 'Retry now',
    theme: 'Light or dark',
    language: 'Language',
    signIn: 'Sign in',
    provider: 'Sign in with your organization',
    token: 'Identity token',
    tokenHint: 'Paste the token that your administrator gave you.',
    notAToken: 'That is not a token: it has three parts with dots between them.',
    expired: 'That token has expired. Ask for a new one.',
    wrongRole: 'That token is for the role “{role}” and does not fit here.',
    demo: 'Demonstration',
    opensNew: 'opens in a new window',
    dismiss: 'Dismiss',
    file: 'File',
    save: 'Save {name}',
    pending: 'Not confirmed yet',
    sent: 'Sent',
    delivered: 'Delivered',
    read: 'Read',
    failed: 'Not delivered',
    failedWhy: 'Not delivered: {reason}',
  },
  de: {
    live: 'Live',
    connecting: 'Verbinde…',
    catchingUp: 'Hole auf…',
    offline: 'Offline seit {ago}',
    stale: 'Keine Verbindung, letzter Stand {ago}',
    stopped: 'Nicht verbunden',
    retry: 'Jetzt versuchen',
    theme: 'Hell oder dunkel',
    language: 'Sprache',
    signIn: 'Anmelden',
    provider: 'Mit Ihrer Organisation anmelden',
    token: 'Zugangstoken',
    tokenHint: 'Fügen Sie das Token ein, das Sie von der Verwaltung bekommen haben.',
    notAToken: 'Das ist kein Token: es hat drei Teile mit Punkten dazwischen.',
    expired: 'Dieses Token ist abgelaufen. Bitte besorgen Sie ein neues.',
    wrongRole: 'Dieses Token ist für die Rolle „{role}“ und passt hier nicht.',
    demo: 'Vorführung',
    opensNew: 'öffnet ein neues Fenster',
    dismiss: 'Schließen',
    file: 'Datei',
    save: '{name} speichern',
    pending: 'Noch nicht bestätigt',
    sent: 'Gesendet',
    delivered: 'Zugestellt',
    read: 'Gelesen',
    failed: 'Nicht zugestellt',
    failedWhy: 'Nicht zugestellt: {reason}',
  },
});

// -- icons ----------------------------------------------------------------------------------------------------------------

const PATHS: Record<string, TemplateResult> = {
  theme: svg`<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5v17a8.5 8.5 0 0 0 0-17z" fill="currentColor" stroke="none"/>`,
  send: svg`<path d="M4 12l16-8-5 17-4-7z"/><path d="M11 14l9-10"/>`,
  file: svg`<path d="M14 3H6v18h12V7z"/><path d="M14 3v4h4"/>`,
  web: svg`<path d="M4 5h16v11H9l-5 4z"/>`,
  open: svg`<path d="M4 12a8 8 0 1 1 4 7l-4 1 1-4a8 8 0 0 1-1-4z"/>`,
  sms: svg`<rect x="7" y="2.5" width="10" height="19" rx="2"/><path d="M11 18.5h2"/>`,
  out: svg`<path d="M14 4h5v16h-5"/><path d="M10 8l-4 4 4 4M6 12h9"/>`,
  bell: svg`<path d="M6 16V11a6 6 0 0 1 12 0v5l2 2H4z"/><path d="M10 21h4"/>`,
  bellOff: svg`<path d="M6 16V11a6 6 0 0 1 9-5.2M18 11v5l2 2H8"/><path d="M10 21h4M4 4l16 17"/>`,
  close: svg`<path d="M6 6l12 12M18 6L6 18"/>`,
  back: svg`<path d="M14 6l-6 6 6 6"/>`,
  alert: svg`<path d="M12 3l10 18H2z"/><path d="M12 10v5M12 18v.01"/>`,
  check: svg`<path d="M4 12l5 5L20 6"/>`,
  checks: svg`<path d="M2 12l5 5L17 6M11 16l1 1L22 6"/>`,
  clock: svg`<circle cx="12" cy="12" r="8.5"/><path d="M12 7v5l3.500 2"/>`,
  inbox: svg`<path d="M4 13l3-8h10l3 8v6H4z"/><path d="M4 13h5l1 3h4l1-3h5"/>`,
  chat: svg`<path d="M4 5h16v11H9l-5 4z"/><path d="M8 9h8M8 12h5"/>`,
};

/** A line icon, hidden from assistive technology: whatever holds it has a name. */
export function icon(name: keyof typeof PATHS | string): TemplateResult {
  return html`<svg class="icon-svg" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${PATHS[name] ?? PATHS.file}</svg>`;
}

/** Two letters for a name. */
export function initials(name: string | null | undefined): string {
  const parts = (name ?? '').trim().split(/\s+/).filter(Boolean);
  if (!parts.length) return '?';
  return (parts.length === 1 ? [...parts[0]!].slice(0, 2) : [[...parts[0]!][0], [...parts.at(-1)!][0]]).join('').toUpperCase();
}

// -- attachments ------------------------------------------------------------------------------------------------------------

/** The address to link to, or null where it isn't plain http(s): then a file is named and not linked. */
export function safeHref(url: unknown): string | null {
  if (typeof url !== 'string') return null;
  try {
    const parsed = new URL(url);
    return parsed.protocol === 'https:' || parsed.protocol === 'http:' ? parsed.href : null;
  } catch {
    return null;
  }
}

/**
 * A file. One of the hub's is saved by `open`; a platform's is a link that opens elsewhere, or, where it isn't https, its name
 * alone.
 */
export function attachment(one: Attachment, open: (file: Attachment) => void): TemplateResult {
  const href = safeHref(one.url);
  const name = one.name || href?.split('/').at(-1) || t('file');
  const inside = html`${icon('file')}<bdi>${name}</bdi>`;
  if (isHubFile(one.url)) return html`<button class="attachment" type="button" aria-label=${t('save', { name })} @click=${() => open(one)}>${inside}</button>`;
  if (!href?.startsWith('https:')) return html`<span class="attachment">${inside}</span>`;
  return html`<a class="attachment" href=${href} target="_blank" rel="noopener noreferrer nofollow">${inside}</a>`;
}

// -- what became of a message -------------------------------------------------------------------------------------------------

const SIGNS = { pending: 'clock', sent: 'check', delivered: 'checks', read: 'checks', failed: 'alert' } as const;

/** What became of a message, in words beside a sign; `reason` tells why it failed. */
export function receipt(state: keyof typeof SIGNS, reason?: string | null): TemplateResult {
  const said = state === 'failed' && reason ? t('failedWhy', { reason }) : t(state);
  return html`<span class="status-${state}">${icon(SIGNS[state])} ${said}</span>`;
}

// -- theme and language --------------------------------------------------------------------------------------------------------

const THEME = 'hub.theme';

/** Apply the theme chosen before; without one the system decides. */
export function applyTheme(): void {
  const chosen = localStorage.getItem(THEME);
  if (chosen) document.documentElement.dataset.theme = chosen;
}

/** Turn to the other theme and keep it. */
export function toggleTheme(): void {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  localStorage.setItem(THEME, root.dataset.theme);
}

/** Button for the theme. */
export function themeButton(): TemplateResult {
  return html`<button class="btn quiet icon" type="button" aria-label=${t('theme')} title=${t('theme')} @click=${toggleTheme}>${icon('theme')}</button>`;
}

/** Choice of language. */
export function languageChoice(): TemplateResult {
  const choose = (event: Event) => chooseLocale((event.target as HTMLSelectElement).value as Locale);
  return html`<select class="select" aria-label=${t('language')} @change=${choose}>
    ${Object.entries(LOCALES).map(([id, name]) => html`<option value=${id} ?selected=${id === locale}>${name}</option>`)}
  </select>`;
}

// -- freshness -------------------------------------------------------------------------------------------------------------------

/** How fresh the screen is, in words; said politely when it changes. */
export function freshness(hub: HubConnection): TemplateResult {
  const since = hub.lastHeard ? ago(hub.lastHeard) : '';
  const text = {
    live: t('live'),
    connecting: t('connecting'),
    'catching-up': t('catchingUp'),
    waiting: hub.reason === 'offline' ? t('offline', { ago: since }) : t('stale', { ago: since }),
    stopped: t('stopped'),
  }[hub.state];
  const retry = html`<button class="btn small" type="button" @click=${() => hub.retryNow()}>${t('retry')}</button>`;
  return html`<span class="fresh ${hub.state}" role="status">${text}</span>${hub.state === 'waiting' ? retry : nothing}`;
}

// -- toasts ------------------------------------------------------------------------------------------------------------------------

/** Short messages in a corner; `show` from anywhere. Errors stay until dismissed. */
export class HubToasts extends LitElement {
  static override properties = { items: { state: true } };
  declare items: { id: number; text: string; kind: string }[];
  #next = 1;

  constructor() {
    super();
    this.items = [];
  }

  protected override createRenderRoot(): this {
    return this;
  }

  show(text: string, kind: 'info' | 'ok' | 'danger' = 'info'): void {
    const id = this.#next++;
    this.items = [...this.items.slice(-3), { id, text, kind }];
    if (kind !== 'danger') setTimeout(() => this.#drop(id), 6000);
  }

  #drop(id: number): void {
    this.items = this.items.filter((one) => one.id !== id);
  }

  override render(): TemplateResult {
    const one = (item: { id: number; text: string; kind: string }) => html`<div class="toast ${item.kind}">
      <p>${item.text}</p>
      <button type="button" aria-label=${t('dismiss')} @click=${() => this.#drop(item.id)}>${icon('close')}</button>
    </div>`;
    return html`<div class="toasts" role="status" aria-live="polite">${this.items.map(one)}</div>`;
  }
}
customElements.define('hub-toasts', HubToasts);

/** Show a toast in the page's `<hub-toasts>`. */
export function toast(text: string, kind: 'info' | 'ok' | 'danger' = 'info'): void {
  let host = document.querySelector('hub-toasts') as HubToasts | null;
  if (!host) {
    host = new HubToasts();
    document.body.append(host);
  }
  host.show(text, kind);
}

// -- sign-in --------------------------------------------------------------------------------------------------------------------------

/**
 * Sign-in by token, or by clicking one of the demonstration's people. Sends `signed-in` when the account has a token.
 * Properties: `account`, `roles` (those that fit this app), `heading`, `lead`, `problem` (shown at the field).
 */
export class HubSignIn extends LitElement {
  static override properties = { people: { state: true }, problem: {}, heading: {}, lead: {}, offered: { type: Boolean } };
  declare people: Persona[];
  declare offered: boolean;
  declare problem: string;
  declare heading: string;
  declare lead: string;
  account!: Account;
  roles: string[] = [];

  constructor() {
    super();
    this.people = [];
    this.offered = false;
    this.problem = '';
    this.heading = '';
    this.lead = '';
  }

  protected override createRenderRoot(): this {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    void personas().then((people) => (this.people = people));
  }

  #take(token: string): void {
    const claims = claimsOf(token);
    if (token.split('.').length !== 3 || !claims.sub) this.problem = t('notAToken');
    else if (claims.exp && claims.exp * 1000 < Date.now()) this.problem = t('expired');
    else if (!this.roles.includes(claims.role ?? '')) this.problem = t('wrongRole', { role: claims.role ?? '?' });
    else {
      this.account.keep(token);
      this.dispatchEvent(new CustomEvent('signed-in', { bubbles: true }));
    }
  }

  #submit(event: Event): void {
    event.preventDefault();
    this.#take(String(new FormData(event.target as HTMLFormElement).get('token') ?? '').trim());
  }

  #persona(one: Persona): TemplateResult {
    const inside = html`<span class="avatar" aria-hidden="true">${initials(one.name)}</span>
      <span class="who"><b>${one.name}</b><small>${one.note}</small></span><span class="badge">${one.role}</span>`;
    if (one.app === this.account.app) {
      return html`<li><button class="persona" type="button" @click=${() => this.#take(one.token)}>${inside}</button></li>`;
    }
    const path = one.app === 'console' ? '/' : `/${encodeURIComponent(one.app)}`;
    return html`<li><a class="persona" href="${path}#token=${encodeURIComponent(one.token)}" target="_blank" rel="noopener">
      ${inside}<span class="sr">(${t('opensNew')})</span></a></li>`;
  }

  override render(): TemplateResult {
    const people = [...this.people].sort((a, b) => Number(b.app === this.account.app) - Number(a.app === this.account.app));
    return html`<main class="signin">
      <div class="signin-head"><img src="/assets/icon.svg" alt="" width="40" height="40" />
        <div><h1>${this.heading}</h1><p class="lead">${this.lead}</p></div></div>
      <div class="card">
        ${this.offered ? html`<p class="row"><a class="btn primary" href="/sign-in?to=${this.account.app}">${t('provider')}</a></p>` : nothing}
        ${people.length ? html`<h2 id="people">${t('demo')}</h2><ul class="personas" aria-labelledby="people">${people.map((one) => this.#persona(one))}</ul>` : nothing}
        <form @submit=${this.#submit}>
          <label class="field" for="token">${t('token')}</label>
          <textarea class="input" id="token" name="token" rows="3" autocomplete="off" spellcheck="false" required
            aria-describedby="token-hint ${this.problem ? 'token-problem' : ''}" aria-invalid=${this.problem ? 'true' : 'false'}></textarea>
          <p class="muted" id="token-hint">${t('tokenHint')}</p>
          ${this.problem ? html`<p class="error-text" id="token-problem" role="alert">${this.problem}</p>` : nothing}
          <div class="row"><button class="btn primary" type="submit">${t('signIn')}</button></div>
        </form>
      </div>
      <div class="signin-foot">${languageChoice()}${themeButton()}</div>
    </main>`;
  }
}
customElements.define('hub-sign-in', HubSignIn);
