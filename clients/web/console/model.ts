/**
 * What the console knows and does: one connection, four views, the conversations of the roster, and the actions.
 *
 * Screens listen to topics (`conn`, `interactions`, `queues`, `agents`, `roster`, `conv`, `route`, `prefs`, `dialog`, `toasts`,
 * `tick`) and read the rest from here. Nothing on a screen changes because a command was answered: it changes when the hub's
 * event says so, like everybody else's.
 */
import { ConversationStore, HubConnection, HubError, HubFiles, ViewStore, randomId, snapshotOf, type Attachment, type HubEvent, type Json, type Message } from "../sdk/hub";
import { Tray, whyRefused } from "../shared/tray.ts";
import { PAGE, TOUCH_MS, endSession, otherPage, signedIn } from "../shared/session.ts";
import { clock, clockSeconds, has, setLocale, t, type Locale } from "./i18n";

export interface Route {
  page: "interactions" | "queues" | "agents" | "history" | "roster" | "c";
  id: string;
}

export interface Prefs {
  theme: "auto" | "light" | "dark";
  locale: Locale;
  sound: boolean;
  notices: boolean;
  hidden: string[];
  sort: { column: string; down: boolean };
}

export interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

export interface WrapupForm {
  prompt: string;
  codes: string[];
  until: number | null;
  participant: string;
}

/** A message that isn't in the transcript yet; `problem` says why it was refused. */
export interface Outgoing {
  id: string;
  text: string;
  attachments: Attachment[];
  problem: string;
}

export type Dialog =
  | { kind: "help" }
  | { kind: "pick"; row: Json; people: Json[] }
  | { kind: "available"; row: Json; participant?: string }
  | { kind: "takeover"; id: string; prepared: Json | null; error: string; busy: boolean }
  | { kind: "release"; row: Json }
  | { kind: "reveal"; id: string; message: string }
  | { kind: "end"; id: string };

/** A sample of the wallboard: time, waiting, interacting, longest wait in seconds. */
export type Sample = [number, number, number, number];

const TOKEN_KEY = "hub.console.token";
const SESSION_KEY = "hub.console.session";
const PREFS_KEY = "hub.console.prefs";
const SAMPLES_KEY = "hub.console.wall";
const HOUR_MS = 3_600_000;
const SAMPLE_MS = 5_000;
const FRESH_MS = 40_000;

export const STATUSES = ["available", "busy", "away", "break", "meal", "meeting", "training", "on_queue", "offline"];

