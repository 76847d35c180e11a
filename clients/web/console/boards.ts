/** The wallboard strip, queue activity with its drill-down, agents, the roster at the side, and history. */
import { html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import uPlot from "uplot";
import type { Json } from "../sdk/hub";
import { count, duration, moment, t, type Key } from "./i18n";
import { icons } from "./icons";
import { model, type Sample } from "./model";
import { avatar, binocular, channelMark, customerName, emptyState, personName, queueName, statePill, statusDot, stop, waiting } from "./parts";
import { View } from "./view";

const HOUR_S = 3600;
/** A page that was just opened has seen little: its chart begins with this much and grows to the hour. */
const SHORTEST_S = 60;

/** One small chart of the last hour; `column` is the place in a sample. */
export class Spark extends View {
  static override properties = { column: { type: Number }, label: {}, now: {} };
  declare column: number;
  declare label: string;
  declare now: string;
  override topics = ["samples"];
  #plot: uPlot | null = null;
  #colour = "";
  #sizes = new ResizeObserver(() => this.#resize());

  override firstUpdated(): void {
    this.#sizes.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#sizes.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
  }

  #resize(): void {
    if (this.#plot) this.#plot.setSize({ width: this.clientWidth, height: this.clientHeight });
    else this.updated();
  }

  override updated(): void {
    const width = this.clientWidth;
    if (!width) return;
    const colour = getComputedStyle(this).color;
    if (colour !== this.#colour) {
      this.#plot?.destroy();
      this.#plot = null;
      this.#colour = colour;
    }
    const data = this.#data();
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = this.#draw(data, width, colour);
  }

  #data(): uPlot.AlignedData {
    const samples = model.samples.length ? model.samples : ([[Date.now(), 0, 0, 0]] as Sample[]);
    return [samples.map((one) => one[0] / 1000), samples.map((one) => one[this.column]!)];
  }

  #draw(data: uPlot.AlignedData, width: number, colour: string): uPlot {
    const options: uPlot.Options = {
      width,
      height: this.clientHeight || 34,
      legend: { show: false },
      cursor: { show: false },
      select: { show: false } as uPlot.Select,
      padding: [2, 0, 2, 0],
      axes: [{ show: false }, { show: false }],
      scales: {
        x: { time: true, range: (_plot, low) => [Math.max(Date.now() / 1000 - HOUR_S, Math.min(low || Infinity, Date.now() / 1000 - SHORTEST_S)), Date.now() / 1000] },
        y: { range: (_plot, _low, high) => [0, Math.max(4, (high || 0) * 1.15)] },
      },
      series: [{}, { stroke: colour, width: 1.5, fill: colour.replace(/^rgb\((.*)\)$/, "rgba($1, .14)"), points: { show: false }, spanGaps: true }],
    };
    return new uPlot(options, data, this.querySelector<HTMLElement>(".spark-plot")!);
  }

  override render(): TemplateResult {
    const max = Math.max(0, ...model.samples.map((one) => one[this.column]!));
    const shown = this.column === 3 ? duration(max * 1000) : count(max);
    return html`<div class="spark-plot" role="img" aria-label=${t("wall_chart", { name: this.label, now: this.now, max: shown })}></div>`;
  }
}
customElements.define("hub-spark", Spark);

export class Wallboard extends View {
  override topics = ["queues", "roster", "tick", "conn"];

  override render(): TemplateResult {
    const { waiting: waits, interacting, longest, agents, monitored } = model.totals();
    const wait = longest ? model.now() - longest : 0;
    const level = wait > 300_000 ? "late" : wait > 120_000 ? "slow" : "";
    return html`<section class="wall ${model.staleSince ? "is-stale" : ""}" aria-label=${t("wall")}>
      ${this.#tile("wall_waiting", count(waits), 1, waits ? "t-waiting" : "")} ${this.#tile("wall_interacting", count(interacting), 2, "t-interacting")}
      ${this.#tile("wall_longest", longest ? duration(wait) : "–", 3, `t-longest ${level}`)} ${this.#tile("wall_agents", count(agents), 0, "small")}
      ${this.#tile("wall_monitored", count(monitored), 0, "small")}
    </section>`;
  }

