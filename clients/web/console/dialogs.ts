/** Every dialog of the console, one at a time, in one native `<dialog>`: focus stays in it, Escape closes it. */
import { html, nothing, type TemplateResult } from "lit";
import type { Json } from "../sdk/hub";
import { t, type Key } from "./i18n";
import { icons } from "./icons";
import { model, type Dialog } from "./model";
import { avatar, customerName, personName } from "./parts";
import { View } from "./view";

export class Dialogs extends View {
  override topics = ["dialog", "tick"];

  override updated(): void {
    const dialog = this.querySelector("dialog")!;
    if (model.dialog && !dialog.open) dialog.showModal();
    else if (!model.dialog && dialog.open) dialog.close();
  }

  protected override told(event: CustomEvent): void {
    if (event.type === "tick" && model.dialog?.kind !== "takeover") return;
    this.requestUpdate();
  }

  override render(): TemplateResult {
    return html`<dialog class="dialog" aria-labelledby="dialog-title" @cancel=${(event: Event) => (event.preventDefault(), model.closeDialog())}
      @click=${(event: Event) => event.target === event.currentTarget && model.closeDialog()}>${model.dialog ? html`<div class="dialog-body">${this.#body(model.dialog)}</div>` : nothing}</dialog>`;
  }

  #body(dialog: Dialog): TemplateResult {
    switch (dialog.kind) {
      case "help":
        return this.#help();
      case "pick":
        return this.#pick(dialog.row, dialog.people);
      case "available":
        return this.#available(dialog.row, dialog.participant);
      case "takeover":
        return this.#takeover(dialog);
      case "release":
        return this.#release(dialog.row);
      case "reveal":
        return this.#reveal(dialog);
      case "end":
        return this.#end(dialog.id);
    }
  }

