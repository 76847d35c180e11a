/**
 * The hub's browser SDK: one socket that stays, whatever the network does.
 *
 *     HubConnection      hello, resume, heartbeats, commands that survive a reconnect, events
 *     ViewStore          rows of one subscribed view, kept up to date over reconnects
 *     ConversationStore  one conversation: a snapshot and the events since
 *     HubFiles           files of conversations: what is taken, upload with progress, open
 *
 * It speaks the wire protocol `hub.v1` and depends on nothing. A page that reloads resumes its session with what lies in
 * `storage`; cursors live in memory only, so a reloaded page gets whole snapshots and a page that merely lost its network
 * gets what it missed. Only `signOut` closes with 1000, which ends the session at the hub at once.
 */

export type State = 'connecting' | 'live' | 'catching-up' | 'waiting' | 'stopped';
export type Purpose = 'customer' | 'agent' | 'bot' | 'supervisor';
export type Json = Record<string, any>;

/** Any event of the hub; `data` depends on `event` (protocol, sections 3 and 4). Times are Unix milliseconds. */
export interface HubEvent {
  event: string;
  conversation_id?: string;
  cursor?: string;
  at?: number;
  data: Json;
}

export interface Attachment {
  url: string;
  name: string;
  mime: string;
}

/** A message as `ConversationStore` keeps it. Customers get `own` and `sender`, staff `participant_id` and `purpose`. */
export interface Message {
  message_id: string;
  participant_id?: string | null;
  purpose?: Purpose;
  name?: string | null;
  own?: boolean;
  sender?: { name: string | null };
  text: string;
  attachments: Attachment[];
  at: number;
  status?: string;
  reason?: string | null;
  edited?: boolean;
}

export interface Participant {
  participant_id: string;
  user_id?: string | null;
  name?: string | null;
  purpose: Purpose;
  state?: string;
  since?: number;
}

/** A mark in a transcript: something that happened between two messages. */
export interface Mark {
  kind: 'connected' | 'disconnected' | 'transferred' | 'takeover' | 'ended';
  at: number;
  after: number;
  data: Json;
}

/** What `getToken` and `storage` look like to the SDK. */
export interface HubOptions {
  /** `wss://host/v1/supervisor`, `/v1/agent`, `/v1/customer`. */
  url: string;
  /** A fresh ticket (or a JWT) for each connect. Throw a `HubError` that isn't retryable to stop. */
  getToken: () => Promise<string>;
  /** Where session and secret are kept over a reload; null: nowhere. Default: `sessionStorage`. */
  storage?: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> | null;
  storageKey?: string;
}

export interface StateDetail {
  state: State;
  reason: string;
  retryAt: number | null;
}

/** A refusal of the hub, or `disconnected` / `stopped` where there is no hub to ask. */
export class HubError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly retryable = false,
    readonly details: Json = {},
  ) {
    super(message);
    this.name = 'HubError';
  }

  static of(error: Json): HubError {
    return new HubError(String(error.code), String(error.message), Boolean(error.retryable), error.details ?? {});
  }
}

interface Pending {
  frame: Json;
  resolve: (ok: any) => void;
  reject: (error: HubError) => void;
  answered?: (ok: Json) => void;
  sent: boolean;
  madeAt: number;
  repeats: number;
}

const STOPPING = new Set([4400, 4403, 4409, 4413, 1009]);
/** Commands without `req`: they change nothing, or only this session. */
const PLAIN = new Set(['view.subscribe', 'view.unsubscribe']);
const BACKOFF_BASE_MS = 400;
const BACKOFF_CAP_MS = 10_000;
/** A command that never left waits this long for a connection: what was clicked minutes ago must not happen now. */
const UNSENT_MS = 20_000;
const SILENCE_GRACE_MS = 10_000;
const HELLO_MS = 8_000;
/** After a resume, this much quiet (or this long at most) means that everything missed has arrived. */
const QUIET_MS = 150;
const CATCH_UP_MS = 4_000;
const ABANDONED = 4000;

/** A random id for `req` and `client_message_id`. Works without a secure context, too. */
export function randomId(prefix = ''): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return prefix + Array.from(bytes, (one) => one.toString(16).padStart(2, '0')).join('');
}

