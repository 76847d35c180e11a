/**
 * `<hub-takeover-alert>`: the notice that a supervisor has taken over, in front of everything, with sound and desktop notice,
 * until it is acknowledged. A shadow root keeps the host page's style out; the desk and the embeddable alert both use it.
 */

import { LitElement, css, html, nothing, unsafeCSS, type TemplateResult } from 'lit';
import { HubError, type HubConnection, type HubEvent } from '../sdk/hub.ts';
import { direction, duration, timeOf, words } from '../shared/i18n.ts';
import { chime, notice } from '../shared/notify.ts';
import tokens from '../shared/tokens.css?text';
import parts from '../shared/parts.css?text';

const t = words({
  en: {
    title: '{name} has taken over',
    heading: '{name} has taken over this conversation',
    with: 'With {customer}',
    since: 'Since {time}',
    cannot: 'You are no longer part of it, and the customer gets nothing from you any more. {name} answers from here on.',
    draft: 'Your unsent text',
    copy: 'Copy text',
    copied: 'Copied',
    required: 'Wrap-up is required. The form is waiting for you.',
    timed: 'Wrap-up is required within {time}.',
    optional: 'You may leave a wrap-up.',
    seen: 'I have seen this',
    more: '{n} more notice|{n} more notices',
    failed: 'That could not be sent: {why} Please try again.',
    someone: 'A supervisor',
  },
  de: {
    title: '{name} hat übernommen',
    heading: '{name} hat dieses Gespräch übernommen',
    with: 'Mit {customer}',
    since: 'Seit {time}',
    cannot: 'Sie gehören nicht mehr dazu, und von Ihnen geht nichts mehr an die Kundschaft. Ab jetzt antwortet {name}.',
    draft: 'Ihr nicht gesendeter Text',
    copy: 'Text kopieren',
    copied: 'Kopiert',
    required: 'Eine Nachbearbeitung ist erforderlich. Das Formular wartet auf Sie.',
    timed: 'Eine Nachbearbeitung ist binnen {time} erforderlich.',
    optional: 'Sie können eine Nachbearbeitung abgeben.',
    seen: 'Ich habe es gesehen',
    more: 'noch {n} Hinweis|noch {n} Hinweise',
    failed: 'Das ließ sich nicht senden: {why} Bitte noch einmal.',
    someone: 'Eine Teamleitung',
  },
});

const REPEAT_MS = 4_000;
const REPEATS_MAX = 30;

interface Notice {
  conversationId: string;
  data: HubEvent['data'];
  customer: string;
  subject: string;
}

export class HubTakeoverAlert extends LitElement {
  static override properties = { notices: { state: true }, busy: { state: true }, problem: { state: true }, copied: { state: true } };
  static override styles = [
    unsafeCSS(tokens),
    unsafeCSS(parts),
    css`
      :host { display: contents; }
      dialog.sheet { width: min(580px, calc(100vw - 32px)); border: 2px solid var(--danger); border-block-start-width: 10px; animation: arrive 0.25s ease-out; }
      @keyframes arrive { from { transform: translateY(-14px); } }
      dialog.sheet::backdrop { background: light-dark(rgb(110 10 20 / 55%), rgb(60 5 12 / 75%)); }
      .top { display: flex; gap: 14px; align-items: flex-start; }
      .sign { display: grid; place-items: center; flex: none; width: 44px; height: 44px; border-radius: 50%; background: var(--danger-soft); color: var(--danger); }
      .sign svg { width: 24px; height: 24px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
      h2 { overflow-wrap: anywhere; }
      .facts { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 0 0 10px; color: var(--text-2); font-size: 13px; overflow-wrap: anywhere; }
      .say { margin: 0 0 12px; }
      .draft { margin: 0 0 12px; }
      .draft-head { display: flex; justify-content: space-between; align-items: center; gap: 8px; margin-block-end: 6px; font-weight: 600; font-size: 13px; }
      blockquote { margin: 0; padding: 10px 12px; border-radius: 8px; background: var(--surface-3); white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24vh; overflow: auto; }
      .due { margin: 0; padding: 8px 12px; border-radius: 8px; background: var(--warn-soft); color: var(--warn); font-weight: 600; font-size: 13px; }
      .more { margin-inline-end: auto; align-self: center; }
      .btn.primary { min-height: 42px; padding: 0 22px; font-size: 15px; }
      .error-text { margin-block-start: 10px; }
    `,
  ];

  declare notices: Notice[];
  declare busy: boolean;
  declare problem: string;
  declare copied: boolean;
  /** False where the person switched sounds off; the dialog stays. */
  sound = true;
  #hub: HubConnection | null = null;
  #rows = new Map<string, HubEvent['data']>();
  #done = new Set<string>();
  #timer = 0;
  #repeats = 0;
  #title = '';

  constructor() {
    super();
    this.notices = [];
    this.busy = false;
    this.problem = '';
    this.copied = false;
  }

