/** A conversation's timeline, drawn to scale: one lane per person, and one for monitoring; what hovers tells its times. */
import { html, nothing, svg, type SVGTemplateResult, type TemplateResult } from "lit";
import type { Json } from "../sdk/hub";
import { clock, clockSeconds, duration, has, moment, t, type Key } from "./i18n";
import { model } from "./model";
import { personName, whyEnded } from "./parts";

const LANE = 34;
const LABEL = 150;
const AXIS = 28;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].map((s) => s * 1000);

export interface Lane {
  name: string;
  kind: string;
  segments: Json[];
}

/** Segments grouped into lanes: the people in the order they came, then monitoring, by supervisor. */
export function lanes(segments: Json[]): Lane[] {
  const found = new Map<string, Lane>();
  const order = (one: Json) => (one.kind === "monitoring" ? 1 : 0);
  for (const one of [...segments].sort((a, b) => order(a) - order(b) || a.start - b.start)) {
    const who = one.user?.user_id ?? one.participant_id;
    const id = `${one.kind === "monitoring" ? "m" : "p"} ${one.purpose === "customer" ? "customer" : who}`;
    const lane: Lane = found.get(id) ?? { name: personName(one.user), kind: one.kind === "monitoring" ? "monitoring" : (one.purpose ?? ""), segments: [] };
    if (!lane.kind && one.purpose) lane.kind = one.purpose;
    lane.segments.push(one);
    found.set(id, lane);
  }
  return [...found.values()];
}

/** The words for one segment: who did what, from when to when, how long. */
export function words(one: Json, now: number): string {
  const kind = `tl_${one.kind}`;
  const end = one.end ?? now;
  const how = one.disconnect_type ? ` · ${whyEnded(one.disconnect_type)}` : one.code ? ` · ${one.code}` : "";
  return `${personName(one.user)} · ${has(kind) ? t(kind) : one.kind} · ${clockSeconds(one.start)} – ${one.end ? clockSeconds(one.end) : t("d_running")} · ${duration(end - one.start)}${how}`;
}

/** The drawing, `width` pixels wide. */
export function drawTimeline(segments: Json[], takeovers: Json[], width: number, tip: string, onTip: (text: string) => void): TemplateResult {
  const now = model.now();
  if (!segments.length) return html`<p class="muted pad">${t("d_nobody")}</p>`;
  const start = Math.min(...segments.map((one) => one.start));
  const end = Math.max(start + 1000, ...segments.map((one) => one.end ?? now), ...takeovers.map((one) => one.at));
  const label = width < 520 ? 92 : LABEL;
  const room = Math.max(120, width - label - 16);
  const x = (at: number) => label + ((at - start) / (end - start)) * room;
  const rows = lanes(segments);
  const height = AXIS + rows.length * LANE + 8;
  const step = STEPS.find((ms) => (end - start) / ms <= room / 90) ?? STEPS.at(-1)!;
  const ticks: number[] = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) ticks.push(at);
  const bar = (one: Json, lane: number): SVGTemplateResult => {
    const said = words(one, now);
    const wide = Math.max(3, x(one.end ?? now) - x(one.start));
    const y = AXIS + lane * LANE + (one.kind === "wrapup" ? 12 : 8);
    const kind = one.kind === "interact" ? `tl-${one.purpose ?? "agent"}` : `tl-${one.kind}`;
    return svg`<rect class="tl-bar ${kind} ${one.end ? "" : "tl-open"}" x=${x(one.start)} y=${y} width=${wide} height=${one.kind === "wrapup" ? 10 : 18} rx="4" tabindex="0" role="img" aria-label=${said}
      @pointerenter=${() => onTip(said)} @focus=${() => onTip(said)}></rect>`;
  };
  const crossing = (one: Json): SVGTemplateResult => {
    const said = `${t("tl_takeover")} · ${one.name} · ${clockSeconds(one.at)}`;
    return svg`<g class="tl-cross" tabindex="0" role="img" aria-label=${said} @pointerenter=${() => onTip(said)} @focus=${() => onTip(said)}>
      <line x1=${x(one.at)} x2=${x(one.at)} y1=${AXIS - 4} y2=${height - 4}></line><path d="M${x(one.at) - 6} ${AXIS - 10}h12l-6 8z"></path></g>`;
  };
  return html`<div class="tl-scroll" dir="ltr"><svg class="tl" width=${width} height=${height} viewBox="0 0 ${width} ${height}" role="group" aria-label=${t("tl_label", { from: moment(start), to: moment(end) })}>
      ${ticks.map((at) => svg`<g class="tl-tick"><line x1=${x(at)} x2=${x(at)} y1=${AXIS} y2=${height - 4}></line><text x=${x(at)} y="14" text-anchor="middle">${step < 60_000 ? clockSeconds(at) : clock(at)}</text></g>`)}
      ${rows.map((lane, index) => svg`<text class="tl-name" x="0" y=${AXIS + index * LANE + 16}>${lane.name.length > label / 8 ? `${lane.name.slice(0, Math.floor(label / 8) - 1)}…` : lane.name}</text>
        <text class="tl-role" x="0" y=${AXIS + index * LANE + 29}>${lane.kind === "monitoring" ? t("tl_monitoring") : has(`p_${lane.kind}`) ? t(`p_${lane.kind}` as Key) : ""}</text>
        <line class="tl-base" x1=${label} x2=${label + room} y1=${AXIS + index * LANE + LANE} y2=${AXIS + index * LANE + LANE}></line>${lane.segments.map((one) => bar(one, index))}`)}
      ${takeovers.map(crossing)}</svg></div>
    <p class="tl-tip" role="status">${tip || html`<span class="muted">${t("tl_hint")}</span>`}</p>
    <ul class="tl-legend">${["customer", "agent", "bot", "supervisor"].filter((kind) => rows.some((lane) => lane.kind === kind)).map((kind) => html`<li><i class="tl-${kind}"></i>${t(`p_${kind}` as Key)}</li>`)}
      ${rows.some((lane) => lane.kind === "monitoring") ? html`<li><i class="tl-monitoring"></i>${t("tl_monitoring")}</li>` : nothing}
      ${segments.some((one) => one.kind === "wrapup") ? html`<li><i class="tl-wrapup"></i>${t("tl_wrapup")}</li>` : nothing}
      ${takeovers.length ? html`<li><i class="tl-takeover"></i>${t("tl_takeover")}</li>` : nothing}</ul>
    <details class="tl-table"><summary>${t("tl_table")}</summary><div class="table-scroll" tabindex="0" role="region" aria-label=${t("tl_table")}><table><thead><tr><th>${t("tl_kind")}</th><th>${t("tl_who")}</th><th>${t("d_from")}</th><th>${t("d_to")}</th><th>${t("tl_length")}</th></tr></thead>
      <tbody>${segments.map((one) => html`<tr><td>${has(`tl_${one.kind}`) ? t(`tl_${one.kind}` as Key) : one.kind}</td><td>${personName(one.user)}</td><td class="num">${clockSeconds(one.start)}</td><td class="num">${one.end ? clockSeconds(one.end) : t("d_running")}</td><td class="num">${duration((one.end ?? now) - one.start)}</td></tr>`)}</tbody></table></div></details>`;
}
