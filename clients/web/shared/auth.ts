/**
 * Who is at this page: a token from the address's fragment or pasted, kept for this tab alone, and a fresh single-use ticket
 * from it for every connect. The token never stands in a query, and leaves the address at once.
 */

import { HubError } from '../sdk/hub.ts';
import { PAGE, endSession, otherPage, signedIn } from './session.ts';

export interface Persona {
  id: string;
  name: string;
  role: string;
  app: string;
  note: string;
  token: string;
}

/** What a token says of itself, unchecked: only to choose what to show. */
export interface Claims {
  sub?: string;
  name?: string;
  role?: string;
  exp?: number;
  conversation?: string;
}

/** One app's token in `sessionStorage`, or where `storage` says. */
export class Account {
  readonly tokenKey: string;
  readonly sessionKey: string;
  /** True where one can sign in at an identity provider. */
  offered = false;
  /** True where somebody has, and it is their session that counts, not a token. */
  bySession = false;

  constructor(
    readonly app: string,
    readonly storage: Storage = sessionStorage,
  ) {
    this.tokenKey = `hub.${app}.token`;
    this.sessionKey = `hub.${app}.session`;
  }

  /** The token of the fragment (which is removed), else the one kept; null where there is none. */
  take(): string | null {
    const given = new URLSearchParams(location.hash.slice(1)).get('token');
    if (given !== null) {
      history.replaceState(history.state, '', location.pathname + location.search);
      this.keep(given.trim());
    }
    return this.storage.getItem(this.tokenKey);
  }

  /** The token that is kept; empty where there is none. */
  get token(): string {
    return this.storage.getItem(this.tokenKey) ?? '';
  }

  /** What a request to the hub carries to be this person's: the token, or the header of the session's own page. */
  get credentials(): string | typeof PAGE {
    return this.bySession ? PAGE : this.token;
  }

  /** The same as headers. */
  get headers(): Record<string, string> {
    const { credentials } = this;
    return typeof credentials === 'string' ? { authorization: `Bearer ${credentials}` } : credentials;
  }

  /** Whether somebody has signed in with this browser; where this is another role's page, it is left. */
  async find(): Promise<boolean> {
    const found = await signedIn();
    this.offered = found !== undefined;
    const elsewhere = found && otherPage(found.role);
    if (elsewhere) location.replace(elsewhere);
    this.bySession = Boolean(found) && !elsewhere;
    return this.bySession;
  }

  /** Ask what a page that began with a token hasn't: whether one can sign in here. Nobody is signed in by that. */
  async findOffer(): Promise<void> {
    this.offered ||= (await signedIn()) !== undefined;
  }

  /** Say that a page of the session is open. */
  touch(): void {
    if (this.bySession) void signedIn();
  }

  /** Forget token and session, here and, where it was signed in to, at the hub; false where that can't be reached. */
  async end(): Promise<boolean> {
    const { bySession } = this;
    this.drop();
    return !bySession || endSession();
  }

  /** Sign in with a token; a session of another token is not this one's. */
  keep(token: string): void {
    if (this.token !== token) sessionStorage.removeItem(this.sessionKey);
    this.storage.setItem(this.tokenKey, token);
  }

  /** Forget token and session. */
  drop(): void {
    this.bySession = false;
    this.storage.removeItem(this.tokenKey);
    sessionStorage.removeItem(this.sessionKey);
  }

  /** A fresh ticket. Throws `HubError`; one that is not retryable means: sign in again. */
  ticket = async (): Promise<string> => {
    const answer = await this.request('/v1/tickets', { method: 'POST' });
    return answer.ticket;
  };

  /** Call a route of the hub as this person; its JSON. Throws `HubError`. */
  async request(path: string, options: RequestInit = {}): Promise<any> {
    const headers = { ...(options.headers ?? {}), ...this.headers };
    return call(path, { ...options, headers });
  }
}

/** Call a route; its JSON. Throws `HubError`, with code `network` where there was no answer. */
export async function call(path: string, options: RequestInit = {}): Promise<any> {
  let answer: Response;
  try {
    answer = await fetch(path, { cache: 'no-store', ...options });
  } catch {
    throw new HubError('network', 'The hub cannot be reached.', true);
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  if (body?.error) {
    const transient = answer.status === 429 || answer.status >= 500;
    throw new HubError(body.error.code, body.error.message, transient || Boolean(body.error.retryable), body.error.details ?? {});
  }
  throw new HubError('network', `The hub answered with ${answer.status}.`, answer.status >= 500 || answer.status === 429);
}

/** The claims in a token; empty where it is none. */
export function claimsOf(token: string): Claims {
  try {
    const part = token.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/');
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (one) => one.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** Address of a socket beside this page, or beside `base`. */
export function socketUrl(endpoint: string, base: string = location.href): string {
  const url = new URL(`/v1/${endpoint}`, base);
  url.protocol = url.protocol.replace('http', 'ws');
  return url.href;
}

/** The demonstration's people, where there is one. */
export async function personas(): Promise<Persona[]> {
  try {
    return (await call('/v1/personas')).personas ?? [];
  } catch {
    return [];
  }
}
