/**
 * The interactions table. 10,000 rows live in one sorted array; only those in sight are in the document. A change takes the
 * changed rows out and puts them back by bisection, so that fifty changes a second cost what fifty rows cost.
 */
import { html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import type { Json } from "../sdk/hub";
import { clock, count, t, type Key } from "./i18n";
import { icons } from "./icons";
import { model } from "./model";
import { binocular, channelMark, customerName, emptyState, monitorable, personName, queueName, statePill, waiting } from "./parts";
import { View } from "./view";

interface Column {
  id: string;
  /** At least so many pixels, and this share of what is left. */
  width: [number, number];
  key: (row: Json) => string | number;
  cell: (row: Json) => unknown;
  fixed?: boolean;
}

const STATE_ORDER: Record<string, number> = { queued: 0, active: 1, wrapup: 2, ended: 3 };
const OVERSCAN = 6;
const ROW_PX = 42;
const CARD_PX = 72;
const NARROW_PX = 720;
const GAP_PX = 12;

function agents(row: Json): TemplateResult {
  const people = row.agents as Json[];
  const first = people.find((one) => one.participant_id === row.monitor?.participant_id) ?? people[0];
  if (!first) return html`<span class="nobody">${t("no_agent")}</span>`;
  const more = people.length - 1;
  return html`<span class="agent-cell">${binocular(row)}<span class="ellipsis ${first.purpose === "bot" ? "is-bot" : ""}">${personName(first)}</span>${
    more ? html`<span class="count-chip" title=${people.slice(1).map(personName).join(", ")}>+${more}</span>` : nothing
  }</span>`;
}

function holder(row: Json): unknown {
  const held = row.monitor;
  if (!held) return nothing;
  const mine = held.user_id === model.me.id;
  return html`<span class="holder ${mine ? "mine" : ""}"><span class="ellipsis">${mine ? t("you") : held.name}</span> <span class="num muted">${clock(held.since)}</span></span>`;
}

const COLUMNS: Column[] = [
  { id: "customer", width: [140, 1.3], fixed: true, key: (row) => customerName(row).toLowerCase(),
    cell: (row) => html`${channelMark(row.channel)}<a class="ellipsis strong" tabindex="-1" href="#/c/${encodeURIComponent(row.conversation_id)}">${customerName(row)}</a>` },
  { id: "subject", width: [96, 1.7], key: (row) => (row.subject ?? "").toLowerCase(),
    cell: (row) => html`<span class="ellipsis" dir="auto" title=${row.subject ?? ""}>${row.subject ?? ""}</span>` },
  { id: "queue", width: [74, 0.8], key: (row) => queueName(row.queue).toLowerCase(),
    cell: (row) => html`<span class="ellipsis">${queueName(row.queue)}</span>` },
  { id: "agents", width: [150, 1.4], fixed: true, key: (row) => (row.agents[0] ? personName(row.agents[0]).toLowerCase() : "\uffff"), cell: agents },
  { id: "state", width: [100, 0.8], key: (row) => STATE_ORDER[row.state] ?? 9, cell: (row) => statePill(row, true) },
  { id: "awaiting", width: [112, 0.8], key: (row) => (row.awaiting_since ? -row.awaiting_since + (row.awaiting === "agent" ? 1e14 : 0) : -1e15), cell: waiting },
  { id: "started", width: [58, 0], key: (row) => row.started_at, cell: (row) => html`<span class="num">${clock(row.started_at)}</span>` },
  { id: "messages", width: [74, 0], key: (row) => row.messages, cell: (row) => html`<span class="num end">${row.messages}</span>` },
  { id: "monitor", width: [110, 1], key: (row) => row.monitor?.name?.toLowerCase() ?? "\uffff", cell: holder },
];

const TABS: Record<string, (row: Json) => boolean> = {
  all: () => true,
  waiting: (row) => row.state === "queued",
  active: (row) => row.state === "active",
  wrapup: (row) => row.state === "wrapup",
  monitored: (row) => Boolean(row.monitor),
};

export class Interactions extends View {
  override topics = ["interactions", "queues", "conn", "tick"];
  #sorted: Json[] = [];
  #placed = new Map<string, Json>();
  #keys = new WeakMap<Json, string | number>();
  #hay = new WeakMap<Json, string>();
  #search = "";
  #tab = "all";
  #queue = "";
  #channel = "";
  #top = 0;
  #height = 600;
  #narrow = false;
  #stale = true;
  #scroller: HTMLElement | null = null;
  #sizes = new ResizeObserver(([entry]) => {
    const { width, height } = entry!.contentRect;
    this.#narrow = width < NARROW_PX;
    this.#height = height;
    this.requestUpdate();
  });

  override connectedCallback(): void {
    super.connectedCallback();
    this.#stale = true;
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#sizes.disconnect();
    this.#scroller = null;
  }

  protected override told(event: CustomEvent): void {
    if (event.type === "interactions") {
      const { changed, removed, whole } = event.detail as { changed: string[]; removed: string[]; whole: boolean };
      if (whole || changed.length + removed.length > 300) this.#stale = true;
      else if (!this.#stale) this.#replace(changed, removed);
    } else if (event.type === "prefs") this.#stale = true;
    this.requestUpdate();
  }

  focusSearch(): void {
    this.querySelector<HTMLInputElement>("input[type=search]")?.focus();
  }

  // -- the order --------------------------------------------------------------------------------------------------------

  get #column(): Column {
    return COLUMNS.find((one) => one.id === model.prefs.sort.column) ?? COLUMNS[0]!;
  }

  #key(row: Json): string | number {
    let key = this.#keys.get(row);
    if (key === undefined) this.#keys.set(row, (key = this.#column.key(row)));
    return key;
  }

  #compare = (a: Json, b: Json): number => {
    const [x, y] = [this.#key(a), this.#key(b)];
    const by = x < y ? -1 : x > y ? 1 : a.conversation_id < b.conversation_id ? -1 : a.conversation_id > b.conversation_id ? 1 : 0;
    return model.prefs.sort.down ? -by : by;
  };

  #matches(row: Json): boolean {
    if (!TABS[this.#tab]!(row) || (this.#queue && row.queue !== this.#queue) || (this.#channel && row.channel !== this.#channel)) return false;
    if (!this.#search) return true;
    let hay = this.#hay.get(row);
    if (hay === undefined) {
      const names = (row.agents as Json[]).map((one) => one.name).join(" ");
      hay = `${customerName(row)} ${row.subject ?? ""} ${names} ${queueName(row.queue)} ${row.conversation_id} ${row.monitor?.name ?? ""}`.toLowerCase();
      this.#hay.set(row, hay);
    }
    return this.#search.split(/\s+/).every((word) => hay.includes(word));
  }

  #rebuild(): void {
    this.#stale = false;
    this.#keys = new WeakMap();
    this.#sorted = [...model.rows("interactions").values()].filter((row) => this.#matches(row)).sort(this.#compare);
    this.#placed = new Map(this.#sorted.map((row) => [row.conversation_id, row]));
  }

  #replace(changed: string[], removed: string[]): void {
    const gone = new Set<Json>();
    for (const id of [...changed, ...removed]) {
      const old = this.#placed.get(id);
      if (old) gone.add(old);
      this.#placed.delete(id);
    }
    if (gone.size) this.#sorted = this.#sorted.filter((row) => !gone.has(row));
    const rows = model.rows("interactions");
    for (const id of new Set(changed)) {
      const row = rows.get(id);
      if (!row || !this.#matches(row)) continue;
      this.#sorted.splice(this.#place(row), 0, row);
      this.#placed.set(id, row);
    }
  }

  #place(row: Json): number {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(this.#sorted[middle]!, row) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // -- what is on screen ------------------------------------------------------------------------------------------------

  #filter(change: () => void): void {
    change();
    this.#stale = true;
    if (this.#scroller) this.#scroller.scrollTop = 0;
    this.#top = 0;
    this.requestUpdate();
  }

  #sort(column: string): void {
    const { sort } = model.prefs;
    model.prefer({ sort: sort.column === column ? { column, down: !sort.down } : { column, down: false } });
  }

  #move(by: number): void {
    const at = this.#sorted.findIndex((row) => row.conversation_id === model.selected);
    const next = Math.min(this.#sorted.length - 1, Math.max(0, at < 0 ? 0 : at + by));
    model.selected = this.#sorted[next]?.conversation_id ?? "";
    const px = this.#rowPx;
    const scroller = this.#scroller!;
    if (next * px < scroller.scrollTop) scroller.scrollTop = next * px;
    else if ((next + 1) * px > scroller.scrollTop + this.#height - 36) scroller.scrollTop = (next + 1) * px - this.#height + 36;
    this.requestUpdate();
  }

  #keydown = (event: KeyboardEvent): void => {
    if (event.target !== this.#scroller) return;
    const page = Math.max(1, Math.floor(this.#height / this.#rowPx) - 2);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 }[event.key];
    if (by !== undefined) {
      event.preventDefault();
      this.#move(by);
    } else if (event.key === "Enter" && model.selected) model.open(model.selected);
  };

  get #rowPx(): number {
    return this.#narrow ? CARD_PX : ROW_PX;
  }

  override updated(): void {
    const scroller = this.querySelector<HTMLElement>(".grid");
    if (!scroller || scroller === this.#scroller) return;
    this.#scroller = scroller;
    this.#sizes.disconnect();
    this.#sizes.observe(scroller);
  }

  override render(): TemplateResult {
    if (this.#stale) this.#rebuild();
    const all = model.rows("interactions").size;
    const ready = model.views.interactions?.ready;
    return html`<h1 class="sr">${t("nav_interactions")}</h1>
      ${this.#toolbar(all)}
      ${!ready && !all ? html`<div class="skeleton" role="status" aria-label=${t("loading")}>${[1, 2, 3, 4, 5, 6, 7, 8].map(() => html`<i></i>`)}</div>` : this.#grid(all)}`;
  }

  #toolbar(all: number): TemplateResult {
    const { hidden } = model.prefs;
    const queues = [...model.rows("queues").values()];
    const n = this.#sorted.length;
    return html`<div class="toolbar">
      <label class="search">${icons.search}<span class="sr">${t("search")}</span>
        <input type="search" placeholder=${t("search_hint")} .value=${this.#search} autocomplete="off" spellcheck="false"
          @input=${(event: Event) => this.#filter(() => (this.#search = (event.target as HTMLInputElement).value.trim().toLowerCase()))} /><kbd aria-hidden="true">/</kbd></label>
      <div class="segments" role="group" aria-label=${t("filter_state")}>${Object.keys(TABS).map(
        (tab) => html`<button type="button" aria-pressed=${this.#tab === tab} @click=${() => this.#filter(() => (this.#tab = tab))}>${t(`f_${tab}` as Key)}</button>`,
      )}</div>
      <span class="select"><select aria-label=${t("filter_queue")} @change=${(event: Event) => this.#filter(() => (this.#queue = (event.target as HTMLSelectElement).value))}>
        <option value="">${t("filter_all_queues")}</option>${queues.map((row) => html`<option value=${row.queue} ?selected=${row.queue === this.#queue}>${row.name || row.queue}</option>`)}
      </select>${icons.down}</span>
      <span class="select"><select aria-label=${t("filter_channel")} @change=${(event: Event) => this.#filter(() => (this.#channel = (event.target as HTMLSelectElement).value))}>
        <option value="">${t("filter_all_channels")}</option>${["web", "open", "sms"].map((one) => html`<option value=${one}>${t(`ch_${one}` as Key)}</option>`)}
      </select>${icons.down}</span>
      <details class="menu"><summary class="plain" aria-label=${t("columns")} title=${t("columns")}>${icons.columns}</summary><div class="menu-body">
        ${COLUMNS.filter((one) => !one.fixed).map(
          (one) => html`<label class="check"><input type="checkbox" .checked=${!hidden.includes(one.id)}
            @change=${(event: Event) => model.prefer({ hidden: (event.target as HTMLInputElement).checked ? hidden.filter((id) => id !== one.id) : [...hidden, one.id] })} />${t(`col_${one.id}` as Key)}</label>`,
        )}<button type="button" class="button quiet" @click=${() => model.prefer({ hidden: [] })}>${t("columns_reset")}</button></div></details>
      <span class="shown muted" role="status">${n === all ? t("shown_all", { n: all, all: count(all) }) : t("shown_of", { n: count(n), all: count(all) })}</span>
    </div>`;
  }

  #grid(all: number): TemplateResult {
    const { hidden, sort } = model.prefs;
    const columns = COLUMNS.filter((one) => one.fixed || !hidden.includes(one.id));
    const px = this.#rowPx;
    const from = Math.max(0, Math.floor(this.#top / px) - OVERSCAN);
    const shown = this.#sorted.slice(from, from + Math.ceil(this.#height / px) + 2 * OVERSCAN);
    const template = this.#narrow ? "1fr" : columns.map(({ width: [px, share] }) => (share ? `minmax(${px}px, ${share}fr)` : `${px}px`)).join(" ");
    const least = columns.reduce((sum, one) => sum + one.width[0] + GAP_PX, 2 * 14);
    const selectedShown = shown.some((row) => row.conversation_id === model.selected);
    return html`<div class="grid ${this.#narrow ? "cards" : ""}" role="grid" tabindex="0" aria-label=${t("nav_interactions")} aria-rowcount=${this.#sorted.length + 1}
      aria-activedescendant=${selectedShown ? `row-${model.selected}` : nothing} .style=${`--cols: ${template}; --least: ${this.#narrow ? 0 : least}px`}
      @scroll=${(event: Event) => this.#scrolled(event)} @keydown=${this.#keydown}>
      <div class="grid-head ${this.#narrow ? "sr" : ""}" role="row" aria-rowindex="1">${columns.map((one) => this.#head(one, sort))}</div>
      <div class="grid-body" role="rowgroup" .style=${`height: ${this.#sorted.length * px}px`}>${repeat(
        shown,
        (row) => row.conversation_id,
        (row, index) => this.#row(row, from + index, columns, px),
      )}</div>
      ${this.#sorted.length ? nothing : html`<div role="row"><div role="gridcell">${all ? emptyState(icons.search, t("empty_filtered"), t("empty_filtered_hint"), html`<button type="button" class="button" @click=${() => this.#clear()}>${t("clear_filters")}</button>`) : emptyState(icons.open, t("empty"), t("empty_hint"))}</div></div>`}
    </div>`;
  }

  #clear(): void {
    this.querySelectorAll("select").forEach((one) => (one.value = ""));
    this.#filter(() => ([this.#search, this.#tab, this.#queue, this.#channel] = ["", "all", "", ""]));
  }

  #scrolled(event: Event): void {
    this.#top = (event.target as HTMLElement).scrollTop;
    this.requestUpdate();
  }

  #head(column: Column, sort: { column: string; down: boolean }): TemplateResult {
    const on = sort.column === column.id;
    const name = t(`col_${column.id}` as Key);
    return html`<div role="columnheader" aria-sort=${on ? (sort.down ? "descending" : "ascending") : "none"}>
      <button type="button" title=${t("sort_by", { name })} @click=${() => this.#sort(column.id)}>${name}${on ? (sort.down ? icons.sortDown : icons.sortUp) : nothing}</button></div>`;
  }

  #row(row: Json, index: number, columns: Column[], px: number): TemplateResult {
    const id = row.conversation_id as string;
    const mine = row.monitor?.user_id === model.me.id;
    const chosen = id === model.selected;
    const open = () => {
      model.selected = id;
      model.open(id);
    };
    return html`<div class="grid-row ${chosen ? "chosen" : ""} ${mine ? "mine" : ""}" role="row" id="row-${id}" aria-rowindex=${index + 2} aria-selected=${chosen}
      .style=${`transform: translateY(${index * px}px)`} @click=${open}>${
        this.#narrow ? this.#card(row) : columns.map((one) => html`<div role="gridcell" class="c-${one.id}">${one.cell(row)}</div>`)
      }</div>`;
  }

  #card(row: Json): TemplateResult {
    return html`<div role="gridcell" class="card-cell"><div class="card-line">${channelMark(row.channel)}<span class="strong ellipsis">${customerName(row)}</span>${statePill(row)}${waiting(row)}</div>
      <div class="card-line">${agents(row)}<span class="muted ellipsis">${row.monitor ? holder(row) : monitorable(row).length ? row.subject : queueName(row.queue)}</span></div></div>`;
  }
}
customElements.define("hub-interactions", Interactions);
