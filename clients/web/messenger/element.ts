/**
 * `<hub-messenger>`: the customer's side of a conversation, on the hub's own page and in any other.
 *
 *     <script type="module" src="https://hub.example/assets/messenger-element.js"></script>
 *     <hub-messenger floating queue="support"></hub-messenger>
 *
 * Attributes: `token` (a customer's identity token; without one an anonymous customer is made where the hub allows it),
 * `queue` (default `support`), `heading`, `hub` (address of the hub; default: where the script came from), `floating` (a
 * button in the corner that opens the chat; without it the element fills its place). Property `getToken`: an async function,
 * asked for a token at each connect; it may be set at any time.
 */

import { LitElement, html, nothing, unsafeCSS, type TemplateResult } from 'lit';
import { live } from 'lit/directives/live.js';
import { ConversationStore, HubConnection, HubError, HubFiles, randomId, type Attachment, type HubEvent, type Message } from '../sdk/hub.ts';
import { Account, call, claimsOf, socketUrl } from '../shared/auth.ts';
import { direction, locale, timeOf } from '../shared/i18n.ts';
import { Tray, attachButton, takesFiles, trayView, whyRefused } from '../shared/tray.ts';
import { attachment, icon, initials } from '../shared/ui.ts';
import parts from '../shared/parts.css?text';
import talk from '../shared/talk.css?text';
import tokens from '../shared/tokens.css?text';
import tray from '../shared/tray.css?text';
import own from './element.css?text';
import { t } from './words.ts';

/** Storage that outlives the tab; where a browser forbids it, the tab's own. */
function browserStorage(): Storage {
  try {
    localStorage.getItem('');
    return localStorage;
  } catch {
    return sessionStorage;
  }
}

const TYPING_AGAIN_MS = 3_000;
const GROUP_MS = 120_000;
/** After hello, a conversation that exists is told at once; silence for this long means that there is none yet. */
const SNAPSHOT_MS = 700;

interface Outgoing {
  id: string;
  text: string;
  attachments: Attachment[];
  problem: string;
}

type Phase = 'idle' | 'opening' | 'form' | 'talk';

export class HubMessenger extends LitElement {
  static override styles = [unsafeCSS(tokens), unsafeCSS(parts), unsafeCSS(talk), unsafeCSS(tray), unsafeCSS(own)];
  static override properties = {
    token: {},
    queue: {},
    heading: {},
    hub: {},
    floating: { type: Boolean, reflect: true },
    shown: { state: true },
    phase: { state: true },
    tick: { state: true },
    problem: { state: true },
    asking: { state: true },
  };
  declare token: string;
  declare queue: string;
  declare heading: string;
  declare hub: string;
  declare floating: boolean;
  declare shown: boolean;
  declare phase: Phase;
  declare tick: number;
  declare problem: string;
  declare asking: boolean;
  #ask: (() => Promise<string>) | null = null;
  /** What it answered last. */
  #asked = '';
  #account = new Account('messenger');
  /** An anonymous customer's: they come back by it in another tab, or after closing this one. */
  #guest = new Account('messenger.guest', browserStorage());
  #line: HubConnection | null = null;
  #store: ConversationStore | null = null;
  #outgoing: Outgoing[] = [];
  #files: HubFiles | null = null;
  #tray: Tray | null = null;
  #allOlder = false;
  #draft = '';
  #typedAt = 0;
  #unread = 0;
  #receipted = new Map<string, string>();
  #snapshotTimer = 0;
  #clock = 0;
  #follow = true;

  constructor() {
    super();
    // What the page has set before this script came would hide the accessor below.
    this.#ask = (Object.getOwnPropertyDescriptor(this, 'getToken')?.value as (() => Promise<string>) | undefined) ?? null;
    Reflect.deleteProperty(this, 'getToken');
    this.token = '';
    this.queue = 'support';
    this.heading = '';
    this.hub = '';
    this.floating = false;
    this.shown = false;
    this.phase = 'idle';
    this.tick = 0;
    this.problem = '';
    this.asking = false;
  }

  get getToken(): (() => Promise<string>) | null {
    return this.#ask;
  }