class Model extends EventTarget {
  token = sessionStorage.getItem(TOKEN_KEY) ?? "";
  signedOut = "";
  /** True where one can sign in at an identity provider. */
  offered = false;
  /** True until it is known whether somebody has. */
  asking = false;
  conn: HubConnection | null = null;
  views: Record<string, ViewStore> = {};
  conversations = new Map<string, ConversationStore>();
  wrapups = new Map<string, WrapupForm>();
  notices = new Map<string, Json>();
  unread = new Map<string, number>();
  drafts = new Map<string, string>();
  outgoing = new Map<string, Outgoing[]>();
  readonly files = new HubFiles(location.origin, () => (this.#bySession ? PAGE : this.token));
  #trays = new Map<string, Tray>();
  route: Route = { page: "interactions", id: "" };
  selected = "";
  dialog: Dialog | null = null;
  toasts: Toast[] = [];
  samples: Sample[] = [];
  prefs: Prefs = { theme: "auto", locale: "en", sound: false, notices: false, hidden: [], sort: { column: "awaiting", down: true } };
  /** When what is on screen was last known to be true, this machine's Unix ms; 0 while it is. */
  staleSince = 0;
  tellers: Record<string, number> = {};
  #bySession = false;
  #touched = 0;
  #toastId = 1;
  #changes = 0;

  // -- beginning and end ------------------------------------------------------------------------------------------------

  /** Read preferences, token and route; begin where a token is there. */
  begin(): void {
    try {
      Object.assign(this.prefs, JSON.parse(localStorage.getItem(PREFS_KEY) ?? "{}"));
    } catch {
      // Unreadable preferences are no preferences.
    }
    this.prefs.locale = setLocale(localStorage.getItem(PREFS_KEY) ? this.prefs.locale : null);
    this.#showTheme();
    const given = /[#&]token=([^&]+)/.exec(location.hash);
    if (given) {
      // A token in the address must not stay there, nor in the history.
      history.replaceState(null, "", location.pathname + location.search);
      this.#remember(decodeURIComponent(given[1]!));
      sessionStorage.removeItem(SESSION_KEY);
    }
    addEventListener("hashchange", () => this.#readRoute());
    this.#readRoute();
    setInterval(() => this.#tick(), 1000);
    addEventListener("pagehide", () => this.conn?.close());
    addEventListener("pageshow", (event) => {
      if (event.persisted) this.conn?.connect();
    });
    if (this.token) this.signIn(this.token);
    else void this.#findSession();
  }

  /** Begin where somebody has signed in with this browser. */
  async #findSession(): Promise<void> {
    this.asking = true;
    const found = await signedIn();
    this.asking = false;
    this.offered = found !== undefined;
    const elsewhere = found && otherPage(found.role);
    if (elsewhere) return location.replace(elsewhere);
    if (found && !this.conn) {
      this.#bySession = true;
      this.#touched = Date.now();
      this.signIn("");
    } else this.tell("conn");
  }

  /** Ask what a page that began with a token hasn't: whether one can sign in here. Nobody is signed in by that. */
  async #findOffer(): Promise<void> {
    this.offered = (await signedIn()) !== undefined;
    this.tell("conn");
  }

  #remember(token: string): void {
    this.token = token;
    if (token) sessionStorage.setItem(TOKEN_KEY, token);
    else sessionStorage.removeItem(TOKEN_KEY);
  }

  /** Begin with this identity token. */
  signIn(token: string): void {
    this.#remember(token);
    this.signedOut = "";
    const url = location.origin.replace(/^http/, "ws") + "/v1/supervisor";
    const conn = new HubConnection({ url, getToken: () => this.#ticket(), storage: sessionStorage, storageKey: SESSION_KEY });
    this.conn = conn;
    conn.addEventListener("state", () => this.#state());
    conn.addEventListener("session", (event) => this.#session((event as CustomEvent).detail));
    conn.addEventListener("event", (event) => this.#event((event as CustomEvent<HubEvent>).detail));
    conn.connect(); // before the views: their subscriptions wait for it
    for (const name of ["interactions", "queues", "agents", "roster"]) {
      const view = conn.view(name);
      view.addEventListener("change", (event) => this.tell(name, (event as CustomEvent).detail));
      view.addEventListener("error", () => this.toast(this.explain(view.error), true));
      this.views[name] = view;
    }
    this.#loadSamples();
    this.tell("conn");
  }

  /** End the session: monitors are free at once. */
  async signOut(): Promise<void> {
    const bySession = this.#bySession;
    await this.conn?.signOut();
    this.#clear("");
    if (bySession && !(await endSession())) this.#clear(t("signout_failed"));
  }

  #clear(why: string): void {
    this.conn = null;
    this.views = {};
    this.conversations.clear();
    this.unread.clear();
    this.wrapups.clear();
    this.notices.clear();
    this.drafts.clear();
    this.outgoing.clear();
    this.#trays.clear();
    this.dialog = null;
    this.staleSince = 0;
    this.#remember("");
    this.#bySession = false;
    sessionStorage.removeItem(SESSION_KEY);
    this.signedOut = why;
    this.tell("conn");
    if (!this.offered) void this.#findOffer();
  }

  async #ticket(): Promise<string> {
    const answer = await this.http("/v1/tickets", { method: "POST" });
    return answer.ticket as string;
  }

  get #credentials(): Record<string, string> {
    return this.#bySession ? PAGE : { authorization: `Bearer ${this.token}` };
  }

  /** JSON of a route of this hub. Raises `HubError`. */
  async http(path: string, options: RequestInit = {}): Promise<Json> {
    let response: Response;
    try {
      response = await fetch(path, { ...options, headers: this.#credentials, cache: "no-store" });
    } catch {
      throw new HubError("offline", "", true);
    }
    const body = (await response.json().catch(() => ({}))) as Json;
    if (body.error) throw HubError.of(body.error);
    if (!response.ok) throw new HubError("offline", response.statusText, response.status >= 500);
    return body;
  }

  // -- telling ----------------------------------------------------------------------------------------------------------

  tell(topic: string, detail: unknown = null): void {
    this.dispatchEvent(new CustomEvent(topic, { detail }));
  }

  #tick(): void {
    const quiet = this.conn && this.live && Date.now() - this.conn.lastHeard > FRESH_MS;
    if (quiet && !this.staleSince) this.staleSince = this.conn!.lastHeard;
    if (this.live && !document.hidden) this.#sample();
    if (this.#bySession && Date.now() - this.#touched > TOUCH_MS) {
      this.#touched = Date.now();
      void signedIn(); // whether it has ended is told by the socket
    }
    this.tell("tick");
  }

  #state(): void {
    const state = this.conn!.state;
    const fresh = state === "live" || state === "catching-up";
    if (fresh) this.staleSince = 0;
    else if (!this.staleSince && this.conn!.lastHeard) this.staleSince = this.conn!.lastHeard;
    if (state === "stopped" && this.conn!.reason === "unauthenticated") this.#clear(t("close_4401"));
    this.tell("conn");
  }

  #session({ resumed, first }: { resumed: boolean; first: boolean }): void {
    if (!resumed) this.revealed.clear();
    if (!resumed && !first) this.conversations.clear(); // what this person still has comes as snapshots
    this.tell("conn");
    this.tell("conv");
  }

  get live(): boolean {
    return this.conn?.state === "live" || this.conn?.state === "catching-up";
  }

  get me(): { id: string; name: string; status: string; may: (permission: string) => boolean } {
    const conn = this.conn;
    return {
      id: conn?.user?.id ?? "",
      name: conn?.user?.name ?? "",
      status: conn?.status ?? "offline",
      may: (permission) => Boolean(conn?.permissions.includes(permission)),
    };
  }

  now(): number {
    return this.conn?.now() ?? Date.now();
  }

  rows(view: string): Map<string, Json> {
    return this.views[view]?.rows ?? new Map();
  }

  row(id: string): Json | undefined {
    return this.rows("interactions").get(id);
  }

  // -- events -----------------------------------------------------------------------------------------------------------

  #event(event: HubEvent): void {
    const id = event.conversation_id;
    if (!id) return;
    if (snapshotOf(event) && !this.conversations.has(id)) this.conversations.set(id, new ConversationStore(id));
    const store = this.conversations.get(id);
    const changed = store?.apply(event) ?? false;
    this.#notice(event, id, store);
    if (changed) this.tell("conv", id);
  }

  #notice(event: HubEvent, id: string, store: ConversationStore | undefined): void {
    const { data } = event;
    switch (event.event) {
      case "message.created":
        if (store && store.row.monitor !== undefined) this.#message(id, data, store);
        break;
      case "message.updated":
        this.revealed.get(id)?.delete(data.message_id); // what was shown is not what it says by now
        break;
      case "monitor.ended":
        this.#monitorEnded(id, data);
        break;
      case "wrapup.requested":
        this.wrapups.set(id, { ...(data as any), participant: data.participant_id, until: data.timeout_ms ? (event.at ?? this.now()) + data.timeout_ms : null });
        this.tell("conv", id);
        break;
      case "wrapup.completed":
      case "wrapup.timed_out":
        if (this.wrapups.get(id)?.participant !== data.participant_id) break;
        this.wrapups.delete(id);
        this.toast(t(event.event === "wrapup.completed" ? "wrap_done" : "wrap_over"));
        this.tell("conv", id);
        break;
      case "takeover.notified":
        this.notices.set(data.takeover_id, { ...data, conversation_id: id });
        if (data.returned_draft) this.drafts.set(id, data.returned_draft);
        this.beep();
        this.tell("conn");
        break;
    }
  }

  #message(id: string, data: Json, store: ConversationStore): void {
    const watching = this.route.page === "c" && this.route.id === id && !document.hidden;
    const mine = store.people.get(data.participant_id)?.user_id === this.me.id;
    if (mine) {
      // The event may come before the answer to the command: what is in the transcript is no longer on its way.
      const arrived = this.outgoing.get(id)?.find((one) => one.text === data.text && one.attachments.length === data.attachments.length && !one.problem);
      if (arrived) this.discard(id, arrived);
    }
    if (watching || mine) return;
    this.unread.set(id, (this.unread.get(id) ?? 0) + 1);
    this.tell("roster");
    this.beep();
    if (!this.prefs.notices || !document.hidden || globalThis.Notification?.permission !== "granted") return;
    // Without the text: a notice may stand on a screen that others see.
    new Notification(t("notice_message", { name: store.row.customer?.name || t("p_customer") }), { tag: id });
  }