  #tile(key: Key, value: string, column: number, kind: string): TemplateResult {
    return html`<div class="tile ${kind}"><div><div class="tile-name">${t(key)}</div><div class="tile-value num">${value}</div></div>${
      column ? html`<hub-spark .column=${column} .label=${t(key)} .now=${value}></hub-spark>` : nothing
    }</div>`;
  }
}
customElements.define("hub-wallboard", Wallboard);

const byName = (a: Json, b: Json): number => (a.name || a.queue || a.user_id).localeCompare(b.name || b.queue || b.user_id);
const lineKey = (row: Json): string => row.conversation_id;

/** One conversation on one line, for drill-downs and lists. */
function line(row: Json, participant?: Json): TemplateResult {
  const people = participant ? [participant] : (row.agents as Json[]);
  return html`<li class="line">${channelMark(row.channel)}
    <a class="strong ellipsis line-name" href="#/c/${encodeURIComponent(row.conversation_id)}">${customerName(row)}</a>
    <span class="ellipsis muted line-subject" dir="auto">${row.subject ?? ""}</span>
    <span class="line-people">${people.map((one) => html`<span class="agent-cell">${one.user_id === model.me.id ? nothing : binocular(row, one)}<span class="ellipsis">${personName(one)}</span></span>`)}</span>
    <span class="line-state">${statePill(row)}</span><span class="line-wait">${waiting(row)}</span>
    <a class="button quiet" href="#/c/${encodeURIComponent(row.conversation_id)}" aria-label="${t("view_details")}: ${customerName(row)}">${t("view_details")}</a></li>`;
}

function agentLine(agent: Json): TemplateResult {
  const rows = (agent.conversations as string[]).map((id) => model.row(id)).filter((row): row is Json => Boolean(row));
  return html`<details class="fold"><summary aria-label=${t("a_expand", { name: agent.name })}>${avatar(agent.user_id, agent.name)}<span class="strong ellipsis">${agent.name}</span>
      <span class="status">${statusDot(agent.status)}${t(`st_${agent.status}` as Key)}</span>
      <span class="num muted">${agent.status_since ? duration(model.now() - agent.status_since) : ""}</span>
      <span class="load" role="img" aria-label="${t("a_load")}: ${agent.conversations.length}"><span class="num">${agent.conversations.length}</span>${agent.conversations.slice(0, 6).map(() => html`<i></i>`)}</span>${icons.down}</summary>
    ${rows.length ? html`<ul class="lines">${repeat(rows, lineKey, (row) => line(row, (row.agents as Json[]).find((one) => one.user_id === agent.user_id)))}</ul>` : html`<p class="muted pad">${t("a_no_conversations")}</p>`}
  </details>`;
}

export class Queues extends View {
  override topics = ["queues", "interactions", "agents", "tick", "route", "conn"];

  override render(): TemplateResult {
    const queues = [...model.rows("queues").values()].sort(byName); // nothing may move away under a pointer
    const open = queues.find((row) => row.queue === model.route.id);
    if (open) return this.#one(open);
    if (!queues.length) return html`<h1 class="page-title">${t("nav_queues")}</h1>${emptyState(icons.queue, t("q_none"))}`;
    const most = Math.max(1, ...queues.map((row) => row.interacting + row.waiting));
    return html`<h1 class="page-title">${t("nav_queues")}</h1><ul class="cards-grid">${repeat(
      queues,
      (row) => row.queue,
      (row) => html`<li><a class="queue-card" href="#/queues/${encodeURIComponent(row.queue)}" aria-label=${t("q_open", { name: row.name || row.queue })}>
        <span class="queue-name strong">${row.name || row.queue}</span>${icons.right}
        ${this.#figures(row)}
        <svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect width="100" height="4" class="bar-bg"></rect><rect width=${(row.interacting / most) * 100} height="4" class="bar-in"></rect><rect x=${(row.interacting / most) * 100} width=${(row.waiting / most) * 100} height="4" class="bar-wait"></rect></svg>
      </a></li>`,
    )}</ul>`;
  }

  #figures(row: Json): TemplateResult {
    const wait = row.longest_wait_since ? model.now() - row.longest_wait_since : 0;
    const level = wait > 300_000 ? "late" : wait > 120_000 ? "slow" : "";
    return html`<span class="figures"><span><b class="num ${row.waiting ? "hot" : ""}">${row.waiting}</b>${t("q_waiting")}</span><span><b class="num">${row.interacting}</b>${t("q_interacting")}</span>
      <span><b class="num wait ${level}">${wait ? duration(wait) : "–"}</b>${t("q_longest")}</span><span><b class="num">${row.on_queue_agents.length}</b>${t("q_on_queue")}</span></span>`;
  }