  /** May be set before this script has come, and after: an anonymous conversation gives way to the customer's own. */
  set getToken(ask: (() => Promise<string>) | null) {
    this.#ask = ask;
    if (ask && this.isConnected) this.#reopen();
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#clock = setInterval(() => this.tick++, 2000) as unknown as number;
    document.addEventListener('visibilitychange', this.#seen);
    if (this.#kept()) this.#open();
    else this.phase = 'form';
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.#clock);
    document.removeEventListener('visibilitychange', this.#seen);
    this.#line?.close();
    this.#line = null;
  }

  /** Where the hub is. */
  get #base(): string {
    return new URL(this.hub || import.meta.url, location.href).origin;
  }

  get #visible(): boolean {
    return (!this.floating || this.shown) && document.visibilityState === 'visible';
  }

  #kept(): boolean {
    return Boolean(this.token || this.getToken || this.#account.token || this.#guest.token);
  }

  // -- the connection -------------------------------------------------------------------------------------------------------

  /** The identity token: the page's, the one of the address, or the anonymous one of this browser. */
  async #identity(): Promise<string> {
    if (this.#ask) this.#asked = await this.#ask();
    const token = this.#asked || this.token || this.#account.token || this.#guest.token;
    if (!token) throw new HubError('unauthenticated', 'There is no token.');
    return token;
  }

  /** What hello takes: a ticket on the hub's own pages; elsewhere the token itself, over the socket alone. */
  #ticket = async (): Promise<string> => {
    const token = await this.#identity();
    if (this.#base !== location.origin) return token;
    const answer = await call('/v1/tickets', { method: 'POST', headers: { authorization: `Bearer ${token}` } });
    return answer.ticket;
  };

  /** Connect as somebody else than before. */
  #reopen(): void {
    this.#line?.close();
    this.#store = null;
    this.#outgoing = [];
    this.#tray = null;
    this.#allOlder = false;
    this.#receipted.clear();
    this.#open();
  }

