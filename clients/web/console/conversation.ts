/** One interaction: conversation, detail and timeline; live while it is monitored or one's own, from history otherwise. */
import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import { repeat } from "lit/directives/repeat.js";
import { HubError, isHubFile, stateOf, type ConversationStore, type Json, type Message } from "../sdk/hub";
import { picture } from "../shared/picture.ts";
import { attachButton, takesFiles, trayView } from "../shared/tray.ts";
import { clock, duration, has, moment, t, type Key } from "./i18n";
import { icons } from "./icons";
import { model, type Outgoing } from "./model";
import { avatar, binocular, channelMark, customerName, emptyState, monitorable, personName, queueName, statePill, waiting, whyEnded } from "./parts";
import { drawTimeline } from "./timeline";
import { View } from "./view";

type Tab = "transcript" | "detail" | "timeline";
interface Item {
  at: number;
  key: string;
  message?: Message & { failed?: string };
  mark?: string;
}

const NEAR_END_PX = 80;
const REREAD_MS = 4_000;

/** An address that is safe to be a link: http or https, nothing else. */
export function safeLink(url: unknown): string | null {
  try {
    const made = new URL(String(url), location.origin);
    return made.protocol === "https:" || made.protocol === "http:" ? made.href : null;
  } catch {
    return null;
  }
}

/** What the hub puts in the place of what isn't shown; or of a whole text that grew too long by it. */
const MASK = /(\[[^[\]\n]*••••[^[\]\n]*\]|\[…\])/;

/** True where something of what was said is masked; a number that is its sender's name is masked in each message. */
function covers(message: Message): boolean {
  return [message.text, ...message.attachments.map((file) => String(file.name))].some((text) => MASK.test(text));
}

/** A masked text, its masks marked as such for the eye and for a screen reader. */
function masked(text: string): unknown[] {
  return text.split(MASK).map((part, index) =>
    index % 2 ? html`<span class="masked"><span aria-hidden="true">${part}</span><span class="sr">${t("masked", { what: part.slice(1, -1).replace("••••", " ") })}</span></span>` : part,
  );
}