  #buttons(...buttons: unknown[]): TemplateResult {
    return html`<div class="dialog-buttons"><button type="button" class="button" @click=${() => model.closeDialog()}>${t("cancel")}</button>${buttons}</div>`;
  }

  #help(): TemplateResult {
    const keys: [string, Key][] = [["/", "k_search"], ["m", "k_monitor"], ["t", "k_takeover"], ["1 – 4", "k_sections"], ["↑ ↓", "k_move"], ["Enter", "k_open"], ["Esc", "k_close"], ["?", "k_help"]];
    return html`<h2 id="dialog-title">${t("help")}</h2><dl class="keys">${keys.map(([key, text]) => html`<dt><kbd>${key}</kbd></dt><dd>${t(text)}</dd>`)}</dl>
      <div class="dialog-buttons"><button type="button" class="button primary" @click=${() => model.closeDialog()}>${t("close")}</button></div>`;
  }

  #pick(row: Json, people: Json[]): TemplateResult {
    return html`<h2 id="dialog-title">${t("pick_title")}</h2><p class="muted">${t("pick_lead")}</p>
      <ul class="pick">${people.map((one) => html`<li><button type="button" @click=${() => (model.show(null), void model.monitor(row, one.participant_id))}>${avatar(one.user_id ?? one.participant_id, one.name ?? "?")}<span class="strong">${personName(one)}</span><span class="role r-${one.purpose}">${t(`p_${one.purpose}` as Key)}</span><span class="pick-icon">${icons.binoculars}</span></button></li>`)}</ul>${this.#buttons()}`;
  }

  #available(row: Json, participant?: string): TemplateResult {
    const go = async () => {
      if (!(await model.setStatus("available"))) return;
      model.show(null);
      await model.monitor(row, participant);
    };
    return html`<h2 id="dialog-title">${t("avail_title", { status: t(`st_${model.me.status}` as Key) })}</h2><p>${t("avail_lead")}</p>
      ${this.#buttons(html`<button type="button" class="button primary" autofocus @click=${go}>${icons.binoculars}<span>${t("avail_button")}</span></button>`)}`;
  }

  #takeover(dialog: Extract<Dialog, { kind: "takeover" }>): TemplateResult {
    const row = model.row(dialog.id);
    const name = row ? customerName(row) : t("p_customer");
    const left = dialog.prepared ? Math.ceil((dialog.prepared.expires_at - model.now()) / 1000) : 0;
    const title = html`<h2 id="dialog-title">${t("to_title")}</h2>`;
    if (!dialog.prepared || left <= 0) {
      const why = dialog.prepared ? t("to_expired") : dialog.error;
      return html`${title}${why ? html`<p class="error" role="alert">${why}</p>` : html`<p class="muted" role="status">${t("loading")}</p>`}
        ${this.#buttons(why ? html`<button type="button" class="button primary" @click=${() => model.prepare(dialog.id)}>${t("to_again")}</button>` : nothing)}`;
    }
    const { removed, wrapup, name_visible, unanswered } = dialog.prepared.consequences as Json;
    const prompt = wrapup ? t(`wp_${wrapup.prompt}` as Key, { s: Math.round((wrapup.timeout_ms ?? 0) / 1000) }) : "";
    const names = (removed as Json[]).map(personName).join(", ");
    const lines: [TemplateResult, string, string][] = [
      [icons.people, t("to_removed", { n: removed.length, names }), "warn"],
      [icons.list, wrapup ? t("to_wrapup", { prompt }) : t("to_no_wrapup"), ""],
      [icons.eye, t(name_visible ? "to_visible" : "to_hidden"), ""],
      [icons.open, unanswered ? t("to_unanswered", { n: unanswered }) : t("to_no_unanswered"), unanswered ? "warn" : ""],
    ];
    return html`${title}<p>${t("to_lead", { name })}</p><ul class="consequences">${lines.map(([icon, text, kind]) => html`<li class=${kind}>${icon}<span>${text}</span></li>`)}</ul>
      <div class="dialog-buttons"><span class="muted num expires">${t("to_expires", { s: left })}</span><button type="button" class="button" ?disabled=${dialog.busy} @click=${() => model.closeDialog()}>${t("cancel")}</button>
      <button type="button" class="button danger" ?disabled=${dialog.busy} @click=${() => model.confirm()}>${icons.takeover}<span>${t("to_confirm")}</span></button></div>`;
  }

  #release(row: Json): TemplateResult {
    const name = row.monitor?.name ?? "";
    const go = async (event: Event) => {
      event.preventDefault();
      const reason = String(new FormData(event.target as HTMLFormElement).get("reason"));
      if (await model.ask("monitor.release", { conversation_id: row.conversation_id, reason })) model.show(null);
    };
    return html`<form @submit=${go}><h2 id="dialog-title">${t("release_title", { name })}</h2><p>${t("release_lead", { name })}</p>
      <label class="field">${t("release_reason")}<input name="reason" type="text" required maxlength="200" autocomplete="off" /></label>
      ${this.#buttons(html`<button type="submit" class="button danger">${t("release_button")}</button>`)}</form>`;
  }

  #reveal(dialog: Extract<Dialog, { kind: "reveal" }>): TemplateResult {
    const go = async (event: Event) => {
      event.preventDefault();
      const reason = String(new FormData(event.target as HTMLFormElement).get("reason")).trim();
      if (reason && (await model.reveal(dialog.id, dialog.message, reason))) model.show(null);
    };
    return html`<form @submit=${go}><h2 id="dialog-title">${t("reveal_title")}</h2><p>${t("reveal_lead")}</p>
      <label class="field">${t("reveal_reason")}<input name="reason" type="text" required maxlength="200" autocomplete="off" autofocus /></label>
      ${this.#buttons(html`<button type="submit" class="button primary">${icons.eye}<span>${t("reveal_button")}</span></button>`)}</form>`;
  }

  #end(id: string): TemplateResult {
    const row = model.row(id);
    const go = async () => {
      model.show(null);
      await model.ask("conversation.end", { conversation_id: id });
    };
    return html`<h2 id="dialog-title">${t("end_title", { name: row ? customerName(row) : "" })}</h2><p>${t("end_lead")}</p>${this.#buttons(html`<button type="button" class="button danger" @click=${go}>${t("end_button")}</button>`)}`;
  }
}
customElements.define("hub-dialogs", Dialogs);