  /** Listen to a connection of an agent. */
  attach(hub: HubConnection): void {
    this.#hub = hub;
    hub.addEventListener('conversation.snapshot', (event) => {
      const { conversation_id: id, data } = (event as CustomEvent<HubEvent>).detail;
      if (id) this.#rows.set(id, data.conversation ?? {});
    });
    hub.addEventListener('takeover.notified', (event) => this.#notified((event as CustomEvent<HubEvent>).detail));
  }

  /** Name and subject of a conversation for the notice, where they are known otherwise. */
  know(conversationId: string, row: HubEvent['data']): void {
    this.#rows.set(conversationId, row);
  }

  #notified(event: HubEvent): void {
    const id = event.data.takeover_id;
    if (this.#done.has(id) || this.notices.some((one) => one.data.takeover_id === id)) return;
    const row = this.#rows.get(event.conversation_id ?? '') ?? {};
    const shown = { conversationId: event.conversation_id ?? '', data: event.data, customer: row.customer?.name ?? '', subject: row.subject ?? '' };
    this.notices = [...this.notices, shown];
    this.dispatchEvent(new CustomEvent('hub-takeover', { detail: event, bubbles: true, composed: true }));
    notice(t('title', { name: this.#name(shown) }), [shown.customer, shown.subject].filter(Boolean).join(' · '), id, true);
    this.#insist();
  }

  #name(one: Notice): string {
    return one.data.supervisor?.name || t('someone');
  }

  /** Sound and a changing title until it is acknowledged. */
  #insist(): void {
    clearInterval(this.#timer);
    this.#repeats = 0;
    if (!this.#title) this.#title = document.title;
    const again = () => {
      if (this.sound && this.#repeats < REPEATS_MAX) chime('alert');
      document.title = this.#repeats++ % 2 ? this.#title : `(!) ${t('title', { name: this.#name(this.notices[0]!) })}`;
    };
    again();
    this.#timer = setInterval(again, REPEAT_MS) as unknown as number;
  }

  #calm(): void {
    clearInterval(this.#timer);
    document.title = this.#title;
    this.#title = '';
  }

  async #acknowledge(one: Notice): Promise<void> {
    this.busy = true;
    this.problem = '';
    const id = one.data.takeover_id;
    try {
      await this.#hub!.command('takeover.acknowledge', { takeover_id: id });
    } catch (error) {
      if (!(error instanceof HubError && error.code === 'already_done')) {
        this.problem = t('failed', { why: (error as Error).message });
        return;
      }
    } finally {
      this.busy = false;
    }
    this.#done.add(id);
    this.copied = false;
    this.notices = this.notices.filter((other) => other !== one);
    if (!this.notices.length) this.#calm();
    this.dispatchEvent(new CustomEvent('hub-acknowledged', { detail: { takeover_id: id, conversation_id: one.conversationId }, bubbles: true, composed: true }));
  }

  async #copy(text: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      this.copied = true;
    } catch {
      this.renderRoot.querySelector('blockquote')?.focus();
    }
  }

  protected override updated(): void {
    const dialog = this.renderRoot.querySelector('dialog');
    if (dialog && !dialog.open) {
      dialog.showModal();
      dialog.querySelector<HTMLElement>('.seen')?.focus();
    }
  }

  override render(): TemplateResult | typeof nothing {
    const one = this.notices[0];
    if (!one) return nothing;
    const name = this.#name(one);
    const draft = one.data.returned_draft || '';
    const facts = [one.customer && t('with', { customer: one.customer }), one.subject, t('since', { time: timeOf(one.data.at) })];
    // Escape may close a modal dialog the second time, whatever a page says: then it opens again.
    return html`<dialog class="sheet" dir=${direction} closedby="none" aria-labelledby="heading"
      @cancel=${(event: Event) => event.preventDefault()} @close=${() => this.requestUpdate()}>
      <div class="body">
        <div class="top">
          <span class="sign" aria-hidden="true"><svg viewBox="0 0 24 24"><path d="M12 3l10 18H2z" /><path d="M12 10v5M12 18v.01" /></svg></span>
          <div role="alert">
            <h2 id="heading">${t('heading', { name })}</h2>
            <p class="facts">${facts.filter(Boolean).map((fact) => html`<span>${fact}</span>`)}</p>
            <p class="say">${t('cannot', { name })}</p>
          </div>
        </div>
        ${draft ? html`<div class="draft"><div class="draft-head"><span id="draft">${t('draft')}</span>
          <button class="btn small" type="button" @click=${() => this.#copy(draft)}>${this.copied ? t('copied') : t('copy')}</button></div>
          <blockquote tabindex="0" aria-labelledby="draft">${draft}</blockquote></div>` : nothing}
        ${this.#due(one.data.wrapup ?? {})}
        ${this.problem ? html`<p class="error-text" role="alert">${this.problem}</p>` : nothing}
      </div>
      <div class="actions">
        ${this.notices.length > 1 ? html`<span class="badge warn more">${t('more', { n: this.notices.length - 1 })}</span>` : nothing}
        <button class="btn primary seen" type="button" ?disabled=${this.busy} @click=${() => this.#acknowledge(one)}>${t('seen')}</button>
      </div>
    </dialog>`;
  }

  #due(wrapup: HubEvent['data']): TemplateResult | typeof nothing {
    if (wrapup.prompt === 'timeout') return html`<p class="due">${t('timed', { time: duration(wrapup.timeout_ms ?? 0) })}</p>`;
    if (wrapup.required) return html`<p class="due">${t('required')}</p>`;
    return wrapup.prompt === 'optional' ? html`<p class="due">${t('optional')}</p>` : nothing;
  }
}
if (!customElements.get('hub-takeover-alert')) customElements.define('hub-takeover-alert', HubTakeoverAlert);