export class Conversation extends View {
  static override properties = { id_: { attribute: false } };
  declare id_: string;
  override topics = ["conv", "interactions", "roster", "conn", "tick", "queues"];
  #tab: Tab = "transcript";
  #panel = "";
  #detail: Json | null = null;
  #segments: Json[] = [];
  #past: Json[] = [];
  #error = "";
  #tip = "";
  #readAt = 0;
  #shown = "";
  #atEnd = true;
  #fresh = 0;
  #typingAt = 0;
  #olderDone = false;
  #chosen = false;
  #width = 800;
  #sizes = new ResizeObserver(([entry]) => {
    this.#width = Math.round(entry!.contentRect.width);
    this.requestUpdate();
  });

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#sizes.disconnect();
  }

  override firstUpdated(): void {
    this.#sizes.observe(this);
  }

  protected override told(event: CustomEvent): void {
    if (event.type === "conv" && event.detail && event.detail !== this.id_) return;
    if (event.type === "interactions" && !(event.detail.changed.includes(this.id_) || event.detail.removed.includes(this.id_))) return;
    if (event.type === "interactions" || (event.type === "conv" && this.#tab !== "transcript")) this.#readAt = Math.min(this.#readAt, Date.now() - REREAD_MS + 400);
    this.requestUpdate();
  }

  get #store(): ConversationStore | undefined {
    return model.conversations.get(this.id_);
  }

  get #row(): Json | undefined {
    return model.row(this.id_) ?? this.#detail?.conversation ?? this.#store?.row;
  }

  /** Live: this person monitors it or answers it. */
  get #live(): boolean {
    return Boolean(this.#store) && this.#store!.ended === null && (model.monitors(this.id_) || model.owns(this.id_));
  }

  // -- what history knows -----------------------------------------------------------------------------------------------

  async #read(): Promise<void> {
    const id = this.id_;
    this.#readAt = Date.now();
    const path = `/v1/conversations/${encodeURIComponent(id)}`;
    try {
      const [detail, timeline] = await Promise.all([model.http(path), model.http(`${path}/timeline`)]);
      if (id !== this.id_) return;
      [this.#detail, this.#segments, this.#error] = [detail, timeline.segments, ""];
      // Marks of what happened aren't in a snapshot, so the history is read while it is live, too.
      this.#past = (await model.http(`${path}/transcript?limit=200`)).entries;
    } catch (error) {
      if (id === this.id_ && !(error instanceof HubError && error.code === "offline")) this.#error = error instanceof HubError && error.code === "unknown_conversation" ? t("conv_missing") : model.explain(error);
    }
    this.requestUpdate();
  }

  async #older(): Promise<void> {
    const store = this.#store;
    const first = store ? (store.messages[0] as Json | undefined) : this.#past[0];
    if (!first?.offset) return;
    try {
      const { entries } = await model.http(`/v1/conversations/${encodeURIComponent(this.id_)}/transcript?before=${first.offset}&limit=100`);
      if (entries.length < 100) this.#olderDone = true;
      if (store) store.prepend(entries.filter((one: Json) => one.kind === "message"));
      else this.#past = [...entries, ...this.#past];
    } catch (error) {
      model.toast(model.explain(error), true);
    }
    this.requestUpdate();
  }

  protected override willUpdate(): void {
    if (this.#shown !== this.id_) {
      this.#shown = this.id_;
      [this.#detail, this.#segments, this.#past, this.#error, this.#tip, this.#readAt] = [null, [], [], "", "", 0];
      [this.#atEnd, this.#fresh, this.#olderDone, this.#panel] = [true, 0, false, ""];
      this.#chosen = false;
    }
    if (!this.#chosen) {
      const running = this.#row && this.#row.state !== "ended" && this.#row.state !== "wrapup";
      this.#tab = running && !this.#live ? "detail" : "transcript";
    }
    const moved = this.#detail && this.#live && this.#row?.owner_epoch !== this.#detail.conversation.owner_epoch;
    const due = !this.#detail || moved || ((this.#tab !== "transcript" || !this.#live) && Date.now() - this.#readAt > REREAD_MS && this.#detail.conversation.state !== "ended");
    if (model.live && due && Date.now() - this.#readAt > 1000 && !this.#error) void this.#read();
  }

  protected override updated(): void {
    const list = this.querySelector<HTMLElement>(".messages");
    if (list && this.#atEnd) list.scrollTop = list.scrollHeight;
    if (this.#live && !document.hidden) model.unread.delete(this.id_);
  }

  // -- drawing ----------------------------------------------------------------------------------------------------------

  override render(): TemplateResult {
    const row = this.#row;
    if (!row) return html`<div class="conv">${this.#error ? emptyState(icons.lock, this.#error, "", html`<a class="button" href="#/interactions">${t("nav_interactions")}</a>`) : html`<div class="skeleton" role="status" aria-label=${t("loading")}><i></i><i></i><i></i><i></i></div>`}</div>`;
    const tabs: Tab[] = ["transcript", "detail", "timeline"];
    return html`<div class="conv">
      ${this.#head(row)}
      <div class="tabs" role="tablist" aria-label=${customerName(row)} @keydown=${this.#tabKeys}>${tabs.map(
        (tab) => html`<button type="button" role="tab" id="tab-${tab}" aria-controls="panel-main" aria-selected=${this.#tab === tab} tabindex=${this.#tab === tab ? 0 : -1} @click=${() => this.#to(tab)}>${t(`tab_${tab}` as Key)}</button>`,
      )}</div>
      <div class="conv-body" id="panel-main" role="tabpanel" tabindex=${this.#tab === "transcript" ? nothing : 0} aria-labelledby="tab-${this.#tab}">${
        this.#tab === "transcript" ? this.#transcript(row) : this.#tab === "detail" ? this.#details(row) : this.#timeline()
      }</div></div>`;
  }

  #to(tab: Tab): void {
    this.#tab = tab;
    this.#chosen = true;
    this.#atEnd = true;
    if (tab !== "transcript") this.#readAt = 0;
    if (tab !== "transcript" && model.live) void this.#read();
    this.requestUpdate();
  }

  #tabKeys = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const all = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("[role=tab]")];
    const rtl = document.documentElement.dir === "rtl" ? -1 : 1;
    const next = all[(all.indexOf(event.target as HTMLElement) + by * rtl + all.length) % all.length]!;
    next.focus();
    next.click();
  };

  /** Why a takeover isn't possible now; empty where it is. */
  #whyNot(row: Json): Key | "" {
    if (!model.me.may("takeover")) return "to_why_permission";
    if (row.state === "ended" || row.state === "wrapup") return "to_why_ended";
    if (model.owns(this.id_)) return "to_why_own";
    if (row.state === "queued") return "to_why_queued";
    if (!model.monitors(this.id_)) return "to_why_monitor";
    if (!model.live || model.staleSince) return "to_why_stale";
    return "";
  }

  /** Take over, from the keyboard: asks, or says why not. */
  takeOver(): void {
    const why = this.#row ? this.#whyNot(this.#row) : "";
    if (why) model.toast(t(why), true);
    else void model.prepare(this.id_);
  }

  toggleMonitor(): void {
    const row = this.#row;
    if (!row) return;
    if (row.monitor?.user_id === model.me.id) void model.stopMonitor(this.id_);
    else (this.querySelector(".conv-head .spy") as HTMLElement | null)?.click();
  }

  #head(row: Json): TemplateResult {
    const own = model.owns(this.id_);
    const why = this.#whyNot(row);
    const held = row.monitor && row.monitor.user_id !== model.me.id;
    const people = row.agents as Json[];
    const several = monitorable(row).length > 1 && !row.monitor;
    return html`<header class="conv-head">
      ${own ? html`<span class="own-mark" title=${t("roster_own")}>${icons.open}</span>` : binocular(row, undefined, !held)}
      <div class="conv-title"><h1>${customerName(row)}</h1>
        <p class="muted"><span class="conv-channel">${channelMark(row.channel)}</span><span class="ellipsis">${row.subject ?? ""}</span></p></div>
      <div class="conv-facts">${statePill(row)}<span class="pill">${queueName(row.queue)}</span>
        ${people.map((one) => html`<span class="pill person ${one.participant_id === row.owner ? "owner" : ""}">${several && one.user_id !== model.me.id ? binocular(row, one) : nothing}${personName(one)}<span class="sr"> (${t(`p_${one.purpose}` as Key)})</span></span>`)}
        ${held ? html`<span class="pill held-by">${icons.lock}${t("monitor_held", { name: row.monitor.name, time: clock(row.monitor.since) })}</span>` : nothing}
        ${held && model.me.may("release") ? html`<button type="button" class="button quiet" @click=${() => model.show({ kind: "release", row })}>${t("release")}</button>` : nothing}${waiting(row)}</div>
      <div class="conv-actions">${
        own
          ? html`<button type="button" class="button" @click=${() => model.show({ kind: "end", id: this.id_ })}>${icons.end}<span>${t("end")}</span></button>`
          : row.state === "ended" || row.state === "wrapup"
            ? nothing
            : html`<button type="button" class="button ${why ? "" : "primary"}" aria-disabled=${why ? "true" : "false"} aria-describedby="why-not" title=${why ? t(why) : `${t("takeover")} (t)`}
          @click=${() => this.takeOver()}>${icons.takeover}<span>${t("takeover")}</span></button><span id="why-not" class="why">${why ? t(why) : ""}</span>`
      }</div></header>`;
  }

  // -- conversation -----------------------------------------------------------------------------------------------------

  #items(): Item[] {
    const store = this.#store;
    if (!store || (!this.#live && this.#past.length)) return this.#past.map((one) => this.#pastItem(one));
    const items: Item[] = store.messages.map((message) => ({ at: message.at, key: message.message_id, message }));
    for (const one of this.#past) {
      const known = one.kind === "message" || store.marks.some((mark) => mark.at === one.at && (mark.kind === "takeover" || mark.kind === "transferred"));
      if (!known && one.at >= (store.messages[0]?.at ?? 0)) items.push(this.#pastItem(one));
    }
    store.marks.forEach((mark, index) => {
      const said = this.#markText(store, mark.kind, mark.data);
      if (said) items.push({ at: mark.at, key: `mark-${index}`, mark: said });
    });
    return items.sort((a, b) => a.at - b.at);
  }

  #pastItem(one: Json): Item {
    const key = `${one.kind}-${one.offset}`;
    if (one.kind === "message") return { at: one.at, key, message: { ...one, attachments: one.attachments ?? [] } as any };
    if (one.kind === "transfer") return { at: one.at, key, mark: t("mark_transfer", { queue: queueName(one.queue) }) };
    const who = (this.#detail?.takeovers as Json[] | undefined)?.find((each) => each.takeover_id === one.takeover_id);
    return { at: one.at, key, mark: t("mark_takeover", { name: personName(who) }) };
  }

  #markText(store: ConversationStore, kind: string, data: Json): string {
    const name = data.participant ? personName(data.participant) : "";
    if (kind === "connected") return data.participant.purpose === "customer" ? "" : t("joined", { name });
    if (kind === "disconnected") {
      const how = `left_${data.disconnect_type}`;
      return t(has(how) ? how : "left", { name });
    }
    if (kind === "transferred") return t("mark_transfer", { queue: queueName(data.queue) });
    if (kind === "takeover") return t("mark_takeover", { name: personName(store.people.get(data.to) as Json) });
    return t("mark_ended");
  }

  #person(message: Message): Json {
    const id = message.participant_id ?? "";
    const here = this.#store?.people.get(id) as Json | undefined;
    const past = (this.#detail?.participants as Json[] | undefined)?.find((one) => one.participant_id === id);
    if (message.purpose === "customer") return { name: this.#row ? customerName(this.#row) : "", user_id: "customer" };
    return here ?? past ?? { name: message.name ?? t(`p_${message.purpose ?? "agent"}` as Key) };
  }

  #transcript(row: Json): TemplateResult {
    const over = row.state === "ended" || row.state === "wrapup";
    if (!this.#live && !over) {
      const can = monitorable(row).length > 0 && !row.monitor;
      return emptyState(icons.binoculars, t("not_watching"), row.monitor ? t("monitor_held", { name: row.monitor.name, time: clock(row.monitor.since) }) : t(row.state === "queued" ? "not_watching_queued" : "not_watching_hint"), can ? html`<p>${binocular(row, undefined, true)}</p>` : nothing);
    }
    const items = this.#items();
    const offset = (this.#store && this.#live ? (this.#store.messages[0] as Json | undefined)?.offset : this.#past[0]?.offset) as number | undefined;
    const older = !this.#olderDone && items.length >= 50 && (offset ?? 0) > 1;
    return html`<div class="talk"><div class="stream">
        <div class="messages" tabindex="0" role="log" aria-label=${t("transcript")} @scroll=${this.#scrolled}>
          ${older ? html`<p class="center"><button type="button" class="button quiet" @click=${() => this.#older()}>${t("older")}</button></p>` : nothing}
          ${items.length ? repeat(items, (one) => one.key, (one, index) => (one.message ? this.#message(one.message, items[index - 1]?.message) : html`<p class="mark"><span>${one.mark}</span> <time class="num">${clock(one.at)}</time></p>`)) : html`<p class="muted center">${t("no_messages")}</p>`}
          ${(model.outgoing.get(this.id_) ?? []).map((one) => this.#outgoing(one))}
          ${this.#typists()}</div>
        ${!this.#atEnd && this.#fresh ? html`<button type="button" class="button primary to-end" @click=${() => this.#toEnd()}>${icons.down}<span>${t("new_messages")}</span></button>` : nothing}
        ${this.#below(row)}</div>
      ${this.#panels()}</div>`;
  }

  #scrolled = (event: Event): void => {
    const list = event.target as HTMLElement;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
    if (atEnd === this.#atEnd) return;
    this.#atEnd = atEnd;
    this.#fresh = atEnd ? 0 : 1;
    this.requestUpdate();
  };

  #toEnd(): void {
    this.#atEnd = true;
    this.requestUpdate();
  }

  #typists(): unknown {
    const store = this.#store;
    if (!store || !this.#live) return nothing;
    const names = store.typists().map((id) => {
      const one = store.people.get(id) as Json | undefined;
      return one && one.purpose !== "customer" ? (one.user_id === model.me.id ? "" : personName(one)) : customerName(store.row);
    });
    return names.filter(Boolean).map((name) => html`<p class="typing"><span class="dots" aria-hidden="true"><i></i><i></i><i></i></span>${t("typing", { name })}</p>`);
  }

  #message(said: Message & { failed?: string }, before: Message | undefined): TemplateResult {
    const revealed = model.monitors(this.id_) ? model.revealed.get(this.id_)?.get(said.message_id) : undefined;
    const message = revealed ? { ...said, ...revealed, masked: false, status: said.status } : said;
    const purpose = message.purpose ?? "agent";
    const one = this.#person(message);
    const mine = one.user_id === model.me.id;
    const name = mine ? t("you") : one.name || t("unknown_name");
    const joined = before && before.participant_id === message.participant_id && before.purpose === message.purpose && message.at - before.at < 120_000;
    return html`<article class="msg from-${purpose} ${joined ? "joined" : ""}">
      ${joined ? nothing : html`<header>${avatar(String(one.user_id ?? name), one.name || name)}<span class="strong">${name}</span><span class="role r-${purpose}">${t(`p_${purpose}` as Key)}</span><time class="num muted">${clock(message.at)}</time></header>`}
      <div class="bubble">${message.text ? html`<p class="text" dir="auto">${message.masked ? masked(message.text) : message.text}</p>` : nothing}${message.attachments.map((file) => this.#attachment(file))}</div>
      ${this.#cover(message, Boolean(revealed))}${this.#receipt(message)}</article>`;
  }

  /** Below a masked message: the way to read it, for those who may; below one that was revealed, the way back. */
  #cover(message: Message, revealed: boolean): unknown {
    const id = this.id_;
    if (revealed) return html`<button type="button" class="button quiet cover" @click=${() => model.hide(id, message.message_id)}>${icons.eye}<span>${t("reveal_hide")}</span></button>`;
    if (!message.masked || !covers(message) || !this.#live || !model.monitors(id) || !model.me.may("reveal")) return nothing;
    return html`<button type="button" class="button quiet cover" aria-haspopup="dialog" @click=${() => model.show({ kind: "reveal", id, message: message.message_id })}>${icons.eye}<span>${t("reveal")}</span></button>`;
  }

  #attachment(file: Json): TemplateResult {
    const href = safeLink(file.url);
    const name = String(file.name || file.url);
    if (isHubFile(file.url)) {
      return html`<button type="button" class="file" aria-label=${t("openFile", { name })} @click=${() => model.save(file as any)}>${picture(file as any, model.files)}${icons.clip}<bdi class="ellipsis">${name}</bdi><span class="muted">${String(file.mime ?? "")}</span></button>`;
    }
    if (!href?.startsWith("https:")) return html`<span class="file inert">${icons.clip}<span class="ellipsis">${t("attachment_unsafe", { name })}</span></span>`;
    return html`<a class="file" href=${href} target="_blank" rel="noopener noreferrer" aria-label=${t("attachment", { name })}>${icons.clip}<span class="ellipsis">${name}</span><span class="muted">${String(file.mime ?? "")}</span></a>`;
  }

  #receipt(message: Message): unknown {
    const state = stateOf(message);
    if (!state) return nothing;
    const icon = { pending: icons.clock, sent: icons.check, delivered: icons.checks, read: icons.checks, failed: icons.warn }[state];
    const said = state === "failed" && message.reason ? t("r_failed_why", { reason: message.reason }) : t(`r_${state}` as Key);
    return html`<span class="receipt is-${state}">${icon}${said}</span>`;
  }

  /** What is on its way, or was refused. */
  #outgoing(one: Outgoing): TemplateResult {
    const again = html`<button type="button" class="button quiet" @click=${() => void model.deliver(this.id_, one)}>${t("send_again")}</button>
      <button type="button" class="button quiet" @click=${() => model.discard(this.id_, one)}>${t("send_discard")}</button>`;
    return html`<article class="msg from-supervisor pending">
      <div class="bubble">${one.text ? html`<p class="text" dir="auto">${one.text}</p>` : nothing}${one.attachments.map((file) => this.#attachment(file))}</div>
      ${one.problem
        ? html`<p class="receipt is-failed" role="alert">${icons.warn}${t("unsent", { why: one.problem })} ${again}</p>`
        : html`<span class="receipt">${icons.clock}${t("sending")}</span>`}</article>`;
  }

  #below(row: Json): unknown {
    const form = model.wrapups.get(this.id_);
    if (form) return this.#wrapup(form);
    if (!model.owns(this.id_) || !this.#live) return nothing;
    const name = customerName(row);
    const tray = model.tray(this.id_);
    const files = takesFiles(tray);
    return html`<form class="composer" @submit=${this.#submit} @dragover=${files.over} @drop=${files.drop} @paste=${files.paste}>
      ${trayView(tray, t)}${attachButton(tray, t, "button attach")}
      <label class="sr" for="composer">${t("composer", { name })}</label>
      <textarea id="composer" rows="2" maxlength="8000" placeholder=${t("composer_hint")} .value=${live(model.drafts.get(this.id_) ?? "")} @input=${this.#typed} @keydown=${this.#composerKeys}></textarea>
      <button type="submit" class="button primary" aria-disabled=${tray.busy ? "true" : "false"}>${icons.send}<span>${t("send")}</span></button></form>`;
  }

  #typed = (event: Event): void => {
    const { value } = event.target as HTMLTextAreaElement;
    model.drafts.set(this.id_, value);
    if (!value || Date.now() - this.#typingAt < 3000) return;
    this.#typingAt = Date.now();
    model.conn?.typing(this.id_, true);
  };

  #composerKeys = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    (event.target as HTMLTextAreaElement).form?.requestSubmit();
  };

  #submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const id = this.id_;
    const text = (model.drafts.get(id) ?? "").trim();
    const tray = model.tray(id);
    if (tray.busy || !(text || tray.ready)) return;
    model.drafts.delete(id);
    model.send(id, text);
    model.conn?.typing(id, false);
    this.#typingAt = 0;
    this.#atEnd = true;
    this.requestUpdate();
    await this.updateComplete;
    this.querySelector<HTMLElement>("#composer")?.focus();
  };

  #wrapup(form: { prompt: string; codes: string[]; until: number | null }): TemplateResult {
    const left = form.until ? form.until - model.now() : null;
    return html`<form class="wrapup" @submit=${this.#submitWrapup} aria-labelledby="wrap-title">
      <div class="wrap-head"><h2 id="wrap-title">${t("wrap_title")}</h2>${left !== null ? html`<span class="pill num ${left < 15_000 ? "s-away" : ""}" role="timer">${t("wrap_left", { time: duration(left) })}</span>` : nothing}</div>
      <p class="muted">${t("wrap_lead")}</p>
      <fieldset><legend>${t("wrap_code")}</legend>${form.codes.map((code, index) => html`<label class="choice"><input type="radio" name="code" value=${code} required ?checked=${form.codes.length === 1 && index === 0} /><span>${code}</span></label>`)}
        ${form.codes.length ? nothing : html`<input name="code" type="text" required maxlength="64" aria-label=${t("wrap_code")} />`}</fieldset>
      <label class="field">${t("wrap_notes")}<textarea name="notes" rows="2" maxlength="2000"></textarea></label>
      <button type="submit" class="button primary">${t("wrap_submit")}</button></form>`;
  }

  #submitWrapup = async (event: Event): Promise<void> => {
    event.preventDefault();
    const data = new FormData(event.target as HTMLFormElement);
    const notes = String(data.get("notes") ?? "").trim();
    await model.ask("wrapup.submit", { conversation_id: this.id_, code: String(data.get("code")), ...(notes ? { notes } : {}) });
    this.#readAt = 0;
    this.requestUpdate();
  };

  // -- panels -----------------------------------------------------------------------------------------------------------

  #panels(): TemplateResult {
    const panels = this.#store?.panels ?? new Map<string, unknown>();
    const names = [...panels.keys()];
    const chosen = names.includes(this.#panel) ? this.#panel : (names[0] ?? "");
    return html`<aside class="context" aria-label=${t("panels")}>
      ${names.length ? html`<div class="tabs small" role="tablist" aria-label=${t("panels")} @keydown=${this.#tabKeys}>${names.map(
            (name, index) => html`<button type="button" role="tab" id="ptab-${index}" aria-controls="panel-context" aria-selected=${name === chosen} tabindex=${name === chosen ? 0 : -1} @click=${() => ((this.#panel = name), this.requestUpdate())}>${tidy(name)}</button>`,
          )}</div><div class="panel-content" id="panel-context" role="tabpanel" tabindex="0" aria-labelledby="ptab-${names.indexOf(chosen)}">${value(panels.get(chosen))}</div>`
        : html`<p class="muted pad">${this.#live ? t("panels_none") : t("panels_need_monitor")}</p>`}</aside>`;
  }

  // -- detail and timeline ----------------------------------------------------------------------------------------------

  #details(row: Json): TemplateResult {
    const detail = this.#detail;
    if (!detail) return html`${this.#error ? html`<p class="error" role="alert">${this.#error}</p>` : html`<div class="skeleton" role="status" aria-label=${t("loading")}><i></i><i></i><i></i></div>`}`;
    const { metrics } = detail;
    const open = row.state !== "ended";
    const length = open ? model.now() - row.started_at : metrics.duration_ms;
    const figures: [Key, string | number][] = [["d_duration", duration(length)], ["d_messages", metrics.messages], ["d_n_monitor", metrics.n_monitor], ["d_monitoring", duration(metrics.monitoring_ms)], ["d_n_takeover", metrics.n_takeover], ["d_n_transfer", metrics.n_transfer ?? 0], ["d_wrapup", duration(metrics.wrapup_ms ?? 0)]];
    const span = (from: number, to: number | null) => html`<span class="num">${moment(from)} – ${to ? moment(to) : t("d_running")}</span> <span class="num muted">${duration((to ?? model.now()) - from)}</span>`;
    return html`<div class="detail">
      <dl class="metrics">${figures.map(([key, shown]) => html`<div><dt>${t(key)}</dt><dd class="num">${shown}</dd></div>`)}</dl>
      <section class="panel"><h2>${t("d_monitors")}</h2>${this.#people(detail.monitors, (one) => html`<span class="mon-icon" role="img" aria-label=${t("tl_monitoring")}>${icons.binoculars}</span><span class="strong">${personName(one)}</span>${span(one.from, one.to)}<span class="muted">${whyEnded(one.reason)}</span>`)}</section>
      <section class="panel"><h2>${t("d_takeovers")}</h2>${this.#people(detail.takeovers, (one) => html`<span class="take-icon">${icons.takeover}</span><span class="strong">${personName(one)}</span><span class="num">${moment(one.at)}</span>`)}</section>
      <section class="panel"><h2>${t("d_participants")}</h2>${this.#people(detail.participants, (one) => html`${avatar(String(one.user_id ?? one.participant_id), one.name || "?")}<span class="strong">${personName(one)}</span><span class="role r-${one.purpose}">${t(`p_${one.purpose}` as Key)}</span>${span(one.connected_at, one.disconnected_at)}<span class="muted">${whyEnded(one.disconnect_type)}</span>`)}</section>
      <section class="panel"><h2>${t("d_wrapups")}</h2>${this.#people(detail.wrapups, (one) => html`<span class="strong">${personName(one)}</span><span class="pill">${one.code ?? (one.timed_out ? t("d_timed_out") : t(one.ended_at ? "d_no_code" : "d_running"))}</span>${span(one.requested_at, one.ended_at)}<span class="muted ellipsis">${one.notes ?? ""}</span>`)}</section>
      <section class="panel"><h2>${t("d_about")}</h2><dl class="kv pad"><dt>${t("d_id")}</dt><dd class="mono">${row.conversation_id}</dd><dt>${t("col_queue")}</dt><dd>${queueName(row.queue)}</dd><dt>${t("d_division")}</dt><dd>${row.division ?? "–"}</dd><dt>${t("filter_channel")}</dt><dd>${t(`ch_${row.channel}` as Key)}</dd><dt>${t("d_started")}</dt><dd>${moment(row.started_at)}</dd></dl></section></div>`;
  }

  #people(list: Json[], draw: (one: Json) => TemplateResult): TemplateResult {
    if (!list.length) return html`<p class="muted pad">${t("d_nobody")}</p>`;
    return html`<ul class="people">${list.map((one) => html`<li>${draw(one)}</li>`)}</ul>`;
  }

  #timeline(): TemplateResult {
    if (!this.#detail) return html`<div class="skeleton" role="status" aria-label=${t("loading")}><i></i><i></i><i></i></div>`;
    const tip = (text: string) => {
      this.#tip = text;
      this.requestUpdate();
    };
    return html`<section class="panel timeline">${drawTimeline(this.#segments, this.#detail.takeovers, Math.max(280, Math.min(1400, this.#width - 64)), this.#tip, tip)}</section>`;
  }
}
customElements.define("hub-conversation", Conversation);

/** `order_total` and `orderTotal` as words. */
export function tidy(name: string): string {
  const spaced = name.replace(/([a-z\d])([A-Z])/g, "$1 $2").replace(/[_-]+/g, " ").trim();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

const DEPTH_MAX = 4;

/** Any JSON as tidy words: objects as key and value, lists as lists. */
export function value(content: unknown, depth = 0): unknown {
  if (content === null || content === undefined || content === "") return html`<span class="muted">–</span>`;
  if (typeof content !== "object" || depth >= DEPTH_MAX) {
    if (typeof content === "boolean") return t(content ? "yes" : "no");
    const text = typeof content === "object" ? JSON.stringify(content) : String(content);
    const href = /^https?:\/\//i.test(text) ? safeLink(text) : null;
    return href ? html`<a href=${href} target="_blank" rel="noopener noreferrer">${text}</a>` : html`<span dir="auto">${text}</span>`;
  }
  if (Array.isArray(content)) return html`<ul class="kv-list">${content.slice(0, 100).map((one) => html`<li>${value(one, depth + 1)}</li>`)}</ul>`;
  return html`<dl class="kv">${Object.entries(content).slice(0, 200).map(([name, one]) => html`<dt>${tidy(name)}</dt><dd>${value(one, depth + 1)}</dd>`)}</dl>`;
}
