/*
 * Load on a hub by k6: supervisors who watch, monitor and answer pings, and a platform that makes conversations talk.
 *
 *     HUB_TOKEN_SECRET=... k6 run -e HUB_URL=http://127.0.0.1:8000 docs/examples/load.k6.js
 *
 * Also -e SUPERVISORS=20 -e SECONDS=30 -e CONVERSATIONS=50 -e RATE=10 (requests a second, ten messages each), and
 * -e HUB_TOKENS=FILE, a supervisor's token on each line, where an identity provider makes them (the platform still needs
 * the secret). The summary has hub_hello, hub_view_subscribe, hub_view_snapshot, hub_monitor_start, hub_monitor_stop
 * and, as hub_message_age, how old messages are on arrival; the run fails by the thresholds below.
 *
 * Checked with Node.js 20 and stand-ins for k6's modules (k6/ws on Node's WebSocket, k6/http on curl): syntax, and four
 * supervisors and a platform against a running hub for six seconds. It has not been run by k6 itself. k6 is no dependency
 * of this project.
 */

import { check } from 'k6';
import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';
import ws from 'k6/ws';

const URL = __ENV.HUB_URL || 'http://127.0.0.1:8000';
const SECRET = __ENV.HUB_TOKEN_SECRET || '';
const TOKENS = __ENV.HUB_TOKENS ? open(__ENV.HUB_TOKENS).split('\n').filter((line) => line) : [];
const SECONDS = Number(__ENV.SECONDS || 30);
const CONVERSATIONS = Number(__ENV.CONVERSATIONS || 50);
const SUPERVISORS = Number(__ENV.SUPERVISORS || 20);
const RATE = Number(__ENV.RATE || 10);

const trends = {
  hello: new Trend('hub_hello', true),
  'status.set': new Trend('hub_status_set', true),
  'view.subscribe': new Trend('hub_view_subscribe', true),
  'view.snapshot': new Trend('hub_view_snapshot', true),
  'monitor.start': new Trend('hub_monitor_start', true),
  'monitor.stop': new Trend('hub_monitor_stop', true),
};
const ages = new Trend('hub_message_age', true);
const refusals = new Counter('hub_refusals');

export const options = {
  scenarios: {
    supervisors: { executor: 'per-vu-iterations', exec: 'supervisor', vus: SUPERVISORS, iterations: 1, maxDuration: `${SECONDS + 30}s` },
    // Requests are due at a constant rate whether or not earlier ones are answered.
    platform: {
      executor: 'constant-arrival-rate', exec: 'customersSpeak', rate: RATE, timeUnit: '1s', duration: `${SECONDS}s`,
      preAllocatedVUs: 10, maxVUs: 100,
    },
  },
  thresholds: {
    hub_message_age: ['p(99)<250'],
    hub_refusals: ['count==0'],
    checks: ['rate==1'],
  },
};

export function setup() {
  const run = Date.now().toString(36);
  const org = TOKENS.length ? claimsOf(TOKENS[0]).org : `k6-${run}`;
  const events = [];
  for (let number = 0; number < CONVERSATIONS; number += 1) {
    const name = `${run}-${number}`;
    const customer = { id: `cus-${number}`, name: 'Dana' };
    events.push(event(name, `${name}-s`, 'conversation.started', { channel: 'web', queue: 'support', customer }));
    const agent = { participant_id: `${name}:a`, purpose: 'agent', user_id: `agent-${number % 10}`, name: 'Max' };
    events.push(event(name, `${name}-p`, 'participant.connected', agent));
  }
  for (let at = 0; at < events.length; at += 500) post(org, events.slice(at, at + 500));
  return { run, org };
}