/** One connection of one page. Events: `state`, `session`, `event`, `reset`, and each hub event by its own name. */
export class HubConnection extends EventTarget {
  state: State = 'stopped';
  reason = '';
  /** When the hub was last heard, Unix ms of this machine; 0: never. */
  lastHeard = 0;
  user: { id: string; name: string } | null = null;
  status: string | null = null;
  permissions: string[] = [];
  retryAt: number | null = null;
  /** Add to `Date.now()` to get the hub's time. */
  clockOffsetMs = 0;

  #options: Required<HubOptions>;
  #socket: WebSocket | null = null;
  #session: { session: string; secret: string } | null = null;
  #cursors = new Map<string, string>();
  #pending = new Map<number, Pending>();
  #subscriptions = new Set<string>();
  #views = new Set<ViewStore>();
  #nextId = 1;
  #attempt = 0;
  #rejectedTokens = 0;
  #heartbeatMs = 25_000;
  #retryMs: number | null = null;
  #retryTimer = 0;
  #watchTimer = 0;
  #quietTimer = 0;
  #helloAt = 0;
  #catchUpEnds = 0;
  #generation = 0;
  #wanted = false;
  #hintsOff: (() => void) | null = null;

  constructor(options: HubOptions) {
    super();
    const storage = options.storage === undefined ? globalThis.sessionStorage : options.storage;
    this.#options = { ...options, storage, storageKey: options.storageKey ?? 'hub.session' } as Required<HubOptions>;
  }

  /** Connect and stay connected. Does nothing where that is so already. */
  connect(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#attempt = 0;
    this.#rejectedTokens = 0;
    this.#session = this.#load();
    this.#listenToHints();
    void this.#open();
  }

  /** End the session at the hub: what it held is free at once. Resolves when the socket is closed, or after a second. */
  async signOut(): Promise<void> {
    const socket = this.#socket;
    this.#forget();
    const closed = new Promise<void>((resolve) => {
      if (!socket || socket.readyState === WebSocket.CLOSED) return resolve();
      socket.addEventListener('close', () => resolve(), { once: true });
      setTimeout(resolve, 1000);
    });
    this.#release(1000);
    this.#stop('signed-out');
    await closed;
  }

  /** Let go without ending the session, as a page does that goes away: it can be resumed for some seconds. */
  close(): void {
    this.#release(ABANDONED);
    this.#stop('closed');
  }

  /** Try now instead of at `retryAt`. */
  retryNow(): void {
    if (this.state === 'waiting') void this.#open();
  }

  /**
   * Carry out a command; its `ok`. Rejects with `HubError`. A changing command gets a `req` and is sent again with it after
   * a reconnect, so that it happens once; one that could not be sent for 20 s is rejected with `disconnected`.
   */
  command(cmd: string, args: Json = {}): Promise<any> {
    return this.#command(cmd, args);
  }

  /** Say that typing began or ended; best effort, never queued. */
  typing(conversationId: string | null, on: boolean): void {
    if (this.state !== 'live' && this.state !== 'catching-up') return;
    const target = conversationId === null ? {} : { conversation_id: conversationId };
    this.#send({ id: this.#nextId++, cmd: 'typing', ...target, on });
  }

  /** A view that stays subscribed over reconnects and lost sessions until its `close()`. */
  view(name: string, options: Json = {}): ViewStore {
    const store = new ViewStore(name);
    store.bind({
      subscribe: (wanted) => this.#subscribe(store, wanted),
      unsubscribe: (subscription) => this.#unsubscribe(subscription),
      gone: () => this.#views.delete(store),
    });
    this.#views.add(store);
    store.update(options);
    return store;
  }

  /** The hub's present time, Unix ms. */
  now(): number {
    return Date.now() + this.clockOffsetMs;
  }

  // -- commands ---------------------------------------------------------------------------------------------------------

  #command(cmd: string, args: Json, answered?: (ok: Json) => void): Promise<any> {
    if (!this.#wanted) return Promise.reject(new HubError('stopped', 'Not connected.', false));
    const id = this.#nextId++;
    const req = PLAIN.has(cmd) || 'req' in args ? {} : { req: randomId('r') };
    const frame = { id, cmd, ...req, ...args };
    return new Promise((resolve, reject) => {
      const pending = { frame, resolve, reject, answered, sent: false, madeAt: Date.now(), repeats: 0 };
      this.#pending.set(id, pending);
      if (this.state === 'live' || this.state === 'catching-up') this.#sendPending(pending);
    });
  }

  #sendPending(pending: Pending): void {
    if (this.#send(pending.frame)) pending.sent = true;
  }

