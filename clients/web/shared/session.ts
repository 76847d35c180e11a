/**
 * Who has signed in with this browser at the identity provider. The cookie behind it is out of reach of scripts; a request
 * that counts on it carries `PAGE`, which no page of another origin can send.
 */

export const PAGE = { 'x-hub-page': '1' } as const;
/** How often an open page says that it is there, ms; a session without a page ends after `signed_in_idle_ms`. */
export const TOUCH_MS = 60_000;

export interface SignedIn {
  id: string;
  name: string;
  role: string;
}

/** Whoever has signed in, null where nobody has, undefined where there is no signing in here, or no answer. */
export async function signedIn(): Promise<SignedIn | null | undefined> {
  try {
    const answer = await fetch('/v1/session', { cache: 'no-store', headers: PAGE });
    if (!answer.ok) return undefined;
    const { user, role } = await answer.json();
    return user && { id: user.id, name: user.name, role };
  } catch {
    return undefined;
  }
}

/** End the session; true where it has ended. The browser goes on to the provider's own sign-out, where there is one. */
export async function endSession(): Promise<boolean> {
  try {
    const answer = await fetch('/v1/sign-out', { method: 'POST', cache: 'no-store', headers: PAGE });
    if (!answer.ok) return false;
    const { redirect } = await answer.json();
    if (redirect) location.assign(redirect);
    return true;
  } catch {
    return false;
  }
}

/** The page of those with this role, where it is another one than this. */
export function otherPage(role: string, path: string = location.pathname): string | null {
  const page = role === 'agent' ? '/desk' : '/';
  return page === path ? null : page;
}