/** One supervisor: a socket for the whole run. */
export function supervisor({ org }) {
  const token = TOKENS.length ? TOKENS[__VU % TOKENS.length] : makeToken(org, 'supervisor', `sup-${__VU}`);
  const address = `${URL.replace(/^http/, 'ws')}/v1/supervisor`;
  const response = ws.connect(address, { headers: { 'Sec-WebSocket-Protocol': 'hub.v1' } }, (socket) => {
    const asked = new Map();
    const conversations = new Set();
    let lastId = 0;
    let subscribed = 0;
    let monitored = null;

    function command(cmd, args, then) {
      lastId += 1;
      asked.set(lastId, { cmd, began: Date.now(), then });
      socket.send(JSON.stringify({ id: lastId, cmd, ...args }));
    }

    function next() {
      if (monitored !== null) {
        command('monitor.stop', { conversation_id: monitored });
        monitored = null;
      } else if (conversations.size) {
        const all = [...conversations];
        const chosen = all[Math.floor(Math.random() * all.length)];
        command('monitor.start', { conversation_id: chosen }, () => { monitored = chosen; });
      }
    }

    function answered(line) {
      const { cmd, began, then } = asked.get(line.id) || {};
      if (cmd === undefined) return;
      asked.delete(line.id);
      // Another supervisor has it: that is the rule and not a failure.
      if (line.error && line.error.code !== 'monitor_held') refusals.add(1, { cmd, code: line.error.code });
      if (line.error) return;
      trends[cmd].add(Date.now() - began);
      if (then) then(line.ok);
    }

    function happened({ event: kind, data }) {
      if (kind === 'ping') {
        socket.send('{"cmd":"pong"}');
      } else if (kind === 'view.snapshot' || kind === 'view.changed') {
        data.rows.filter((row) => row.state === 'active').forEach((row) => conversations.add(row.conversation_id));
        (data.removed || []).forEach((gone) => conversations.delete(gone));
        if (kind === 'view.snapshot' && !data.more) trends['view.snapshot'].add(Date.now() - subscribed);
      } else if (kind === 'message.created' && data.text.startsWith('@')) {
        ages.add(Date.now() - Number(data.text.split('@')[1]));
      }
    }

    socket.on('open', () => command('hello', { token }, () => {
      command('status.set', { status: 'available' });
      subscribed = Date.now();
      command('view.subscribe', { view: 'interactions' });
      socket.setInterval(next, 1000 + Math.random() * 1000);
    }));
    socket.on('message', (frame) => frame.split('\n').filter((line) => line).forEach((text) => {
      const line = JSON.parse(text);
      if (line.event === undefined) answered(line);
      else happened(line);
    }));
    socket.on('error', (error) => refusals.add(1, { cmd: 'socket', code: error.error() }));
    socket.setTimeout(() => socket.close(1000), SECONDS * 1000);
  });
  check(response, { 'handshake is 101': (each) => each && each.status === 101 });
}

/** Ten customers say something; each message carries when it was sent. */
export function customersSpeak({ run, org }) {
  const events = [];
  for (let number = 0; number < 10; number += 1) {
    const id = `${run}-${__VU}-${__ITER}-${number}`;
    const conversation = `${run}-${Math.floor(Math.random() * CONVERSATIONS)}`;
    const data = { message_id: id, purpose: 'customer', text: `@${Date.now()}@ Where is my parcel?` };
    events.push(event(conversation, id, 'message.created', data));
  }
  post(org, events);
}

function event(conversation, id, type, data) {
  return { id, type, conversation_id: conversation, at: Date.now(), data };
}

function post(org, events) {
  const headers = {
    Authorization: `Bearer ${makeToken(org, 'connector', 'k6')}`, 'Content-Type': 'application/x-ndjson',
  };
  const response = http.post(`${URL}/v1/events`, events.map((each) => JSON.stringify(each)).join('\n'), { headers });
  check(response, {
    'events are taken': (each) => each.status === 200 && each.json('results').every(({ status }) => status === 'accepted'),
  });
}

/** A JWT of the hub's own secret (HS256, RFC 7515). */
function makeToken(org, role, sub) {
  const now = Math.floor(Date.now() / 1000);
  const permissions = role === 'supervisor' ? ['view', 'monitor'] : [];
  const claims = {
    sub, name: sub, org, role, permissions, queues: ['*'], divisions: ['*'], iss: 'hub', aud: 'hub', iat: now, exp: now + 3600,
  };
  const signed = [{ alg: 'HS256', typ: 'JWT' }, claims]
    .map((part) => encoding.b64encode(JSON.stringify(part), 'rawurl')).join('.');
  return `${signed}.${crypto.hmac('sha256', SECRET, signed, 'base64rawurl')}`;
}

function claimsOf(token) {
  return JSON.parse(encoding.b64decode(token.split('.')[1], 'rawurl', 's'));
}
