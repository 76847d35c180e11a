/**
 * What an agent's desk knows: the conversations one is in or owes a wrap-up for, drafts, messages on their way. Pure folding
 * of the hub's events plus the few commands an agent has; the view listens to `change`.
 */

import { ConversationStore, HubError, HubFiles, randomId, type Attachment, type HubConnection, type HubEvent, type Json, type Message } from '../sdk/hub.ts';
import type { Account } from '../shared/auth.ts';
import { Tray } from '../shared/tray.ts';

const DRAFT_MS = 500;
export const ROWS = 'hub.desk.rows';
const TYPING_AGAIN_MS = 3_000;

export interface Wrapup {
  prompt: string;
  codes: string[];
  /** When it ends by itself, Unix ms of this machine; null: when it is submitted. */
  endsAt: number | null;
}

/** A message that isn't in the transcript yet. */
export interface Outgoing {
  id: string;
  text: string;
  attachments: Attachment[];
  problem: string;
}

export class Talk {
  readonly store: ConversationStore;
  unread = 0;
  draft = '';
  outgoing: Outgoing[] = [];
  wrapup: Wrapup | null = null;
  /** How one's own part ended; null while it lasts. */
  left: string | null = null;
  takenOverBy = '';
  /** Text that came back unsent. */
  returned = '';
  allOlder = false;
  draftTimer = 0;
  typedAt = 0;

  readonly tray: Tray;

  constructor(
    readonly id: string,
    files: HubFiles,
  ) {
    this.store = new ConversationStore(id);
    this.tray = new Tray(files, id);
  }

  /** True where there is something to send, and nothing to wait for. */
  get sendable(): boolean {
    return this.open && !this.tray.busy && (this.draft.trim() !== '' || this.tray.ready);
  }

  /** True while one may write. */
  get open(): boolean {
    return this.left === null && this.store.ended === null;
  }

  get customer(): Json {
    return this.store.row.customer ?? {};
  }
}

export class Desk extends EventTarget {
  talks = new Map<string, Talk>();
  readonly files: HubFiles;
  current: string | null = null;

  constructor(
    readonly hub: HubConnection,
    readonly account: Account,
  ) {
    super();
    this.files = new HubFiles(location.origin, () => account.credentials);
    hub.addEventListener('event', (event) => this.#take((event as CustomEvent<HubEvent>).detail));
    hub.addEventListener('session', (event) => {
      // A new session tells everything again; drafts of this page stay.
      if (!(event as CustomEvent).detail.resumed) for (const talk of this.talks.values()) if (talk.open) this.talks.delete(talk.id);
      this.#changed();
    });
  }

  /** Conversations in the order of the list: the open ones whose customer waits longest first, the finished last. */
  get list(): Talk[] {
    const rank = (talk: Talk) => (talk.wrapup ? 1 : talk.open ? 0 : 2);
    const since = (talk: Talk) => talk.store.messages.at(-1)?.at ?? talk.store.row.started_at ?? 0;
    return [...this.talks.values()].sort((a, b) => rank(a) - rank(b) || since(b) - since(a));
  }

  get unread(): number {
    return [...this.talks.values()].reduce((sum, talk) => sum + talk.unread, 0);
  }

  /** One's own participant in a conversation, if any. */
  own(talk: Talk): string | null {
    const me = this.hub.user?.id;
    return [...talk.store.participants.values()].find((one) => one.user_id === me)?.participant_id ?? null;
  }

  select(id: string | null): void {
    this.current = id;
    const talk = id && this.talks.get(id);
    if (talk) talk.unread = 0;
    this.#changed();
  }

  /** Take a finished conversation from the list. */
  remove(talk: Talk): void {
    this.talks.delete(talk.id);
    const { [talk.id]: _, ...rows } = this.rows();
    sessionStorage.setItem(ROWS, JSON.stringify(rows));
    if (this.current === talk.id) this.current = null;
    this.#changed();
  }

  // -- commands ---------------------------------------------------------------------------------------------------------

  /** What is being written: kept at the hub shortly after, so that a takeover gives it back. */
  write(talk: Talk, text: string): void {
    talk.draft = text;
    clearTimeout(talk.draftTimer);
    talk.draftTimer = setTimeout(() => this.#keepDraft(talk), DRAFT_MS) as unknown as number;
    const now = Date.now();
    if (text && now - talk.typedAt > TYPING_AGAIN_MS) {
      talk.typedAt = now;
      this.hub.typing(talk.id, true);
    } else if (!text && talk.typedAt) this.#stopTyping(talk);
    this.#changed();
  }

  #keepDraft(talk: Talk): void {
    clearTimeout(talk.draftTimer);
    if (talk.open) this.hub.command('draft.update', { conversation_id: talk.id, text: talk.draft }).catch(() => undefined);
  }

  #stopTyping(talk: Talk): void {
    talk.typedAt = 0;
    this.hub.typing(talk.id, false);
  }

  send(talk: Talk): void {
    if (!talk.sendable) return;
    const outgoing = { id: randomId('c'), text: talk.draft.trim(), attachments: talk.tray.take(), problem: '' };
    talk.outgoing.push(outgoing);
    talk.draft = '';
    talk.returned = '';
    talk.typedAt = 0;
    void this.deliver(talk, outgoing);
    this.#keepDraft(talk);
  }

  /** Bring a message to the hub; the same again is the same message. */
  async deliver(talk: Talk, outgoing: Outgoing): Promise<void> {
    outgoing.problem = '';
    this.#changed();
    try {
      const { id, text, attachments } = outgoing;
      const files = attachments.length ? { attachments } : {};
      await this.hub.command('message.send', { conversation_id: talk.id, text, client_message_id: id, ...files });
      this.discard(talk, outgoing);
    } catch (error) {
      this.#undelivered(talk, outgoing, error as HubError);
    }
  }