  #send(frame: Json): boolean {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #answer(answer: Json): void {
    const pending = this.#pending.get(answer.id);
    if (!pending) return;
    if (answer.error?.code === 'store_unavailable' && pending.repeats < 4) {
      // The same `req` again is safe, whatever became of the first.
      pending.repeats++;
      setTimeout(() => this.#sendPending(pending), 250 * 2 ** pending.repeats);
      return;
    }
    this.#pending.delete(answer.id);
    if (answer.error) {
      pending.reject(HubError.of(answer.error));
      return;
    }
    if (pending.frame.cmd === 'view.subscribe') this.#subscriptions.add(answer.ok.subscription);
    if (pending.frame.cmd === 'status.set') this.status = pending.frame.status;
    pending.answered?.(answer.ok);
    pending.resolve(answer.ok);
  }

  #subscribe(store: ViewStore, options: Json): void {
    const wanted = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const version = store.version;
    // Told synchronously: the snapshot may be in the same frame as the answer.
    const told = (ok: Json) => {
      if (store.version === version && this.#views.has(store)) store.subscription = ok.subscription;
      else this.#unsubscribe(ok.subscription);
    };
    this.#command('view.subscribe', { view: store.name, ...wanted }, told).catch((error: HubError) => store.fail(error));
  }

  #unsubscribe(subscription: string): void {
    this.#subscriptions.delete(subscription);
    if (this.#wanted) this.#command('view.unsubscribe', { subscription }).catch(() => undefined);
  }

  // -- the socket -------------------------------------------------------------------------------------------------------

