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
    sender?: {
        name: string | null;
    };
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
export declare class HubError extends Error {
    readonly code: string;
    readonly retryable: boolean;
    readonly details: Json;
    constructor(code: string, message: string, retryable?: boolean, details?: Json);
    static of(error: Json): HubError;
}
/** A random id for `req` and `client_message_id`. Works without a secure context, too. */
export declare function randomId(prefix?: string): string;
/** One connection of one page. Events: `state`, `session`, `event`, `reset`, and each hub event by its own name. */
export declare class HubConnection extends EventTarget {
    #private;
    state: State;
    reason: string;
    /** When the hub was last heard, Unix ms of this machine; 0: never. */
    lastHeard: number;
    user: {
        id: string;
        name: string;
    } | null;
    status: string | null;
    permissions: string[];
    retryAt: number | null;
    /** Add to `Date.now()` to get the hub's time. */
    clockOffsetMs: number;
    constructor(options: HubOptions);
    /** Connect and stay connected. Does nothing where that is so already. */
    connect(): void;
    /** End the session at the hub: what it held is free at once. Resolves when the socket is closed, or after a second. */
    signOut(): Promise<void>;
    /** Let go without ending the session, as a page does that goes away: it can be resumed for some seconds. */
    close(): void;
    /** Try now instead of at `retryAt`. */
    retryNow(): void;
    /**
     * Carry out a command; its `ok`. Rejects with `HubError`. A changing command gets a `req` and is sent again with it after
     * a reconnect, so that it happens once; one that could not be sent for 20 s is rejected with `disconnected`.
     */
    command(cmd: string, args?: Json): Promise<any>;
    /** Say that typing began or ended; best effort, never queued. */
    typing(conversationId: string | null, on: boolean): void;
    /** A view that stays subscribed over reconnects and lost sessions until its `close()`. */
    view(name: string, options?: Json): ViewStore;
    /** The hub's present time, Unix ms. */
    now(): number;
}
/** The snapshot in an event, where it has one: at most one per event. */
export declare function snapshotOf(event: HubEvent): Json | null;
/** Which field of a view's rows names them. */
export declare const ROW_KEYS: Record<string, string>;
interface ViewPort {
    subscribe: (options: Json) => void;
    unsubscribe: (subscription: string) => void;
    gone: () => void;
}
/**
 * The rows of one view by their id. Events: `change` with detail {`changed`: ids, `removed`: ids, `whole`: boolean} and
 * `error` with the `HubError`. `ready` is false until the first snapshot is complete; rows stay on screen meanwhile.
 */
export declare class ViewStore extends EventTarget {
    #private;
    readonly name: string;
    rows: Map<string, Json>;
    ready: boolean;
    subscription: string | null;
    error: HubError | null;
    /** Counts subscriptions: an answer to an older one is not ours any more. */
    version: number;
    constructor(name: string);
    /** Called by `HubConnection.view`. */
    bind(port: ViewPort): void;
    /** Subscribe with other options (`filter`, `sort`, `limit`); the old rows stay until the new snapshot is there. */
    update(options: Json): void;
    /** The session with the subscription in it is gone: subscribe again. Called by the connection. */
    lost(): void;
    /** The subscription was refused. Called by the connection. */
    fail(error: HubError): void;
    /** Stop; rows stay as they are. */
    close(): void;
    /** Fold one `view.snapshot` or `view.changed` of this subscription; true where it was one. */
    apply(event: HubEvent): boolean;
}
/**
 * What became of a message of one's own side, as a screen shows it. `pending`: the hub has it, nobody has confirmed it yet; null
 * where there is nothing to say: the customer's, and what a platform's own desktop sent and never reports on.
 */
export declare function stateOf(message: Message): 'pending' | 'sent' | 'delivered' | 'read' | 'failed' | null;
/**
 * One conversation as its receiver sees it: a snapshot and the events since. `apply` returns true where something changed;
 * an event of another conversation changes nothing. Older messages can be put in front with `prepend`.
 */
export declare class ConversationStore {
    #private;
    readonly conversationId: string;
    row: Json;
    participants: Map<string, Participant>;
    /** Everyone ever seen here, those who left included: who wrote an old message stays known. */
    people: Map<string, Participant>;
    panels: Map<string, any>;
    messages: Message[];
    marks: Mark[];
    /** Who types until when: participant id (customers: the other side as `''`) to Unix ms of the end. */
    typing: Map<string, number>;
    receipts: Map<string, {
        status: string;
        reason: string | null;
    }>;
    cursor: string;
    draft: string | null;
    ended: string | null;
    /** Name of who answers, as customers are told. */
    senderName: string | null;
    constructor(conversationId: string);
    apply(event: HubEvent): boolean;
    /** Begin again from a snapshot. */
    reset(snapshot: Json): void;
    /** Older messages, oldest first, in front of those that are there. */
    prepend(older: Message[]): void;
    /** A message's receipt, from wherever it is known; one that comes late takes nothing back. True where it goes further. */
    receipt(messageId: string, status: string | undefined, reason?: string | null | undefined): boolean;
    /** The participants who type right now. */
    typists(now?: number): string[];
}
export interface FileLimits {
    bytes_max: number;
    files_per_conversation: number;
    /** Endings of names by media type. */
    types: Record<string, string[]>;
}
/** True for the address of a file that the hub keeps: opened with `HubFiles.open`, not followed as it is. */
export declare function isHubFile(url: unknown): url is string;
/** Who asks: an identity token (not a ticket), or the headers that stand for it. */
export type Credentials = string | Readonly<Record<string, string>>;
/** Files of conversations, for whoever `getCredentials` speaks of. Rejects with `HubError`. */
export declare class HubFiles {
    #private;
    readonly base: string;
    readonly getCredentials: () => Credentials | Promise<Credentials>;
    constructor(base: string, getCredentials: () => Credentials | Promise<Credentials>);
    /** What is taken; asked once. */
    limits(): Promise<FileLimits>;
    /**
     * Upload a file for a conversation (null: the customer's own); the attachment to send with a message. `progress` is told
     * the share that has left, 0 to 1. Too large a file isn't sent at all.
     */
    upload(file: File, conversationId: string | null, progress?: (share: number) => void, signal?: AbortSignal): Promise<Attachment>;
    /** An address that opens a file of the hub's for a minute. */
    link(url: string): Promise<string>;
    /** Save a file of the hub's, as the browser does with a download. */
    open(url: string): Promise<void>;
}
export {};