  // -- revealed messages: nobody but this page has them, and it forgets them with the monitor ----------------------------

  readonly revealed = new Map<string, Map<string, Message>>();

  async reveal(id: string, message: string, reason: string): Promise<boolean> {
    const ok = await this.ask("message.reveal", { conversation_id: id, message_id: message, reason });
    if (!ok || !this.monitors(id)) return false;
    if (!this.revealed.has(id)) this.revealed.set(id, new Map());
    this.revealed.get(id)!.set(message, ok.message as Message);
    this.tell("conv", id);
    return true;
  }

  hide(id: string, message: string): void {
    this.revealed.get(id)?.delete(message);
    this.tell("conv", id);
  }

  #monitorEnded(id: string, data: Json): void {
    this.revealed.delete(id);
    if (this.dialog?.kind === "reveal" && this.dialog.id === id) this.show(null);
    if (!this.owns(id)) this.conversations.delete(id);
    this.unread.delete(id);
    if (this.dialog?.kind === "takeover" && this.dialog.id === id && !this.dialog.busy) this.show(null);
    const key = `ended_${data.reason}`;
    const own = data.reason === "taken_over" && data.by?.user_id === this.me.id; // the takeover says it itself
    if (has(key) && !own) this.toast(t(key, { name: data.by?.name ?? "" }), !["stopped", "conversation_ended"].includes(data.reason));
    this.tell("conv", id);
    this.tell("roster");
  }

  /** A short sound, where the user asked for it. */
  beep(): void {
    if (!this.prefs.sound) return;
    try {
      const context = new AudioContext();
      const tone = context.createOscillator();
      const volume = context.createGain();
      volume.gain.setValueAtTime(0.06, context.currentTime);
      volume.gain.exponentialRampToValueAtTime(0.0001, context.currentTime + 0.35);
      tone.frequency.setValueAtTime(740, context.currentTime);
      tone.frequency.setValueAtTime(988, context.currentTime + 0.12);
      tone.connect(volume).connect(context.destination);
      tone.start();
      tone.stop(context.currentTime + 0.36);
      tone.onended = () => void context.close();
    } catch {
      // No sound device: the counts are on screen.
    }
  }

  // -- who has what -----------------------------------------------------------------------------------------------------

  /** True where this person answers the customer. */
  owns(id: string): boolean {
    const row = this.row(id) ?? this.conversations.get(id)?.row;
    if (!row?.owner || row.state === "ended" || row.state === "wrapup") return false;
    const people: Json[] = [...(row.agents ?? []), ...(this.conversations.get(id)?.participants.values() ?? [])];
    return people.some((one) => one.participant_id === row.owner && one.user_id === this.me.id);
  }

  monitors(id: string): boolean {
    return this.row(id)?.monitor?.user_id === this.me.id || this.rows("roster").get(id)?.kind === "monitored";
  }

  // -- actions ----------------------------------------------------------------------------------------------------------

  /** Carry out a command; a refusal is shown and is null. */
  async ask(cmd: string, args: Json = {}): Promise<Json | null> {
    try {
      return (await this.conn!.command(cmd, args)) as Json;
    } catch (error) {
      this.toast(this.explain(error), true);
      return null;
    }
  }

  async setStatus(status: string): Promise<boolean> {
    const done = await this.ask("status.set", { status });
    this.tell("conn");
    return done !== null;
  }

  /** Start (or show what stands in the way of) a monitor. */
  async monitor(row: Json, participant?: string): Promise<void> {
    const others = (row.agents as Json[]).filter((one) => one.user_id !== this.me.id && one.state === "connected");
    if (!participant && others.length > 1) return this.show({ kind: "pick", row, people: others });
    if (this.me.status !== "available") return this.show({ kind: "available", row, participant });
    const target = participant ?? others[0]?.participant_id;
    const id = row.conversation_id as string;
    try {
      await this.conn!.command("monitor.start", { conversation_id: id, ...(target ? { participant_id: target } : {}) });
      this.show(null);
      this.open(id);
    } catch (error) {
      const refused = error as HubError;
      if (refused.code === "target_ambiguous") return this.show({ kind: "pick", row, people: refused.details.candidates ?? [] });
      if (refused.code === "not_available") return this.show({ kind: "available", row, participant });
      this.toast(this.explain(error), true);
    }
  }

  async stopMonitor(id: string): Promise<void> {
    await this.ask("monitor.stop", { conversation_id: id });
  }

  /** Ask what a takeover would do, and show it. */
  async prepare(id: string): Promise<void> {
    this.show({ kind: "takeover", id, prepared: null, error: "", busy: true });
    let next: Dialog;
    try {
      const prepared = (await this.conn!.command("takeover.prepare", { conversation_id: id })) as Json;
      next = { kind: "takeover", id, prepared, error: "", busy: false };
    } catch (error) {
      next = { kind: "takeover", id, prepared: null, error: this.explain(error), busy: false };
    }
    if (this.dialog?.kind === "takeover" && this.dialog.id === id) this.show(next);
    else if (next.prepared) void this.ask("takeover.cancel", { takeover_id: next.prepared.takeover_id });
  }

  async confirm(): Promise<void> {
    const dialog = this.dialog;
    if (dialog?.kind !== "takeover" || !dialog.prepared) return;
    const { takeover_id, confirm_token } = dialog.prepared;
    this.show({ ...dialog, busy: true });
    try {
      await this.conn!.command("takeover.confirm", { takeover_id, confirm_token });
      this.show(null);
      this.toast(t("to_done"));
    } catch (error) {
      this.show({ ...dialog, prepared: null, busy: false, error: this.explain(error) });
    }
  }

  /** Close whatever dialog is open; an open takeover is cancelled at the hub, too. */
  closeDialog(): void {
    const dialog = this.dialog;
    if (dialog?.kind === "takeover" && dialog.prepared && !dialog.busy) {
      this.conn?.command("takeover.cancel", { takeover_id: dialog.prepared.takeover_id }).catch(() => undefined);
    }
    this.show(null);
  }

  /** The files that go with a conversation's next message. */
  tray(id: string): Tray {
    let tray = this.#trays.get(id);
    if (!tray) {
      tray = new Tray(this.files, id);
      tray.addEventListener("change", () => this.tell("conv", id));
      this.#trays.set(id, tray);
    }
    return tray;
  }

  /** Send what is written and attached; it is shown as under way until the hub's event says that it is said. */
  send(id: string, text: string): void {
    const outgoing = { id: randomId("c"), text, attachments: this.tray(id).take(), problem: "" };
    this.outgoing.set(id, [...(this.outgoing.get(id) ?? []), outgoing]);
    void this.deliver(id, outgoing);
  }

  /** Bring a message to the hub; the same again is the same message. */
  async deliver(id: string, outgoing: Outgoing): Promise<void> {
    outgoing.problem = "";
    this.tell("conv", id);
    const files = outgoing.attachments.length ? { attachments: outgoing.attachments } : {};
    try {
      await this.conn!.command("message.send", { conversation_id: id, text: outgoing.text, client_message_id: outgoing.id, ...files });
      this.discard(id, outgoing);
    } catch (error) {
      outgoing.problem = this.explain(error);
      this.tell("conv", id);
    }
  }

  discard(id: string, outgoing: Outgoing): void {
    this.outgoing.set(id, (this.outgoing.get(id) ?? []).filter((one) => one !== outgoing));
    this.tell("conv", id);
  }

  /** Save a file of a conversation. */
  save(file: Attachment): void {
    const failed = (error: HubError) => this.toast(error.code === "unknown_file" ? t("fileGone", { name: file.name }) : whyRefused(error, t), true);
    this.files.open(file.url).catch(failed);
  }

  /** What a refusal means, for a person. */
  explain(error: unknown): string {
    const { code, message, details } = (error ?? {}) as { code?: string; message?: string; details?: Json };
    const person = details?.holder ?? details?.owner;
    const name = person?.name || t("unknown_name");
    const values = {
      path: details?.path ?? "",
      s: Math.ceil((details?.retry_ms ?? 1000) / 1000),
      name,
      time: person?.since ? clock(person.since) : "",
      message: message ?? String(error),
    };
    if (code === "store_unavailable" && details?.outcome === "unknown") return t("e_store_unknown");
    if (code === "disconnected" || code === "stopped") return t("e_offline");
    const key = `e_${code}`;
    return has(key) ? t(key, values) : t("e_other", values);
  }

  show(dialog: Dialog | null): void {
    this.dialog = dialog;
    this.tell("dialog");
  }

  toast(text: string, bad = false): void {
    const id = this.#toastId++;
    this.toasts = [...this.toasts.filter((one) => one.text !== text).slice(-3), { id, text, bad }];
    setTimeout(() => this.drop(id), bad ? 9000 : 5000);
    this.tell("toasts");
  }

  drop(id: number): void {
    this.toasts = this.toasts.filter((one) => one.id !== id);
    this.tell("toasts");
  }

  // -- route and preferences --------------------------------------------------------------------------------------------

  open(id: string): void {
    location.hash = `/c/${encodeURIComponent(id)}`;
  }

  #readRoute(): void {
    const [, page = "", id = ""] = /^#\/(\w+)\/?(.*)$/.exec(location.hash) ?? [];
    const known = ["interactions", "queues", "agents", "history", "roster", "c"];
    let name = "";
    try {
      name = decodeURIComponent(id);
    } catch {
      // An address made by hand; it names nothing.
    }
    this.route = { page: (known.includes(page) ? page : "interactions") as Route["page"], id: name };
    if (this.route.page === "c") this.unread.delete(name);
    this.tell("route");
    this.tell("roster");
  }

  prefer(change: Partial<Prefs>): void {
    Object.assign(this.prefs, change);
    if (change.locale) setLocale(change.locale);
    this.#showTheme();
    localStorage.setItem(PREFS_KEY, JSON.stringify(this.prefs));
    this.tell("prefs");
  }

  #showTheme(): void {
    if (this.prefs.theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.prefs.theme;
  }

  // -- the wallboard's last hour ----------------------------------------------------------------------------------------

  /** Figures over all queues the viewer sees. */
  totals(): { waiting: number; interacting: number; longest: number | null; agents: number; monitored: number } {
    let [waiting, interacting, longest] = [0, 0, null as number | null];
    const agents = new Set<string>();
    for (const row of this.rows("queues").values()) {
      waiting += row.waiting;
      interacting += row.interacting;
      const since = row.longest_wait_since as number | null;
      if (since && (longest === null || since < longest)) longest = since;
      for (const agent of row.on_queue_agents) agents.add(agent.user_id);
    }
    let monitored = 0;
    for (const row of this.rows("roster").values()) if (row.kind === "monitored") monitored++;
    return { waiting, interacting, longest, agents: agents.size, monitored };
  }

  #loadSamples(): void {
    try {
      const kept = JSON.parse(sessionStorage.getItem(SAMPLES_KEY) ?? "[]") as Sample[];
      this.samples = kept.filter((one) => one[0] > Date.now() - HOUR_MS);
    } catch {
      this.samples = [];
    }
  }

  #sample(): void {
    const now = Date.now();
    if (!this.views.queues?.ready || now - (this.samples.at(-1)?.[0] ?? 0) < SAMPLE_MS) return;
    const { waiting, interacting, longest } = this.totals();
    this.samples.push([now, waiting, interacting, longest ? Math.max(0, Math.round((this.now() - longest) / 1000)) : 0]);
    while (this.samples[0]![0] < now - HOUR_MS) this.samples.shift();
    if (++this.#changes % 6 === 0) sessionStorage.setItem(SAMPLES_KEY, JSON.stringify(this.samples));
    this.tell("samples");
  }

  /** Words for how fresh the screen is. */
  freshness(): { kind: "live" | "catching" | "stale" | "stopped"; text: string } {
    const state = this.conn?.state;
    const time = clockSeconds(this.staleSince || Date.now());
    if (state === "stopped") return { kind: "stopped", text: t("conn_stopped", { time }) };
    if (this.staleSince) return { kind: "stale", text: t("conn_stale", { time }) };
    if (state === "live") return { kind: "live", text: t("conn_live") };
    return { kind: "catching", text: t(state === "catching-up" ? "conn_catching" : "conn_connecting") };
  }
}

export const model = new Model();