  #open(): void {
    this.phase = 'opening';
    this.problem = '';
    const line = new HubConnection({ url: socketUrl('customer', this.#base), getToken: this.#ticket, storageKey: this.#account.sessionKey });
    this.#line = line;
    line.addEventListener('state', () => this.#state());
    line.addEventListener('session', () => this.#greeted());
    line.addEventListener('event', (event) => this.#take((event as CustomEvent<HubEvent>).detail));
    line.connect();
  }

  #greeted(): void {
    clearTimeout(this.#snapshotTimer);
    const empty = () => {
      if (!this.#store && this.phase === 'opening') this.phase = 'form';
    };
    this.#snapshotTimer = setTimeout(empty, SNAPSHOT_MS) as unknown as number;
    this.#told.splice(0).forEach((tell) => tell());
  }
  #told: (() => void)[] = [];

  #state(): void {
    const line = this.#line;
    if (line?.state === 'stopped' && ['unauthenticated', 'not_permitted'].includes(line.reason)) this.#startOver(t('expired'));
    this.tick++;
  }

  /** Forget an anonymous conversation and show the form. */
  #startOver(problem = ''): void {
    void this.#line?.signOut();
    this.#line = null;
    this.#store = null;
    this.#outgoing = [];
    this.#tray = null;
    this.#allOlder = false;
    this.#account.drop();
    this.#guest.drop();
    this.#receipted.clear();
    this.phase = 'form';
    this.problem = problem;
  }

  #take(event: HubEvent): void {
    if (!event.conversation_id) return;
    this.#store ??= new ConversationStore(event.conversation_id);
    if (!this.#store.apply(event)) return;
    this.phase = 'talk';
    this.#tray ??= this.#newTray();
    if (event.event === 'message.created') this.#said(event.data);
    this.#seen();
    this.tick++;
  }

  #newTray(): Tray {
    this.#files = new HubFiles(this.#base, async () => ({ authorization: `Bearer ${await this.#identity()}` }));
    const tray = new Tray(this.#files, null);
    tray.addEventListener('change', () => this.tick++);
    return tray;
  }

  #said(data: HubEvent['data']): void {
    if (data.own === false) {
      if (!this.#visible) this.#unread++;
      return;
    }
    // The event may come before the answer to the command: what is in the transcript is no longer on its way.
    const arrived = this.#outgoing.findIndex((one) => one.text === data.text && one.attachments.length === data.attachments.length && !one.problem);
    if (arrived >= 0) this.#outgoing.splice(arrived, 1);
  }

  /** Tell that messages arrived, or were seen. */
  #seen = (): void => {
    const status = this.#visible ? 'read' : 'delivered';
    if (this.#visible) this.#unread = 0;
    for (const one of this.#store?.messages ?? []) {
      const known = this.#receipted.get(one.message_id) ?? one.status;
      if (one.own !== false || known === status || known === 'read') continue;
      this.#receipted.set(one.message_id, status);
      this.#line?.command('receipt.send', { message_id: one.message_id, status }).catch(() => undefined);
    }
    this.tick++;
  };

  // -- what the customer does ---------------------------------------------------------------------------------------------------

  async #start(event: Event): Promise<void> {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    const [name, subject, text] = ['name', 'subject', 'text'].map((one) => String(fields.get(one) ?? '').trim());
    this.problem = '';
    this.phase = 'opening';
    try {
      if (!this.#kept()) await this.#becomeGuest(name!);
      if (!this.#line) {
        const greeted = new Promise<void>((resolve) => this.#told.push(resolve));
        this.#open();
        await greeted;
      }
      const started = { queue: this.queue || 'support', ...(subject ? { subject } : {}), ...(name ? { name } : {}) };
      await this.#line!.command('conversation.start', started).catch((error: HubError) => {
        if (error.code !== 'already_done') throw error; // another tab was first: it is the same conversation
      });
      if (text) this.#say(text);
    } catch (error) {
      this.problem = error instanceof HubError ? error.message : t('closed');
      if (!this.#store) this.phase = 'form';
    }
  }

  async #becomeGuest(name: string): Promise<void> {
    const body = JSON.stringify(name ? { name } : {});
    const options = { method: 'POST', body, headers: { 'content-type': 'application/json' } };
    const answer = await call(`${this.#base}/v1/guests`, options).catch((error: HubError) => {
      throw error.code === 'rate_limited' ? error : new HubError(error.code, t('closed'));
    });
    this.#guest.keep(answer.token);
  }

  #say(text: string, attachments: Attachment[] = []): void {
    const outgoing = { id: randomId('c'), text, attachments, problem: '' };
    this.#outgoing.push(outgoing);
    this.#follow = true;
    void this.#deliver(outgoing);
  }

  async #deliver(outgoing: Outgoing): Promise<void> {
    outgoing.problem = '';
    this.tick++;
    try {
      const { id, text, attachments } = outgoing;
      await this.#line!.command('message.send', { text, client_message_id: id, ...(attachments.length ? { attachments } : {}) });
      this.#outgoing = this.#outgoing.filter((one) => one !== outgoing);
    } catch (error) {
      outgoing.problem = (error as Error).message;
    }
    this.tick++;
  }

  get #sendable(): boolean {
    return !this.#tray?.busy && (this.#draft.trim() !== '' || Boolean(this.#tray?.ready));
  }

  #send(): void {
    if (!this.#sendable) return;
    const text = this.#draft.trim();
    this.#draft = '';
    this.#typing(false);
    this.#say(text, this.#tray?.take() ?? []);
    this.renderRoot.querySelector<HTMLElement>('#write')?.focus();
  }