  #one(queue: Json): TemplateResult {
    const busy = (queue.interacting_conversations as string[]).map((id) => model.row(id)).filter((row): row is Json => Boolean(row));
    const waits = [...model.rows("interactions").values()].filter((row) => row.queue === queue.queue && row.state === "queued").sort((a, b) => a.started_at - b.started_at);
    const agents = [...(queue.on_queue_agents as Json[])].sort(byName);
    return html`<div class="page-head"><a class="button quiet" href="#/queues">${icons.back}<span>${t("nav_queues")}</span></a><h1 class="page-title">${queue.name || queue.queue}</h1>${this.#figures(queue)}</div>
      <section class="panel"><h2>${t("q_section_interacting")} <span class="count-chip">${busy.length}</span></h2>
        ${busy.length ? html`<ul class="lines">${repeat(busy.slice(0, 200), lineKey, (row) => line(row))}</ul>` : html`<p class="muted pad">${t("q_none_interacting")}</p>`}</section>
      <section class="panel"><h2>${t("q_section_agents")} <span class="count-chip">${agents.length}</span></h2>
        ${agents.length ? repeat(agents, (one) => one.user_id, (one) => agentLine({ ...one, status_since: model.rows("agents").get(one.user_id)?.status_since })) : html`<p class="muted pad">${t("q_none_agents")}</p>`}</section>
      ${waits.length ? html`<section class="panel"><h2>${t("q_section_waiting")} <span class="count-chip">${waits.length}</span></h2><ul class="lines">${repeat(waits.slice(0, 200), lineKey, (row) => line(row))}</ul></section>` : nothing}`;
  }
}
customElements.define("hub-queues", Queues);

const RANK: Record<string, number> = { on_queue: 0, available: 1, busy: 2, away: 3, break: 4, meal: 5, meeting: 6, training: 7, offline: 8 };

export class Agents extends View {
  override topics = ["agents", "interactions", "tick", "conn"];

  override render(): TemplateResult {
    const agents = [...model.rows("agents").values()].sort((a, b) => RANK[a.status]! - RANK[b.status]! || byName(a, b));
    return html`<h1 class="page-title">${t("nav_agents")} <span class="count-chip">${agents.length}</span></h1>${
      agents.length ? html`<section class="panel agents">${repeat(agents.slice(0, 500), (one) => one.user_id, agentLine)}</section>` : emptyState(icons.people, t("a_none"))
    }`;
  }
}
customElements.define("hub-agents", Agents);

export class Roster extends View {
  override topics = ["roster", "interactions", "conv", "route", "conn", "tick"];

