/** Small pieces that several screens show: pills, avatars, waiting times, and the binocular. */
import { html, nothing, type TemplateResult } from "lit";
import type { Json } from "../sdk/hub";
import { clock, duration, has, t, type Key } from "./i18n";
import { channelIcon, icons } from "./icons";
import { model } from "./model";

export const queueName = (id: string): string => model.rows("queues").get(id)?.name || id;
export const customerName = (row: Json): string => row.customer?.name || row.customer?.id || t("unknown_name");
export const personName = (one: Json | undefined): string =>
  (one?.user_id && one.user_id === model.me.id ? t("you") : one?.name) || one?.user_id || t("unknown_name");

export function statePill(row: Json, short = false): TemplateResult {
  const taken = row.taken_over;
  return html`<span class="pill s-${row.state}">${t(`s_${row.state}` as Key)}</span>${
    taken ? html`<span class="pill s-taken" role=${short ? "img" : nothing} aria-label=${short ? t("taken_over") : nothing} title=${t("taken_over")}>${short ? icons.takeover : t("taken_over")}</span>` : nothing
  }${row.owner_away ? html`<span class="pill s-away">${t("owner_away")}</span>` : nothing}`;
}

export function channelMark(channel: string): TemplateResult {
  const name = t(`ch_${channel}` as Key);
  return html`<span class="channel" role="img" aria-label=${name} title=${name}>${channelIcon(channel)}</span>`;
}

const HUES = 8;
/** Initials on one of eight quiet colours, always the same for the same id. */
export function avatar(id: string, name: string): TemplateResult {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.codePointAt(0)!) >>> 0;
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = [words[0], words.length > 1 ? words.at(-1) : ""].map((word) => [...(word ?? "")][0] ?? "").join("");
  return html`<span class="avatar hue-${hash % HUES}" aria-hidden="true">${letters.toUpperCase()}</span>`;
}

export function statusDot(status: string): TemplateResult {
  return html`<span class="status-dot is-${status}" aria-hidden="true"></span>`;
}

/** Waiting for whom and how long; long waits are told apart in words' weight and colour. */
export function waiting(row: Json): TemplateResult | typeof nothing {
  if (!row.awaiting || !row.awaiting_since || row.state === "ended") return nothing;
  const ms = model.now() - row.awaiting_since;
  const level = row.awaiting !== "agent" ? "" : ms > 300_000 ? "late" : ms > 120_000 ? "slow" : "";
  return html`<span class="wait ${level}">${t(row.awaiting === "agent" ? "awaiting_agent" : "awaiting_customer")}
    <span class="num">${duration(ms)}</span></span>`;
}

/** The people of a row whom a supervisor could monitor. */
export const monitorable = (row: Json): Json[] =>
  (row.agents as Json[]).filter((one) => one.user_id !== model.me.id && one.state === "connected");

/**
 * The binocular of a conversation, or of one of its participants: free, greyed (held, not permitted), or one's own, which stops.
 */
export function binocular(row: Json, participant?: Json, words = false): TemplateResult | typeof nothing {
  const held = row.monitor as Json | null | undefined;
  const people = participant ? [participant] : monitorable(row);
  if (held && participant && held.participant_id !== participant.participant_id && held.user_id === model.me.id) return nothing;
  if (held?.user_id === model.me.id) {
    const label = t("monitor_stop");
    return html`<button class="spy mine ${words ? "words" : ""}" type="button" title=${t("monitor_mine", { time: clock(held.since) })} aria-label=${label}
      @click=${stop(() => model.stopMonitor(row.conversation_id))}>${icons.binoculars}${words ? html`<span>${label}</span>` : nothing}</button>`;
  }
  if (held) {
    const label = t("monitor_held", { name: held.name, time: clock(held.since) });
    return html`<button class="spy held" type="button" aria-disabled="true" aria-label=${label} title=${label} @click=${stop(() => model.toast(label, true))}>
      ${icons.binoculars}</button>`;
  }
  if (row.state !== "active" || !people.length) return nothing;
  const may = model.me.may("monitor");
  const name = personName(people[0]);
  const available = model.me.status === "available";
  const label = !may
    ? t("monitor_not_permitted")
    : people.length > 1
      ? t("monitor_pick", { n: people.length })
      : t(available ? "monitor_agent" : "monitor_status", { name });
  return html`<button class="spy ${words ? "words" : ""}" type="button" aria-disabled=${may ? "false" : "true"} aria-label=${label} title=${label}
    @click=${stop(() => may && model.monitor(row, participant?.participant_id))}>${icons.binoculars}${words ? html`<span>${t("monitor")}</span>` : nothing}</button>`;
}

/** Why a monitor or somebody's part ended, in words. */
export function whyEnded(reason: unknown): string {
  const key = `why_${reason}`;
  return has(key) ? t(key) : String(reason ?? "");
}

/** A handler that keeps the click from the row around the button. */
export function stop(handler: () => unknown): (event: Event) => void {
  return (event) => {
    event.stopPropagation();
    handler();
  };
}

export function emptyState(icon: TemplateResult, title: string, hint = "", more: unknown = nothing): TemplateResult {
  return html`<div class="empty"><span class="empty-icon">${icon}</span><p class="empty-title">${title}</p>${
    hint ? html`<p class="muted">${hint}</p>` : nothing
  }${more}</div>`;
}