  async #open(): Promise<void> {
    clearTimeout(this.#retryTimer);
    const generation = ++this.#generation;
    this.#detach(ABANDONED);
    this.#retryMs = null;
    this.#to('connecting', '');
    let token: string;
    try {
      token = await this.#options.getToken();
    } catch (error) {
      if (generation !== this.#generation || !this.#wanted) return;
      if (error instanceof HubError && !error.retryable) this.#stop(error.code);
      else this.#wait('network');
      return;
    }
    if (generation !== this.#generation || !this.#wanted) return;
    const socket = new WebSocket(this.#options.url, 'hub.v1');
    this.#socket = socket;
    this.#helloAt = Date.now();
    socket.onopen = () => this.#hello(socket, token);
    socket.onmessage = (message) => this.#receive(String(message.data));
    socket.onclose = (close) => this.#closed(close.code, close.reason);
    clearInterval(this.#watchTimer);
    this.#watchTimer = setInterval(() => this.#watch(), 1000) as unknown as number;
  }

  #hello(socket: WebSocket, token: string): void {
    this.#helloId = this.#nextId++;
    const resume = this.#session && { ...this.#session, cursors: Object.fromEntries(this.#cursors) };
    socket.send(JSON.stringify({ id: this.#helloId, cmd: 'hello', token, ...(resume ? { resume } : {}) }));
  }
  #helloId = 0;

  #receive(frame: string): void {
    this.lastHeard = Date.now();
    for (const line of frame.split('\n')) {
      if (!line) continue;
      const thing = JSON.parse(line) as Json;
      if (thing.event !== undefined) this.#event(thing as HubEvent);
      else if (thing.id === this.#helloId) this.#greeted(thing);
      else this.#answer(thing);
    }
    if (this.state === 'catching-up') this.#settleSoon();
  }

  #greeted(answer: Json): void {
    if (answer.error) return; // the close that follows says what to do
    const ok = answer.ok as Json;
    const resumed = Boolean(ok.resumed);
    const first = this.user === null;
    this.#session = { session: ok.session, secret: ok.secret };
    this.#save();
    this.user = ok.user;
    this.status = ok.status ?? null;
    this.permissions = ok.permissions ?? [];
    this.#heartbeatMs = ok.heartbeat_ms ?? 25_000;
    if (ok.server_time) this.clockOffsetMs = ok.server_time - Date.now();
    this.#attempt = 0;
    this.#rejectedTokens = 0;
    if (!resumed) {
      this.#cursors.clear();
      this.#subscriptions.clear();
    }
    this.#catchUpEnds = Date.now() + CATCH_UP_MS;
    this.#to(resumed ? 'catching-up' : 'live', '');
    // Views first: a pending `view.subscribe` of theirs is among what is sent again below.
    if (!resumed) for (const view of this.#views) view.lost();
    this.dispatchEvent(new CustomEvent('session', { detail: { resumed, first } }));
    for (const pending of [...this.#pending.values()]) if (!pending.sent || !resumed || this.#repeatable(pending)) this.#sendPending(pending);
  }

  #repeatable(pending: Pending): boolean {
    return pending.frame.req !== undefined || pending.frame.cmd === 'view.subscribe';
  }

  #settleSoon(): void {
    clearTimeout(this.#quietTimer);
    const left = Math.max(0, this.#catchUpEnds - Date.now());
    this.#quietTimer = setTimeout(() => {
      if (this.state === 'catching-up') this.#to('live', '');
    }, Math.min(QUIET_MS, left)) as unknown as number;
  }

  #event(event: HubEvent): void {
    event.data ??= {};
    if (event.event === 'ping') {
      this.#send({ cmd: 'pong' });
      return;
    }
    if (event.event === 'closing') this.#retryMs = event.data.retry_ms ?? null;
    this.#track(event);
    if (event.event === 'view.snapshot' || event.event === 'view.changed') {
      const known = [...this.#views].find((view) => view.subscription === event.data.subscription);
      if (known) known.apply(event);
      // A view of this session's page before its reload: nobody looks at it any more.
      else if (!this.#subscriptions.has(event.data.subscription)) this.#unsubscribe(event.data.subscription);
    }
    this.dispatchEvent(new CustomEvent('event', { detail: event }));
    this.dispatchEvent(new CustomEvent(event.event, { detail: event }));
    if (event.event === 'stream.reset') this.dispatchEvent(new CustomEvent('reset', { detail: event }));
  }

  /** Know for each conversation up to where this page has it. */
  #track(event: HubEvent): void {
    const id = event.conversation_id;
    if (!id) return;
    const snapshot = snapshotOf(event);
    if (snapshot) this.#cursors.set(id, snapshot.cursor);
    else if (event.event === 'stream.reset') this.#cursors.delete(id);
    else if (event.cursor) this.#cursors.set(id, event.cursor);
    const mine = event.event === 'participant.disconnected' && event.data.participant?.user_id === this.user?.id;
    // What has ended is not resumed; of what was taken over the receiver is the owner now, and goes on.
    const over = event.event.endsWith('.ended') && event.data.reason !== 'taken_over';
    if (mine || over) this.#cursors.delete(id);
  }

  #closed(code: number, reason: string): void {
    this.#detach(ABANDONED);
    if (!this.#wanted) return;
    if (STOPPING.has(code)) {
      if (code === 4409) this.#forget();
      this.#stop({ 4403: 'not_permitted', 4409: 'elsewhere' }[code] ?? (reason || 'refused'));
    } else if (code === 4401 && ++this.#rejectedTokens >= 2) this.#stop('unauthenticated');
    else this.#wait(code === 4501 ? 'draining' : 'lost');
  }

  #wait(reason: string): void {
    const online = globalThis.navigator?.onLine !== false;
    const ceiling = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.#attempt++);
    const delay = this.#retryMs ?? Math.random() * ceiling;
    this.retryAt = Date.now() + delay;
    clearTimeout(this.#retryTimer);
    // Off the network too: "online" is a hint that some browsers never give.
    this.#retryTimer = setTimeout(() => void this.#open(), delay) as unknown as number;
    this.#to('waiting', online ? reason : 'offline');
    this.#expire();
  }

  #stop(reason: string): void {
    this.#wanted = false;
    this.#generation++;
    clearTimeout(this.#retryTimer);
    clearInterval(this.#watchTimer);
    this.#hintsOff?.();
    this.#hintsOff = null;
    this.#to('stopped', reason);
    for (const pending of this.#pending.values()) pending.reject(new HubError('stopped', 'The connection has ended.'));
    this.#pending.clear();
  }

  #release(code: number): void {
    this.#generation++;
    this.#detach(code);
  }

  #detach(code: number): void {
    clearInterval(this.#watchTimer);
    clearTimeout(this.#quietTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState < WebSocket.CLOSING) socket.close(code);
  }

  /** Once a second: a hub that is silent for too long is gone, whatever the browser thinks. */
  #watch(): void {
    const now = Date.now();
    const greeting = this.state === 'connecting';
    const limit = greeting ? this.#helloAt + HELLO_MS : this.lastHeard + this.#heartbeatMs + SILENCE_GRACE_MS;
    if (now > limit) {
      this.#detach(ABANDONED);
      this.#wait('silent');
    }
    this.#expire();
  }

  #expire(): void {
    const before = Date.now() - UNSENT_MS;
    for (const [id, pending] of this.#pending) {
      if (pending.sent || pending.madeAt > before || PLAIN.has(pending.frame.cmd)) continue;
      this.#pending.delete(id);
      pending.reject(new HubError('disconnected', 'There is no connection to the hub.', true));
    }
  }

  #to(state: State, reason: string): void {
    if (state !== 'waiting') this.retryAt = null;
    if (this.state === state && this.reason === reason && state !== 'waiting') return;
    this.state = state;
    this.reason = reason;
    const detail: StateDetail = { state, reason, retryAt: this.retryAt };
    this.dispatchEvent(new CustomEvent('state', { detail }));
    if (state === 'catching-up') this.#settleSoon();
  }

  // -- hints and storage --------------------------------------------------------------------------------------------------

  #listenToHints(): void {
    if (typeof window === 'undefined' || this.#hintsOff) return;
    const online = () => {
      if (this.state !== 'waiting') return;
      this.#attempt = 0;
      void this.#open();
    };
    const offline = () => {
      if (this.state === 'stopped' || this.state === 'waiting') return;
      this.#generation++;
      this.#detach(ABANDONED);
      this.#wait('offline');
    };
    const visible = () => {
      if (document.visibilityState === 'visible') online();
    };
    window.addEventListener('online', online);
    window.addEventListener('offline', offline);
    document.addEventListener('visibilitychange', visible);
    this.#hintsOff = () => {
      window.removeEventListener('online', online);
      window.removeEventListener('offline', offline);
      document.removeEventListener('visibilitychange', visible);
    };
  }

  #load(): { session: string; secret: string } | null {
    try {
      const kept = JSON.parse(this.#options.storage?.getItem(this.#options.storageKey) ?? 'null');
      return kept && typeof kept.session === 'string' && typeof kept.secret === 'string' ? kept : null;
    } catch {
      return null;
    }
  }

  #save(): void {
    try {
      this.#options.storage?.setItem(this.#options.storageKey, JSON.stringify(this.#session));
    } catch {
      // Storage may be full or forbidden: then a reload starts a new session.
    }
  }

  #forget(): void {
    this.#session = null;
    this.#cursors.clear();
    try {
      this.#options.storage?.removeItem(this.#options.storageKey);
    } catch {
      // As above.
    }
  }
}

/** The snapshot in an event, where it has one: at most one per event. */
export function snapshotOf(event: HubEvent): Json | null {
  return event.event === 'conversation.snapshot' ? event.data : (event.data.snapshot ?? null);
}

/** Which field of a view's rows names them. */
export const ROW_KEYS: Record<string, string> = {
  interactions: 'conversation_id',
  queues: 'queue',
  agents: 'user_id',
  roster: 'conversation_id',
};

interface ViewPort {
  subscribe: (options: Json) => void;
  unsubscribe: (subscription: string) => void;
  gone: () => void;
}

/**
 * The rows of one view by their id. Events: `change` with detail {`changed`: ids, `removed`: ids, `whole`: boolean} and
 * `error` with the `HubError`. `ready` is false until the first snapshot is complete; rows stay on screen meanwhile.
 */
export class ViewStore extends EventTarget {
  rows = new Map<string, Json>();
  ready = false;
  subscription: string | null = null;
  error: HubError | null = null;
  /** Counts subscriptions: an answer to an older one is not ours any more. */
  version = 0;
  #key: string;
  #options: Json = {};
  #port: ViewPort | null = null;
  #incoming: Map<string, Json> | null = null;

  constructor(readonly name: string) {
    super();
    this.#key = ROW_KEYS[name] ?? 'id';
  }

  /** Called by `HubConnection.view`. */
  bind(port: ViewPort): void {
    this.#port = port;
  }

  /** Subscribe with other options (`filter`, `sort`, `limit`); the old rows stay until the new snapshot is there. */
  update(options: Json): void {
    this.#options = options;
    this.version++;
    this.error = null;
    if (this.subscription) this.#port?.unsubscribe(this.subscription);
    this.subscription = null;
    this.#incoming = null;
    this.#port?.subscribe(options);
  }

  /** The session with the subscription in it is gone: subscribe again. Called by the connection. */
  lost(): void {
    // Where the answer was still awaited, the connection sends that command again by itself.
    if (this.subscription === null) return;
    this.subscription = null;
    this.update(this.#options);
  }

  /** The subscription was refused. Called by the connection. */
  fail(error: HubError): void {
    this.error = error;
    this.dispatchEvent(new CustomEvent('error', { detail: error }));
  }

  /** Stop; rows stay as they are. */
  close(): void {
    this.version++;
    if (this.subscription) this.#port?.unsubscribe(this.subscription);
    this.subscription = null;
    this.#port?.gone();
  }

  /** Fold one `view.snapshot` or `view.changed` of this subscription; true where it was one. */
  apply(event: HubEvent): boolean {
    if (this.subscription !== null && event.data.subscription !== this.subscription) return false;
    if (event.event === 'view.snapshot') this.#snapshot(event.data);
    else if (event.event === 'view.changed') this.#changed(event.data);
    else return false;
    return true;
  }

  #snapshot(data: Json): void {
    this.#incoming ??= new Map();
    for (const row of data.rows) this.#incoming.set(row[this.#key], row);
    if (data.more) return;
    const removed = [...this.rows.keys()].filter((id) => !this.#incoming!.has(id));
    this.rows = this.#incoming;
    this.#incoming = null;
    this.ready = true;
    this.#tell([...this.rows.keys()], removed, true);
  }

  #changed(data: Json): void {
    const rows = this.#incoming ?? this.rows;
    for (const row of data.rows) rows.set(row[this.#key], row);
    for (const id of data.removed ?? []) rows.delete(id);
    if (this.#incoming) return;
    this.#tell(data.rows.map((row: Json) => row[this.#key]), data.removed ?? [], false);
  }

  #tell(changed: string[], removed: string[], whole: boolean): void {
    this.dispatchEvent(new CustomEvent('change', { detail: { changed, removed, whole } }));
  }
}

/** How far a receipt goes: `failed` is further than `sent`, and is taken back by a delivery after all. */
const RANKS = ['sent', 'failed', 'delivered', 'read'];
const rank = (status: string | undefined): number => (status === undefined ? -1 : RANKS.indexOf(status));

/**
 * What became of a message of one's own side, as a screen shows it. `pending`: the hub has it, nobody has confirmed it yet; null
 * where there is nothing to say: the customer's, and what a platform's own desktop sent and never reports on.
 */
export function stateOf(message: Message): 'pending' | 'sent' | 'delivered' | 'read' | 'failed' | null {
  if (message.purpose === 'customer') return null;
  if (rank(message.status) >= 0) return message.status as 'sent';
  return message.message_id.startsWith('msg_') ? 'pending' : null;
}

/** Typing that nobody ended is over after this time: the end may have been lost. */
const TYPING_MS = 8_000;

/**
 * One conversation as its receiver sees it: a snapshot and the events since. `apply` returns true where something changed;
 * an event of another conversation changes nothing. Older messages can be put in front with `prepend`.
 */
export class ConversationStore {
  row: Json = {};
  participants = new Map<string, Participant>();
  /** Everyone ever seen here, those who left included: who wrote an old message stays known. */
  people = new Map<string, Participant>();
  panels = new Map<string, any>();
  messages: Message[] = [];
  marks: Mark[] = [];
  /** Who types until when: participant id (customers: the other side as `''`) to Unix ms of the end. */
  typing = new Map<string, number>();
  receipts = new Map<string, { status: string; reason: string | null }>();
  cursor = '';
  draft: string | null = null;
  ended: string | null = null;
  /** Name of who answers, as customers are told. */
  senderName: string | null = null;

  constructor(readonly conversationId: string) {}

  apply(event: HubEvent): boolean {
    if (event.conversation_id !== this.conversationId) return false;
    const snapshot = snapshotOf(event);
    if (snapshot) {
      this.reset(snapshot);
      return true;
    }
    if (event.cursor) this.cursor = event.cursor;
    const fold = FOLDS[event.event];
    if (!fold) return false;
    fold(this, event.data, event.at ?? Date.now());
    return true;
  }

  /** Begin again from a snapshot. */
  reset(snapshot: Json): void {
    this.row = snapshot.conversation ?? this.row;
    this.participants = new Map((snapshot.participants ?? []).map((one: Participant) => [one.participant_id, one]));
    for (const one of [...(this.row.agents ?? []), ...this.participants.values()]) this.people.set(one.participant_id, one);
    this.panels = new Map(Object.entries(snapshot.panels ?? {}));
    const known = this.messages;
    this.messages = (snapshot.messages ?? []).map((one: Message) => ({ ...one, attachments: one.attachments ?? [] }));
    this.#keepOlder(known);
    for (const one of this.messages) this.receipt(one.message_id, one.status, one.reason);
    this.marks = this.marks.filter((mark) => mark.at <= (this.messages[0]?.at ?? 0));
    this.typing.clear();
    this.draft = snapshot.draft ?? null;
    this.cursor = snapshot.cursor ?? '';
    this.ended = this.row.state === 'ended' || this.row.ended ? '' : null;
    const last = this.messages.filter((one) => one.own === false).at(-1);
    this.senderName = last?.sender?.name ?? this.senderName;
  }

  /** Older messages, oldest first, in front of those that are there. */
  prepend(older: Message[]): void {
    const here = new Set(this.messages.map((one) => one.message_id));
    this.messages.unshift(...older.filter((one) => !here.has(one.message_id)));
    for (const one of older) this.receipt(one.message_id, one.status, one.reason);
  }

  /** A message's receipt, from wherever it is known; one that comes late takes nothing back. True where it goes further. */
  receipt(messageId: string, status: string | undefined, reason: string | null | undefined = null): boolean {
    const known = this.receipts.get(messageId)?.status;
    if (!status || rank(status) <= rank(known)) return false;
    this.receipts.set(messageId, { status, reason: reason ?? null });
    const message = this.messages.find((one) => one.message_id === messageId);
    if (message) Object.assign(message, { status, reason: reason ?? null });
    return true;
  }

  /** The participants who type right now. */
  typists(now = Date.now()): string[] {
    return [...this.typing].filter(([, until]) => until > now).map(([id]) => id);
  }

  #keepOlder(known: Message[]): void {
    const first = this.messages[0];
    const cut = first ? known.findIndex((one) => one.message_id === first.message_id) : -1;
    if (cut > 0) this.messages.unshift(...known.slice(0, cut));
  }
}

type Fold = (store: ConversationStore, data: Json, at: number) => void;

function mark(kind: Mark['kind']): Fold {
  return (store, data, at) => {
    const after = store.messages.length;
    store.marks.push({ kind, at, after, data });
  };
}

function created(store: ConversationStore, data: Json, at: number): void {
  const known = store.messages.findIndex((one) => one.message_id === data.message_id);
  const message = { ...data, ...store.receipts.get(data.message_id), attachments: data.attachments ?? [], at } as Message;
  if (known >= 0) store.messages[known] = { ...message, at: store.messages[known]!.at };
  else store.messages.push(message);
  store.typing.delete(data.participant_id ?? '');
  if (data.own === false && data.sender) store.senderName = data.sender.name;
}

function updated(store: ConversationStore, data: Json, at: number): void {
  const known = store.messages.find((one) => one.message_id === data.message_id);
  if (known) Object.assign(known, data, { at: known.at, edited: true });
  else created(store, data, at);
}

function connected(store: ConversationStore, data: Json, at: number): void {
  store.participants.set(data.participant.participant_id, data.participant);
  store.people.set(data.participant.participant_id, data.participant);
  mark('connected')(store, data, at);
}

function disconnected(store: ConversationStore, data: Json, at: number): void {
  store.participants.delete(data.participant.participant_id);
  store.typing.delete(data.participant.participant_id);
  mark('disconnected')(store, data, at);
}

const FOLDS: Record<string, Fold> = {
  'message.created': created,
  'message.updated': updated,
  'message.receipt': (store, data) => void store.receipt(data.message_id, data.status, data.reason),
  'panel.updated': (store, data) => {
    if (data.content === null) store.panels.delete(data.panel);
    else store.panels.set(data.panel, data.content);
  },
  'participant.connected': connected,
  'participant.disconnected': disconnected,
  'conversation.transferred': (store, data, at) => {
    store.row = { ...store.row, queue: data.queue };
    mark('transferred')(store, data, at);
  },
  'takeover.completed': (store, data, at) => {
    store.row = { ...store.row, owner: data.to, owner_epoch: data.owner_epoch, taken_over: true };
    mark('takeover')(store, data, at);
  },
  'conversation.ended': (store, data, at) => {
    store.ended = data.reason ?? '';
    store.typing.clear();
    mark('ended')(store, data, at);
  },
  typing: (store, data) => {
    const id = data.participant_id ?? '';
    if (data.on) store.typing.set(id, Date.now() + TYPING_MS);
    else store.typing.delete(id);
  },
  'sender.changed': (store, data) => {
    store.senderName = data.name ?? null;
  },
};

// -- files ------------------------------------------------------------------------------------------------------------------

/** Where the hub's own files are; an attachment that begins otherwise is a platform's. */
const FILES = '/v1/files';

export interface FileLimits {
  bytes_max: number;
  files_per_conversation: number;
  /** Endings of names by media type. */
  types: Record<string, string[]>;
}

/** True for the address of a file that the hub keeps: opened with `HubFiles.open`, not followed as it is. */
export function isHubFile(url: unknown): url is string {
  return typeof url === 'string' && /^\/v1\/files\/fil_[0-9a-z]{22}\/[\w.~%-]+$/.test(url);
}

/** Who asks: an identity token (not a ticket), or the headers that stand for it. */
export type Credentials = string | Readonly<Record<string, string>>;

/** Files of conversations, for whoever `getCredentials` speaks of. Rejects with `HubError`. */
export class HubFiles {
  #limits: Promise<FileLimits> | null = null;

  constructor(
    readonly base: string,
    readonly getCredentials: () => Credentials | Promise<Credentials>,
  ) {}

  /** What is taken; asked once. */
  limits(): Promise<FileLimits> {
    this.#limits ??= this.#call('GET', FILES).catch((error) => {
      this.#limits = null;
      throw error;
    });
    return this.#limits;
  }

  /**
   * Upload a file for a conversation (null: the customer's own); the attachment to send with a message. `progress` is told
   * the share that has left, 0 to 1. Too large a file isn't sent at all.
   */
  async upload(file: File, conversationId: string | null, progress?: (share: number) => void, signal?: AbortSignal): Promise<Attachment> {
    const { bytes_max } = await this.limits();
    if (file.size > bytes_max) throw new HubError('too_large', `A file has at most ${bytes_max} bytes.`, false, { bytes_max });
    const headers = await this.#headers();
    const query = conversationId === null ? '' : `?conversation_id=${encodeURIComponent(conversationId)}`;
    const { url, name, mime } = await new Promise<Json>((resolve, reject) => {
      // Only this kind of request tells how much has been sent.
      const request = new XMLHttpRequest();
      request.open('POST', `${this.base}${FILES}${query}`);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.setRequestHeader('content-type', file.type || 'application/octet-stream');
      request.setRequestHeader('x-file-name', encodeURIComponent(file.name.replace(/[\ud800-\udfff]/gu, '_')));
      request.upload.onprogress = (event) => progress?.(event.total ? event.loaded / event.total : 0);
      request.onerror = () => reject(new HubError('network', 'The hub cannot be reached.', true));
      request.onabort = () => reject(new HubError('cancelled', 'The upload was cancelled.'));
      request.onload = () => settle(request.status, request.responseText, resolve, reject);
      signal?.addEventListener('abort', () => request.abort());
      if (signal?.aborted) reject(new HubError('cancelled', 'The upload was cancelled.'));
      else request.send(file);
    });
    return { url, name, mime };
  }

  /** An address that opens a file of the hub's for a minute. */
  async link(url: string): Promise<string> {
    const path = url.slice(0, url.lastIndexOf('/'));
    return this.base + (await this.#call('POST', `${path}/link`)).url;
  }

  /** Save a file of the hub's, as the browser does with a download. */
  async open(url: string): Promise<void> {
    const link = Object.assign(document.createElement('a'), { href: await this.link(url), download: '', rel: 'noopener noreferrer', hidden: true });
    document.body.append(link);
    link.click();
    link.remove();
  }

  async #headers(): Promise<Record<string, string>> {
    const credentials = await this.getCredentials();
    return typeof credentials === 'string' ? { authorization: `Bearer ${credentials}` } : { ...credentials };
  }

  async #call(method: string, path: string): Promise<any> {
    const headers = await this.#headers();
    const answer = await fetch(this.base + path, { method, headers, cache: 'no-store' }).catch(() => {
      throw new HubError('network', 'The hub cannot be reached.', true);
    });
    const text = await answer.text();
    return new Promise((resolve, reject) => settle(answer.status, text, resolve, reject));
  }
}

function settle(status: number, text: string, resolve: (body: Json) => void, reject: (error: HubError) => void): void {
  let body: Json = {};
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy's own words; the status says enough.
  }
  if (body.error) reject(HubError.of(body.error));
  else if (status === 200) resolve(body);
  else reject(new HubError(status === 413 ? 'too_large' : 'network', `The hub answered with ${status}.`, status >= 500));
}