  override render(): TemplateResult {
    const known = model.rows("roster");
    const owed = [...model.wrapups.keys()].filter((id) => !known.has(id)).map((id): Json => ({ conversation_id: id, kind: "own", since: model.row(id)?.started_at ?? model.now() }));
    const rows = [...known.values(), ...owed].sort((a, b) => (a.kind === b.kind ? a.since - b.since : a.kind === "own" ? -1 : 1));
    return html`<h2 class="roster-title">${t("roster")}${rows.length ? html` <span class="count-chip">${rows.length}</span>` : nothing}</h2>
      ${rows.length ? html`<ul class="roster-list">${repeat(rows, lineKey, (row) => this.#item(row))}</ul>` : html`<div class="roster-empty muted"><p class="strong">${t("roster_empty")}</p><p>${t("roster_empty_hint")}</p></div>`}`;
  }

  #item(one: Json): TemplateResult {
    const id = one.conversation_id as string;
    const row = model.row(id) ?? model.conversations.get(id)?.row;
    const unread = model.unread.get(id) ?? 0;
    const store = model.conversations.get(id);
    const last = store?.messages.at(-1);
    const name = row ? customerName(row) : id;
    const own = one.kind === "own";
    const here = model.route.page === "c" && model.route.id === id;
    return html`<li class="roster-item ${own ? "own" : "watched"}"><a href="#/c/${encodeURIComponent(id)}" aria-current=${here ? "page" : nothing}>
        <span class="roster-kind">${own ? icons.open : icons.binoculars}</span>
        <span class="roster-text"><span class="roster-line"><span class="strong ellipsis">${name}</span>${unread ? html`<span class="badge" role="img" aria-label=${t("unread", { n: unread })}>${unread > 99 ? "99+" : unread}</span>` : nothing}</span>
          <span class="roster-line muted"><span class="ellipsis">${last?.text || row?.subject || ""}</span><span class="num">${duration(model.now() - one.since)}</span></span>
          <span class="roster-tag">${model.wrapups.has(id) ? t("wrap_title") : own ? t("roster_own") : t("roster_monitor_message")}${row?.agents?.[0] && !own ? html` · ${personName(row.agents[0])}` : nothing}</span></span></a>
      ${own ? nothing : html`<button type="button" class="spy mine" aria-label="${t("monitor_stop")}: ${name}" title=${t("monitor_stop")} @click=${stop(() => model.stopMonitor(id))}>${icons.close}</button>`}</li>`;
  }
}
customElements.define("hub-roster", Roster);

export class History extends View {
  override topics = ["conn"];
  #rows: Json[] = [];
  #cursor: string | null = null;
  #state: "new" | "busy" | "done" = "new";
  #error = "";
  #taken = false;
  #mine = false;
  #request = 0;

  async #load(more: boolean): Promise<void> {
    const request = ++this.#request;
    this.#state = "busy";
    this.#error = "";
    this.requestUpdate();
    const wanted = new URLSearchParams({ state: "ended,wrapup", limit: "50" });
    if (this.#taken) wanted.set("taken_over", "true");
    if (this.#mine) wanted.set("monitored_by", model.me.id);
    if (more && this.#cursor) wanted.set("cursor", this.#cursor);
    try {
      const answer = await model.http(`/v1/conversations?${wanted}`);
      if (request !== this.#request) return;
      this.#rows = more ? [...this.#rows, ...answer.conversations] : answer.conversations;
      this.#cursor = answer.cursor;
    } catch (error) {
      if (request === this.#request) this.#error = model.explain(error);
    }
    if (request !== this.#request) return;
    this.#state = "done";
    this.requestUpdate();
  }

  override render(): TemplateResult {
    if (!model.me.may("history")) return html`<h1 class="page-title">${t("h_title")}</h1>${emptyState(icons.lock, t("h_need"))}`;
    if (this.#state === "new" && model.live) void this.#load(false);
    const box = (label: string, on: boolean, set: (on: boolean) => void) =>
      html`<label class="check"><input type="checkbox" .checked=${on} @change=${(event: Event) => (set((event.target as HTMLInputElement).checked), void this.#load(false))} />${label}</label>`;
    return html`<div class="page-head"><h1 class="page-title">${t("h_title")}</h1>${box(t("h_taken"), this.#taken, (on) => (this.#taken = on))}${box(t("h_mine"), this.#mine, (on) => (this.#mine = on))}
        <button type="button" class="button" @click=${() => this.#load(false)}>${t("refresh")}</button></div>
      ${this.#error ? html`<p class="error" role="alert">${this.#error}</p>` : nothing}
      ${this.#rows.length ? html`<section class="panel"><ul class="lines history">${this.#rows.map((row) => this.#line(row))}</ul></section>` : this.#state === "done" ? emptyState(icons.history, t("h_none")) : nothing}
      ${this.#cursor ? html`<p class="center"><button type="button" class="button" @click=${() => this.#load(true)}>${t("h_more")}</button></p>` : nothing}`;
  }

  #line(row: Json): TemplateResult {
    return html`<li class="line">${channelMark(row.channel)}<a class="strong ellipsis line-name" href="#/c/${encodeURIComponent(row.conversation_id)}">${customerName(row)}</a>
      <span class="ellipsis muted line-subject" dir="auto">${row.subject ?? ""}</span><span class="ellipsis line-people">${(row.agents as Json[]).map(personName).join(", ")}</span>
      <span class="line-state">${statePill(row)}</span>
      <span class="muted line-wait">${queueName(row.queue)}</span><span class="num muted">${moment(row.started_at)}</span></li>`;
  }
}
customElements.define("hub-history", History);