  #undelivered(talk: Talk, outgoing: Outgoing, error: HubError): void {
    if (error.code === 'stale_owner' || error.code === 'conversation_ended') {
      const text = error.details.draft ?? outgoing.text;
      talk.returned = [talk.returned, text].filter(Boolean).join('\n\n');
      this.discard(talk, outgoing);
      this.dispatchEvent(new CustomEvent('returned', { detail: { talk, error } }));
    } else {
      outgoing.problem = error.message;
      this.#changed();
    }
  }

  discard(talk: Talk, outgoing: Outgoing): void {
    talk.outgoing = talk.outgoing.filter((one) => one !== outgoing);
    this.#changed();
  }

  end(talk: Talk): Promise<void> {
    return this.hub.command('conversation.end', { conversation_id: talk.id });
  }

  async wrapUp(talk: Talk, code: string, notes: string): Promise<void> {
    try {
      await this.hub.command('wrapup.submit', { conversation_id: talk.id, code, ...(notes ? { notes } : {}) });
    } catch (error) {
      if ((error as HubError).code !== 'already_done') throw error;
    }
    this.#wrappedUp(talk);
  }

  async older(talk: Talk): Promise<void> {
    const before = (talk.store.messages[0] as (Message & { offset?: number }) | undefined)?.offset;
    const query = before === undefined ? '' : `?before=${before}`;
    const page = await this.account.request(`/v1/conversations/${encodeURIComponent(talk.id)}/transcript${query}`);
    const messages = page.entries.filter((one: Json) => one.kind === 'message');
    talk.allOlder = page.entries.length === 0;
    talk.store.prepend(messages);
    this.#changed();
  }

  // -- events -----------------------------------------------------------------------------------------------------------

  #take(event: HubEvent): void {
    const id = event.conversation_id;
    if (!id) return;
    const talk = this.talks.get(id) ?? this.#begin(event, id);
    if (!talk) return;
    talk.store.apply(event);
    this.#fold(talk, event);
    this.#changed();
  }

  /** A conversation appears by its snapshot; one that was taken away before a reload by what is still owed. */
  #begin(event: HubEvent, id: string): Talk | null {
    if (!['conversation.snapshot', 'stream.reset', 'wrapup.requested', 'takeover.notified'].includes(event.event)) return null;
    const talk = new Talk(id, this.files);
    talk.tray.addEventListener('change', () => this.#changed());
    this.talks.set(id, talk);
    if (event.event !== 'conversation.snapshot' && !event.data.snapshot) {
      talk.left = 'unknown';
      talk.store.row = this.rows()[id] ?? {};
      void this.older(talk).catch(() => undefined);
    }
    return talk;
  }

  /** What conversations were about: of one that was taken away the hub tells nothing after a reload. */
  rows(): Record<string, Json> {
    return JSON.parse(sessionStorage.getItem(ROWS) ?? '{}');
  }

  #fold(talk: Talk, event: HubEvent): void {
    const { data } = event;
    const id = talk.id;
    if (event.event === 'conversation.snapshot') {
      talk.left = null;
      const { customer, subject, queue, channel } = talk.store.row;
      sessionStorage.setItem(ROWS, JSON.stringify({ ...this.rows(), [id]: { customer, subject, queue, channel } }));
      if (!talk.draft && talk.store.draft) talk.draft = talk.store.draft;
    } else if (event.event === 'message.created') this.#said(talk, data);
    else if (event.event === 'participant.disconnected' && data.participant?.user_id === this.hub.user?.id) this.#out(talk, data.disconnect_type);
    else if (event.event === 'takeover.notified') {
      this.#out(talk, 'takeover');
      talk.takenOverBy = data.supervisor?.name ?? '';
      if (data.returned_draft) talk.returned = data.returned_draft;
    } else if (event.event === 'wrapup.requested') {
      talk.wrapup = { prompt: data.prompt, codes: data.codes ?? [], endsAt: this.#deadline(talk, data) };
    } else if (event.event === 'wrapup.timed_out' || event.event === 'wrapup.completed') this.#wrappedUp(talk, event.event);
  }

  #deadline(talk: Talk, data: Json): number | null {
    if (data.prompt === 'mandatory' || !data.timeout_ms) return null;
    // Told again after a reconnect, it doesn't begin again.
    return talk.wrapup?.endsAt ?? Date.now() + data.timeout_ms;
  }

  #said(talk: Talk, data: Json): void {
    const mine = data.participant_id && data.participant_id === this.own(talk);
    if (mine) {
      // The event may come before the answer to the command: what is in the transcript is no longer on its way.
      const arrived = talk.outgoing.findIndex((one) => one.text === data.text && one.attachments.length === data.attachments.length && !one.problem);
      if (arrived >= 0) talk.outgoing.splice(arrived, 1);
      return;
    }
    if (this.current !== talk.id || document.visibilityState !== 'visible') talk.unread++;
    if (data.purpose === 'customer') this.dispatchEvent(new CustomEvent('customer-said', { detail: { talk, data } }));
  }

  #out(talk: Talk, how: string): void {
    talk.left = how;
    clearTimeout(talk.draftTimer);
    if (talk.draft && !talk.returned) talk.returned = talk.draft;
    talk.draft = '';
  }

  #wrappedUp(talk: Talk, how = 'wrapup.completed'): void {
    if (!talk.wrapup) return;
    talk.wrapup = null;
    this.dispatchEvent(new CustomEvent('wrapped-up', { detail: { talk, timedOut: how === 'wrapup.timed_out' } }));
    this.#changed();
  }

  #changed(): void {
    this.dispatchEvent(new Event('change'));
  }
}
