/**
 * The takeover alert for any other agent desktop, by one line:
 *
 *     <script type="module" src="https://hub.example/assets/alert.js" data-token="..."></script>
 *
 * The hub is where this script came from. The token is the attribute's, or what the page's own `async function getToken()`
 * returns (or the function that `data-get-token` names), which is asked again for each connect. The page hears
 * `hub-takeover` (detail: the event of the hub) and `hub-acknowledged` on `document`.
 */

import { HubConnection, HubError } from '../sdk/hub.ts';
import { socketUrl } from '../shared/auth.ts';
import { primeSound } from '../shared/notify.ts';
import './alert-element.ts';
import type { HubTakeoverAlert } from './alert-element.ts';

const script = [...document.querySelectorAll<HTMLScriptElement>('script[src]')].find((one) => one.src === import.meta.url);

async function getToken(): Promise<string> {
  const given = script?.dataset.token;
  if (given) return given;
  const name = script?.dataset.getToken ?? 'getToken';
  const ask = (globalThis as unknown as Record<string, unknown>)[name];
  if (typeof ask !== 'function') throw new HubError('unauthenticated', `Set data-token, or define an async ${name}().`);
  return String(await ask());
}

const alert = document.createElement('hub-takeover-alert') as HubTakeoverAlert;
document.body.append(alert);
primeSound();
const hub = new HubConnection({ url: socketUrl('agent', import.meta.url), getToken, storageKey: 'hub.alert.session' });
hub.addEventListener('state', () => {
  if (hub.state === 'stopped' && hub.reason !== 'closed') console.warn(`hub alert: not connected (${hub.reason})`);
});
alert.attach(hub);
hub.connect();