  #write(event: Event): void {
    this.#draft = (event.target as HTMLTextAreaElement).value;
    this.#typing(this.#draft !== '');
    this.tick++;
  }

  #typing(on: boolean): void {
    const now = Date.now();
    if (on ? now - this.#typedAt < TYPING_AGAIN_MS : !this.#typedAt) return;
    this.#typedAt = on ? now : 0;
    this.#line?.typing(null, on);
  }

  async #end(): Promise<void> {
    this.asking = false;
    await this.#line?.command('conversation.end', {}).catch((error: Error) => (this.problem = error.message));
  }

  /** Messages before the first one shown; a page of another origin may not ask for them. */
  async #older(): Promise<void> {
    const store = this.#store!;
    const before = (store.messages[0] as Message & { offset?: number })?.offset;
    const path = `${this.#base}/v1/conversations/${encodeURIComponent(store.conversationId)}/transcript?limit=100&before=${before}`;
    try {
      const { entries } = await call(path, { headers: { authorization: `Bearer ${await this.#identity()}` } });
      this.#allOlder = entries.length < 100;
      this.#follow = false;
      store.prepend(entries.map((one: Message) => ({ ...one, attachments: one.attachments ?? [] })));
    } catch (error) {
      this.problem = (error as Error).message;
    }
    this.tick++;
  }

  #save = (file: Attachment): void => {
    this.problem = '';
    const failed = (error: HubError) => (this.problem = error.code === 'unknown_file' ? t('fileGone', { name: file.name }) : whyRefused(error, t));
    this.#files?.open(file.url).catch(failed);
  };

  #toggle(): void {
    this.shown = !this.shown;
    this.#follow = true;
    this.#seen();
  }

  // -- on the screen ----------------------------------------------------------------------------------------------------------------

  override render(): TemplateResult {
    if (!this.floating) return html`<section class="frame" dir=${direction} lang=${this.#lang} aria-label=${this.#heading}>${this.#inside()}</section>`;
    const unread = this.#unread ? html`<span class="badge danger count">${this.#unread}<span class="sr"> ${t('unread', { n: this.#unread })}</span></span>` : nothing;
    return html`<div dir=${direction} lang=${this.#lang}>
      ${this.shown ? html`<section class="frame" aria-label=${this.#heading}>${this.#inside()}</section>` : nothing}
      <button class="launcher" type="button" aria-expanded=${this.shown} aria-label=${t(this.shown ? 'hide' : 'open')} @click=${() => this.#toggle()}>
        ${icon(this.shown ? 'close' : 'chat')}${unread}</button></div>`;
  }

  get #lang(): string {
    return locale === 'ar-XB' ? 'en' : locale;
  }

  get #heading(): string {
    return this.heading || t('title');
  }

  #inside(): TemplateResult {
    const ended = this.#store?.ended ?? null;
    const name = this.#store?.senderName;
    const said = this.phase !== 'talk' ? t('hello') : ended !== null ? '' : name ? t('with', { name }) : t('nobody');
    return html`<header class="head">
        <span class="avatar" aria-hidden="true">${name ? initials(name) : icon('chat')}</span>
        <div class="head-text"><h1>${this.#heading}</h1><p aria-live="polite">${said}</p></div>
        ${this.phase === 'talk' && ended === null ? html`<button class="btn quiet icon" type="button" aria-label=${t('end')} title=${t('end')} @click=${() => (this.asking = true)}>${icon('out')}</button>` : nothing}
      </header>
      ${this.#connection()}
      ${this.phase === 'talk' ? this.#talk(ended) : this.phase === 'form' ? this.#form() : html`<p class="wait muted" role="status">${t('connecting')}</p>`}`;
  }

  #connection(): TemplateResult {
    const line = this.#line;
    let text = '';
    if (line?.state === 'waiting') text = t('lost');
    else if (line?.state === 'stopped') text = t(line.reason === 'elsewhere' ? 'elsewhere' : 'stopped');
    const again = line?.state === 'waiting' ? () => line.retryNow() : () => line?.connect();
    return html`<div role="status" class="line ${text ? '' : 'fine'}">${text ? html`<span>${text}</span>
      <button class="btn small" type="button" @click=${again}>${t(line?.state === 'stopped' ? 'here' : 'again')}</button>` : nothing}</div>`;
  }

  #form(): TemplateResult {
    const known = claimsOf(this.#asked || this.token || this.#account.token).name;
    return html`<form class="start" @submit=${this.#start}>
      <p class="muted">${t('lead')}</p>
      ${known ? nothing : html`<label class="field" for="name">${t('name')}<input class="input" id="name" name="name" autocomplete="name" maxlength="100" dir="auto" /></label>`}
      <label class="field" for="subject">${t('subject')}<input class="input" id="subject" name="subject" maxlength="200" dir="auto" /></label>
      <label class="field" for="text">${t('first')}<textarea class="input" id="text" name="text" rows="4" required dir="auto"></textarea></label>
      ${this.problem ? html`<p class="error-text" role="alert">${this.problem}</p>` : nothing}
      <button class="btn primary big" type="submit">${t('start')}</button>
    </form>`;
  }

  #talk(ended: string | null): TemplateResult {
    const store = this.#store!;
    const scrolled = (event: Event) => {
      const box = event.target as HTMLElement;
      this.#follow = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
    };
    const more = store.messages.length >= 50 && !this.#allOlder && this.#base === location.origin;
    const lastOwn = store.messages.filter((one) => one.own).at(-1);
    const name = store.senderName;
    return html`<div class="transcript" role="log" aria-label=${t('messages')} tabindex="0" @scroll=${scrolled}>
        ${more ? html`<button class="btn small older" type="button" @click=${() => this.#older()}>${t('older')}</button>` : nothing}
        ${store.messages.map((one, index) => this.#message(one, store.messages[index - 1], one === lastOwn))}
        ${this.#outgoing.map((one) => this.#pending(one))}
        ${store.typists().length ? html`<p class="typing muted">${name ? t('typing', { name }) : t('someoneTyping')}</p>` : nothing}
      </div>
      ${ended !== null ? this.#over() : this.asking ? this.#sure() : this.#composer()}`;
  }

  #message(one: Message, before: Message | undefined, lastOwn: boolean): TemplateResult {
    const grouped = before !== undefined && before.own === one.own && before.sender?.name === one.sender?.name && one.at - before.at < GROUP_MS;
    const name = one.own ? t('you') : one.sender?.name || t('support');
    const status = one.status && ['sent', 'delivered', 'read', 'failed'].includes(one.status) ? one.status : 'sent';
    return html`<article class="message ${one.own ? 'out mine' : 'in'} ${grouped ? 'grouped' : ''}">
      <p class="by ${grouped ? 'sr' : ''}"><b>${name}</b> <time>${timeOf(one.at)}</time></p>
      <div class="bubble">${one.text ? html`<p dir="auto">${one.text}</p>` : nothing}${one.attachments.map((file) => attachment(file, this.#save, this.#files))}</div>
      ${lastOwn ? html`<p class="receipt status-${status}">${t(status as 'sent')}</p>` : nothing}
    </article>`;
  }

  #pending(one: Outgoing): TemplateResult {
    return html`<article class="message out mine pending"><div class="bubble">${one.text ? html`<p dir="auto">${one.text}</p>` : nothing}${one.attachments.map((file) => attachment(file, this.#save, this.#files))}</div>
      ${one.problem ? html`<p class="receipt status-failed" role="alert">${t('notSent', { why: one.problem })}
        <button class="btn small" type="button" @click=${() => this.#deliver(one)}>${t('again')}</button></p>` : html`<p class="receipt">${t('sending')}</p>`}
    </article>`;
  }

  #composer(): TemplateResult {
    const keys = (event: KeyboardEvent) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    };
    const tray = this.#tray ??= this.#newTray();
    const files = takesFiles(tray);
    return html`${this.problem ? html`<p class="error-text trouble" role="alert">${this.problem}</p>` : nothing}
    <form class="write" @submit=${(event: Event) => { event.preventDefault(); this.#send(); }} @dragover=${files.over} @drop=${files.drop} @paste=${files.paste}>
      ${trayView(tray, t)}${attachButton(tray, t, 'btn quiet icon')}
      <label class="sr" for="write">${t('write')}</label>
      <textarea class="input" id="write" rows="1" dir="auto" placeholder=${t('write')} .value=${live(this.#draft)} @input=${this.#write} @keydown=${keys}></textarea>
      <button class="btn primary icon" type="submit" aria-label=${t('send')} ?disabled=${!this.#sendable}>${icon('send')}</button>
    </form>`;
  }

  #sure(): TemplateResult {
    return html`<div class="over" role="group" aria-label=${t('endSure')}><p>${t('endSure')}</p><div class="choice">
      <button class="btn" type="button" @click=${() => (this.asking = false)}>${t('no')}</button>
      <button class="btn danger" type="button" @click=${() => this.#end()}>${t('yes')}</button></div></div>`;
  }

  #over(): TemplateResult {
    const anonymous = !this.token && !this.getToken;
    return html`<div class="over" role="status"><p>${t('ended')}</p>
      ${anonymous ? html`<button class="btn primary" type="button" @click=${() => this.#startOver()}>${t('fresh')}</button>` : nothing}</div>`;
  }

  protected override willUpdate(changed: Map<PropertyKey, unknown>): void {
    if (changed.has('token') && this.token && !this.#line) this.#open(); // a property that was set before this script came
  }

  protected override updated(): void {
    const box = this.renderRoot.querySelector('.transcript');
    if (box && this.#follow) box.scrollTop = box.scrollHeight;
  }
}
if (!customElements.get('hub-messenger')) customElements.define('hub-messenger', HubMessenger);
