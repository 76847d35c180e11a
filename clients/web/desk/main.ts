/** The agent desk: `<hub-desk>`. */

import { LitElement, html, nothing, type TemplateResult } from 'lit';
import { live } from 'lit/directives/live.js';
import { repeat } from 'lit/directives/repeat.js';
import { HubConnection, stateOf, type Attachment, type HubEvent, type Mark, type Message, type StateDetail } from '../sdk/hub.ts';
import { Account, socketUrl } from '../shared/auth.ts';
import { TOUCH_MS } from '../shared/session.ts';
import { ago, duration, localizeDocument, timeOf } from '../shared/i18n.ts';
import { askForNotices, canAskForNotices, chime, notice, primeSound } from '../shared/notify.ts';
import { label, panelContent } from '../shared/panel.ts';
import { attachButton, takesFiles, trayView, whyRefused } from '../shared/tray.ts';
import { applyTheme, attachment, freshness, icon, initials, languageChoice, receipt, themeButton, toast, type HubSignIn } from '../shared/ui.ts';
import '../shared/ui.ts';
import './alert-element.ts';
import type { HubTakeoverAlert } from './alert-element.ts';
import { Desk, ROWS, type Outgoing, type Talk } from './model.ts';
import { STATUSES, t } from './words.ts';

const SOUND = 'hub.desk.sound';
const GROUP_MS = 120_000;
/** How near to the end of the transcript one must be to be taken along by a new message, px. */
const NEAR_END = 80;

class HubDesk extends LitElement {
  static override properties = { tick: { state: true }, problem: { state: true }, sound: { state: true }, details: { state: true }, ending: { state: true } };
  declare tick: number;
  declare problem: string;
  declare sound: boolean;
  /** On screens without room for them: whether the panels are shown. */
  declare details: boolean;
  declare ending: Talk | null;
  #account = new Account('desk');
  #hub: HubConnection | null = null;
  #desk: Desk | null = null;
  #follow = true;
  #shown: string | null = null;

  constructor() {
    super();
    this.tick = 0;
    this.problem = '';
    this.ending = null;
    this.details = false;
    this.sound = localStorage.getItem(SOUND) !== 'off';
  }

  protected override createRenderRoot(): this {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    document.title = t('desk');
    primeSound();
    setInterval(() => this.tick++, 1000);
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible' && this.#desk?.current) this.#desk.select(this.#desk.current);
    });
    setInterval(() => this.#account.touch(), TOUCH_MS);
    if (this.#account.take()) this.#start();
    else void this.#account.find().then((found) => (found ? this.#start() : this.tick++));
  }

  #start(): void {
    this.problem = '';
    const hub = new HubConnection({ url: socketUrl('agent'), getToken: this.#account.ticket, storageKey: this.#account.sessionKey });
    const desk = new Desk(hub, this.#account);
    this.#hub = hub;
    this.#desk = desk;
    hub.addEventListener('state', (event) => this.#state((event as CustomEvent<StateDetail>).detail));
    desk.addEventListener('change', () => this.tick++);
    desk.addEventListener('customer-said', (event) => this.#customerSaid((event as CustomEvent).detail));
    desk.addEventListener('returned', (event) => toast(t('stale', { why: (event as CustomEvent).detail.error.message }), 'danger'));
    desk.addEventListener('wrapped-up', (event) => this.#wrappedUp((event as CustomEvent).detail));
    hub.connect();
    void this.updateComplete.then(() => {
      for (const [id, row] of Object.entries(desk.rows())) this.#alert()?.know(id, row);
      this.#alert()?.attach(hub);
    });
  }

  #alert(): HubTakeoverAlert | null {
    return this.querySelector('hub-takeover-alert');
  }

  #state(detail: StateDetail): void {
    if (detail.state === 'stopped' && ['unauthenticated', 'not_permitted'].includes(detail.reason)) {
      this.#account.drop();
      this.problem = t(detail.reason === 'unauthenticated' ? 'expired' : 'refused');
      this.#hub = this.#desk = null;
      void this.#account.findOffer().then(() => this.tick++);
    }
    this.tick++;
  }

  async #signOut(): Promise<void> {
    await this.#hub?.signOut();
    sessionStorage.removeItem(ROWS);
    this.#hub = this.#desk = null;
    this.problem = (await this.#account.end()) ? '' : t('stillSignedIn');
    this.tick++;
    await this.#account.findOffer();
    this.tick++;
  }

  #customerSaid({ talk, data }: { talk: Talk; data: HubEvent['data'] }): void {
    const away = document.visibilityState !== 'visible' || this.#desk?.current !== talk.id;
    if (!away) return;
    if (this.sound) chime('message');
    if (document.visibilityState !== 'visible') notice(t('newMessage', { name: this.#customerName(talk) }), data.text, talk.id);
  }

  #wrappedUp({ talk, timedOut }: { talk: Talk; timedOut: boolean }): void {
    toast(t(timedOut ? 'wrapupOver' : 'wrapupDone'), timedOut ? 'info' : 'ok');
    if (!talk.open && !talk.returned) this.#desk?.remove(talk);
  }

  #toggleSound(): void {
    this.sound = !this.sound;
    localStorage.setItem(SOUND, this.sound ? 'on' : 'off');
  }

  #customerName(talk: Talk): string {
    return talk.customer.name || talk.customer.id || t('customer');
  }

  // -- the page -----------------------------------------------------------------------------------------------------------

  override render(): TemplateResult {
    const [hub, desk] = [this.#hub, this.#desk];
    if (!hub || !desk) return this.#signIn();
    const talk = desk.current ? desk.talks.get(desk.current) : undefined;
    return html`<a class="skip" href="#talk">${t('skip')}</a>
      <header class="bar">
        <span class="brand"><img src="/assets/icon.svg" alt="" width="24" height="24" /><span>${t('desk')}</span></span>
        <span class="fresh-slot">${freshness(hub)}</span>
        <span class="grow"></span>
        ${this.#tools(hub)}
      </header>
      ${hub.state === 'stopped' ? this.#stopped(hub) : nothing}
      <div class="desk ${talk ? 'has-talk' : ''} ${talk && this.details ? 'show-panels' : ''} ${hub.state === 'waiting' ? 'is-stale' : ''}">
        <nav class="list" aria-label=${t('conversations')}>${this.#list(desk)}</nav>
        <main class="talk" id="talk" tabindex="-1">${talk ? this.#talk(desk, talk) : this.#nothingChosen(desk)}</main>
        ${talk ? this.#panels(talk) : nothing}
      </div>
      <hub-takeover-alert .sound=${this.sound}></hub-takeover-alert>
      ${this.ending ? this.#endDialog(desk, this.ending) : nothing}`;
  }

  #signIn(): TemplateResult {
    return html`<hub-sign-in .account=${this.#account} .offered=${this.#account.offered} .roles=${['agent']} .heading=${t('desk')} .lead=${t('lead')}
      .problem=${this.problem} @signed-in=${() => this.#start()}></hub-sign-in>`;
  }

  #tools(hub: HubConnection): TemplateResult {
    const choose = (event: Event) => {
      const status = (event.target as HTMLSelectElement).value;
      hub.command('status.set', { status }).catch((error: Error) => toast(error.message, 'danger')).finally(() => this.tick++);
    };
    const ask = () => void askForNotices().finally(() => this.tick++);
    return html`<label class="status"><span class="sr">${t('status')}</span>
        <span class="dot ${hub.status ?? 'offline'}" aria-hidden="true"></span>
        <select class="select" .value=${live(hub.status ?? 'offline')} @change=${choose} ?disabled=${hub.state !== 'live'}>
          ${STATUSES.map((one) => html`<option value=${one} ?selected=${one === (hub.status ?? 'offline')}>${t(one)}</option>`)}
        </select></label>
      ${canAskForNotices() ? html`<button class="btn small wide-only" type="button" @click=${ask}>${t('notices')}</button>` : nothing}
      <button class="btn quiet icon" type="button" aria-pressed=${this.sound} aria-label=${t('sounds')} title=${t('sounds')} @click=${this.#toggleSound}>${icon(this.sound ? 'bell' : 'bellOff')}</button>
      <span class="wide-only">${languageChoice()}</span>${themeButton()}
      <span class="me wide-only"><span class="avatar" aria-hidden="true">${initials(hub.user?.name)}</span>${hub.user?.name ?? ''}</span>
      <button class="btn quiet icon" type="button" aria-label=${t('signOut')} title=${t('signOut')} @click=${() => this.#signOut()}>${icon('out')}</button>`;
  }

  #stopped(hub: HubConnection): TemplateResult | typeof nothing {
    if (hub.reason !== 'elsewhere') return nothing;
    return html`<div class="banner" role="alert"><span>${t('elsewhere')}</span>
      <button class="btn small" type="button" @click=${() => hub.connect()}>${t('here')}</button></div>`;
  }

  // -- the list -------------------------------------------------------------------------------------------------------------

  #list(desk: Desk): TemplateResult {
    const talks = desk.list;
    if (!talks.length) {
      return html`<div class="empty">${icon('inbox')}<b>${t('none')}</b><span>${t('noneHint')}</span></div>`;
    }
    return html`<h2 class="list-head">${t('conversations')} <span class="badge">${talks.length}</span></h2>
      <ul>${repeat(talks, (talk) => talk.id, (talk) => this.#entry(desk, talk))}</ul>`;
  }

  #entry(desk: Desk, talk: Talk): TemplateResult {
    const { row } = talk.store;
    const last = talk.store.messages.at(-1);
    const current = desk.current === talk.id;
    const open = () => {
      desk.select(talk.id);
      this.#follow = true;
    };
    return html`<li><button type="button" class="entry ${talk.open ? '' : 'over'}" aria-current=${current ? 'true' : 'false'} @click=${open}>
      <span class="avatar" aria-hidden="true">${initials(this.#customerName(talk))}</span>
      <span class="entry-text">
        <span class="entry-top"><b>${this.#customerName(talk)}</b><time>${last ? timeOf(last.at) : ''}</time></span>
        <span class="entry-sub">${row.subject || t((row.channel ?? 'web') as 'web')}</span>
        <span class="entry-last">${last ? last.text || last.attachments[0]?.name : t('noMessages')}</span>
        <span class="entry-marks">${this.#badges(talk)}</span>
      </span>
    </button></li>`;
  }

  #badges(talk: Talk): TemplateResult {
    const unread = talk.unread ? html`<span class="badge accent">${talk.unread}<span class="sr"> ${t('unread', { n: talk.unread })}</span></span>` : nothing;
    if (talk.wrapup) return html`<span class="badge warn">${t('stateWrapup')}${talk.wrapup.endsAt ? html` · ${duration(talk.wrapup.endsAt - Date.now())}` : nothing}</span>${unread}`;
    if (talk.left) return html`<span class="badge danger">${t('stateLeft')}</span>`;
    if (talk.store.ended !== null) return html`<span class="badge">${t('stateEnded')}</span>`;
    const since = this.#waitingSince(talk);
    return html`${since ? html`<span class="badge ${Date.now() - since > 60_000 ? 'warn' : 'ok'}">${t('yourTurn')} · ${duration(Date.now() - since)}</span>` : nothing}${unread}`;
  }

  /** Since when the customer waits for an answer; null where it is their turn. */
  #waitingSince(talk: Talk): number | null {
    let since: number | null = null;
    for (let index = talk.store.messages.length - 1; index >= 0; index--) {
      const one = talk.store.messages[index]!;
      if (one.purpose !== 'customer') break;
      since = one.at;
    }
    return since;
  }

  // -- one conversation -------------------------------------------------------------------------------------------------------

  #nothingChosen(desk: Desk): TemplateResult {
    const empty = !desk.list.length;
    return html`<div class="empty">${icon('chat')}<h1>${t(empty ? 'none' : 'choose')}</h1><span>${t(empty ? 'noneHint' : 'chooseHint')}</span></div>`;
  }

  #talk(desk: Desk, talk: Talk): TemplateResult {
    const { row } = talk.store;
    const about = [row.subject, row.queue && label(row.queue), row.channel && t(row.channel as 'web')].filter(Boolean).join(' · ');
    return html`<div class="talk-head">
        <button class="btn quiet icon back" type="button" aria-label=${t('back')} @click=${() => desk.select(null)}>${icon('back')}</button>
        <div class="talk-title"><h1>${this.#customerName(talk)}</h1><p class="muted">${about}</p></div>
        <button class="btn quiet panels-toggle" type="button" aria-expanded=${this.details} @click=${() => (this.details = !this.details)}>${t('panels')}</button>
        ${talk.open ? html`<button class="btn" type="button" @click=${() => (this.ending = talk)}>${t('end')}</button>` : nothing}
      </div>
      ${this.#transcript(desk, talk)}
      <div class="foot">${talk.returned ? this.#returned(talk) : nothing}${this.#foot(desk, talk)}</div>`;
  }

  #transcript(desk: Desk, talk: Talk): TemplateResult {
    const { store } = talk;
    const items = [...store.messages.map((one) => ({ at: one.at, one })), ...store.marks.map((mark) => ({ at: mark.at, mark }))].sort((a, b) => a.at - b.at);
    const typists = store.typists().map((id) => store.people.get(id)).filter((one) => one?.user_id !== this.#hub?.user?.id || one?.purpose === 'customer');
    const scrolled = (event: Event) => {
      const box = event.target as HTMLElement;
      this.#follow = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
    };
    let before: Message | null = null;
    const rows = items.map((item) => {
      if ('mark' in item) {
        before = null;
        return this.#mark(talk, item.mark!);
      }
      const shown = this.#message(desk, talk, item.one, before);
      before = item.one;
      return shown;
    });
    const more = store.messages.length >= 50 && !talk.allOlder;
    return html`<div class="transcript" role="log" aria-label=${t('messages')} tabindex="0" @scroll=${scrolled}>
      ${more ? html`<button class="btn small older" type="button" @click=${() => desk.older(talk).catch((error: Error) => toast(error.message, 'danger'))}>${t('older')}</button>` : nothing}
      ${rows.length ? rows : html`<p class="muted none">${t('noMessages')}</p>`}
      ${talk.outgoing.map((one) => this.#outgoing(desk, talk, one))}
      ${typists.map((one) => html`<p class="typing muted">${t('typing', { name: one?.name || this.#customerName(talk) })}</p>`)}
    </div>`;
  }

  #message(desk: Desk, talk: Talk, one: Message, before: Message | null): TemplateResult {
    const customer = one.purpose === 'customer';
    const person = talk.store.people.get(one.participant_id ?? '');
    const mine = !customer && person?.user_id === this.#hub?.user?.id && person !== undefined;
    const name = mine ? t('you') : customer ? this.#customerName(talk) : one.name || person?.name || t((one.purpose ?? 'someone') as 'agent');
    const grouped = before !== null && before.participant_id === one.participant_id && before.purpose === one.purpose && one.at - before.at < GROUP_MS;
    const side = customer ? 'in' : mine ? 'out mine' : 'out';
    const state = stateOf(one);
    return html`<article class="message ${side} ${one.purpose ?? ''} ${grouped ? 'grouped' : ''}">
      <p class="by ${grouped ? 'sr' : ''}"><b>${name}</b>${one.purpose === 'bot' ? html` <span class="badge">${t('bot')}</span>` : nothing} <time>${timeOf(one.at)}</time></p>
      <div class="bubble">${one.text ? html`<p dir="auto">${one.text}</p>` : nothing}${one.attachments.map((file) => attachment(file, this.#save, this.#desk?.files))}</div>
      ${one.edited || state ? html`<p class="receipt">${one.edited ? t('edited') : nothing} ${state ? receipt(state, one.reason) : nothing}</p>` : nothing}
    </article>`;
  }

  #save = (file: Attachment): void => {
    this.#desk?.files.open(file.url).catch((error) => toast(error.code === 'unknown_file' ? t('fileGone', { name: file.name }) : whyRefused(error, t), 'danger'));
  };

  #outgoing(desk: Desk, talk: Talk, one: Outgoing): TemplateResult {
    return html`<article class="message out mine pending">
      <div class="bubble">${one.text ? html`<p dir="auto">${one.text}</p>` : nothing}${one.attachments.map((file) => attachment(file, this.#save, this.#desk?.files))}</div>
      ${one.problem
        ? html`<p class="receipt status-failed" role="alert">${t('notSent', { why: one.problem })}
            <button class="btn small" type="button" @click=${() => desk.deliver(talk, one)}>${t('again')}</button>
            <button class="btn small quiet" type="button" @click=${() => desk.discard(talk, one)}>${t('discard')}</button></p>`
        : html`<p class="receipt">${icon('clock')} ${t('sending')}</p>`}
    </article>`;
  }

  #mark(talk: Talk, mark: Mark): TemplateResult | typeof nothing {
    const name = mark.data.participant?.name || t((mark.data.participant?.purpose ?? 'someone') as 'agent');
    const mine = mark.data.participant?.user_id === this.#hub?.user?.id;
    const text = {
      connected: t('joined', { name }),
      disconnected: mine ? '' : t('left', { name }),
      transferred: t('transferred', { queue: label(mark.data.queue ?? '') }),
      takeover: '',
      ended: t('ended'),
    }[mark.kind];
    return text ? html`<p class="mark"><span>${text} · ${timeOf(mark.at)}</span></p>` : nothing;
  }

  // -- below the transcript ------------------------------------------------------------------------------------------------------

  #foot(desk: Desk, talk: Talk): TemplateResult {
    if (talk.open) return this.#composer(desk, talk);
    const why = talk.left === 'takeover' && talk.takenOverBy ? t('takenOver', { name: talk.takenOverBy }) : talk.left ? t('leftSelf') : t('ended');
    return html`<p class="over-note">${why}</p>
      ${talk.wrapup ? this.#wrapup(desk, talk) : html`<div class="foot-row"><button class="btn" type="button" @click=${() => desk.remove(talk)}>${t('close')}</button></div>`}`;
  }

  #composer(desk: Desk, talk: Talk): TemplateResult {
    const own = desk.own(talk);
    const foreign = talk.store.row.owner && own && talk.store.row.owner !== own && talk.store.participants.has(talk.store.row.owner);
    const keys = (event: KeyboardEvent) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send(desk, talk);
    };
    const write = (event: Event) => desk.write(talk, (event.target as HTMLTextAreaElement).value);
    const files = takesFiles(talk.tray);
    return html`${foreign ? html`<p class="over-note">${t('otherOwner')}</p>` : nothing}
      <form class="composer" @submit=${(event: Event) => { event.preventDefault(); this.#send(desk, talk); }} @dragover=${files.over} @drop=${files.drop} @paste=${files.paste}>
        ${trayView(talk.tray, t)}${attachButton(talk.tray, t, 'btn icon attach')}
        <label class="sr" for="composer">${t('composer', { name: this.#customerName(talk) })}</label>
        <textarea class="input" id="composer" rows="2" dir="auto" aria-describedby="composer-hint" .value=${live(talk.draft)}
          placeholder=${t('composer', { name: this.#customerName(talk) })} @input=${write} @keydown=${keys}></textarea>
        <button class="btn primary" type="submit" ?disabled=${!talk.sendable}>${icon('send')}${t('send')}</button>
        <span class="muted hint" id="composer-hint">${t('composerHint')}</span>
      </form>`;
  }

  #send(desk: Desk, talk: Talk): void {
    this.#follow = true;
    desk.send(talk);
    this.querySelector<HTMLElement>('#composer')?.focus();
  }

  #returned(talk: Talk): TemplateResult {
    const copy = async () => {
      await navigator.clipboard.writeText(talk.returned).then(() => toast(t('copied'), 'ok'), () => undefined);
    };
    const discard = () => {
      talk.returned = '';
      this.tick++;
    };
    return html`<section class="returned" aria-label=${t('returned')}><b>${t('returned')}</b><p dir="auto">${talk.returned}</p>
      <div class="foot-row"><button class="btn small quiet" type="button" @click=${discard}>${t('discard')}</button>
      <button class="btn small" type="button" @click=${copy}>${t('copy')}</button></div></section>`;
  }

  #wrapup(desk: Desk, talk: Talk): TemplateResult {
    const { codes, endsAt, prompt } = talk.wrapup!;
    const left = endsAt === null ? null : endsAt - Date.now();
    const submit = async (event: Event) => {
      event.preventDefault();
      const fields = new FormData(event.target as HTMLFormElement);
      const button = (event.target as HTMLFormElement).querySelector('button')!;
      button.disabled = true;
      try {
        await desk.wrapUp(talk, String(fields.get('code')).trim(), String(fields.get('notes')).trim());
      } catch (error) {
        toast((error as Error).message, 'danger');
      } finally {
        button.disabled = false;
      }
    };
    const code = codes.length
      ? html`<select class="input" id="code" name="code" required><option value="">${t('chooseCode')}</option>${codes.map((one) => html`<option>${one}</option>`)}</select>`
      : html`<input class="input" id="code" name="code" required maxlength="256" aria-describedby="no-codes" /><small class="muted" id="no-codes">${t('noCodes')}</small>`;
    return html`<form class="wrapup" aria-labelledby="wrapup-head" @submit=${submit}>
      <div class="wrapup-head"><h2 id="wrapup-head">${t(prompt === 'optional' ? 'wrapupOptional' : 'wrapup')}</h2>
        ${left === null ? nothing : html`<span class="badge ${left < 10_000 ? 'danger' : 'warn'}" role="timer">${t('left_', { time: duration(left) })}</span>`}</div>
      <div class="wrapup-fields"><label class="field" for="code">${t('code')}${code}</label>
        <label class="field" for="notes">${t('notes')}<textarea class="input" id="notes" name="notes" rows="2" dir="auto"></textarea></label></div>
      <div class="foot-row"><button class="btn primary" type="submit">${t('submit')}</button></div>
    </form>`;
  }

  #panels(talk: Talk): TemplateResult {
    const panels = [...talk.store.panels];
    return html`<aside class="panels" aria-label=${t('panels')} tabindex="0"><h2>${t('panels')}</h2>
      ${panels.length ? panels.map(([name, content]) => html`<section class="card"><h3>${label(name)}</h3>${panelContent(content)}</section>`) : html`<p class="muted">${t('noPanels')}</p>`}
      ${talk.store.row.started_at ? html`<p class="muted small">${t('started', { ago: ago(talk.store.row.started_at) })}</p>` : nothing}
    </aside>`;
  }

  #endDialog(desk: Desk, talk: Talk): TemplateResult {
    const close = () => (this.ending = null);
    const end = () => {
      close();
      desk.end(talk).catch((error: Error) => toast(error.message, 'danger'));
    };
    return html`<dialog class="sheet" id="end" aria-labelledby="end-head" @close=${close}>
      <div class="body"><h2 id="end-head">${t('endSure')}</h2><p class="muted">${t('endSureText')}</p></div>
      <div class="actions"><button class="btn" type="button" @click=${close}>${t('cancel')}</button>
        <button class="btn danger" type="button" @click=${end}>${t('end')}</button></div></dialog>`;
  }

  protected override updated(): void {
    const dialog = this.querySelector<HTMLDialogElement>('dialog#end');
    if (dialog && !dialog.open) dialog.showModal();
    const box = this.querySelector('.transcript');
    const current = this.#desk?.current ?? null;
    if (current !== this.#shown) {
      this.#shown = current;
      this.#follow = true;
      this.querySelector<HTMLElement>('#composer')?.focus();
    }
    if (box && this.#follow) box.scrollTop = box.scrollHeight;
    const unread = this.#desk?.unread ?? 0;
    const title = unread ? `(${unread}) ${t('desk')}` : t('desk');
    if (!this.#alert()?.notices.length && document.title !== title) document.title = title;
  }
}

localizeDocument();
applyTheme();
customElements.define('hub-desk', HubDesk);
