/** The supervisor console: sign-in or shell, the page that the address names, keys, and what must never be missed. */
import { html, nothing, type TemplateResult } from "lit";
import type { Json } from "../sdk/hub";
import "./boards";
import type { Conversation } from "./conversation";
import "./conversation";
import "./dialogs";
import { LOCALES, clockSeconds, has, t, type Key, type Locale } from "./i18n";
import { icons } from "./icons";
import type { Interactions } from "./interactions";
import "./interactions";
import { STATUSES, model, type Prefs } from "./model";
import { avatar, statusDot } from "./parts";
import { View } from "./view";

const PAGES = ["interactions", "queues", "agents", "history"] as const;
const PAGE_ICONS = { interactions: icons.list, queues: icons.queue, agents: icons.people, history: icons.history };

class SignIn extends View {
  override topics = ["conn"];
  #personas: Json[] = [];
  #error = "";

  override async connectedCallback(): Promise<void> {
    super.connectedCallback();
    try {
      const response = await fetch("/v1/personas");
      if (response.ok) this.#personas = ((await response.json()) as Json).personas;
    } catch {
      // Only a demonstration has personas.
    }
    this.requestUpdate();
  }

  #submit = (event: Event): void => {
    event.preventDefault();
    const token = String(new FormData(event.target as HTMLFormElement).get("token")).trim();
    if (token.split(".").length === 3) return model.signIn(token);
    this.#error = t("signin_bad");
    this.requestUpdate();
  };

  #persona(one: Json): TemplateResult {
    const inside = html`${avatar(one.id, one.name)}<span class="persona-text"><span class="strong">${one.name}</span><span class="muted">${one.note || one.role}</span></span>${icons.right}`;
    if (one.role === "supervisor" || one.role === "admin") return html`<button type="button" class="persona" @click=${() => model.signIn(one.token)}>${inside}</button>`;
    const page = one.role === "customer" ? "messenger" : "desk";
    return html`<a class="persona" href="/${page}#token=${encodeURIComponent(one.token)}" target="_blank" rel="noopener">${inside}</a>`;
  }

  override render(): TemplateResult {
    return html`<main class="signin"><div class="signin-card">
      <div class="brand big">${icons.logo}<span>${t("product")}</span></div><h1>${t("signin_title")}</h1><p class="muted">${t(model.offered ? "signin_lead_provider" : "signin_lead")}</p>
      ${model.signedOut ? html`<p class="error" role="alert">${t("signin_stopped", { reason: model.signedOut })}</p>` : nothing}
      ${model.offered ? html`<a class="button primary wide" href="/sign-in?to=console">${t("signin_provider")}</a>` : nothing}
      ${this.#personas.length ? html`<h2>${t("signin_personas")}</h2><div class="personas">${this.#personas.map((one) => this.#persona(one))}</div>` : nothing}
      <form @submit=${this.#submit}><label class="field">${t("signin_token")}<textarea name="token" rows="3" required spellcheck="false" autocomplete="off"></textarea></label>
      ${this.#error ? html`<p class="error" role="alert">${this.#error}</p>` : nothing}<button type="submit" class="button ${model.offered ? "" : "primary"} wide">${t(model.offered ? "signin_with_token" : "signin_button")}</button></form></div></main>`;
  }
}
customElements.define("hub-signin", SignIn);

class Toasts extends View {
  override topics = ["toasts"];

  override render(): TemplateResult {
    return html`<div class="toasts" role="status" aria-live="polite">${model.toasts.map((one) => html`<div class="toast ${one.bad ? "bad" : ""}">${one.bad ? icons.warn : icons.check}<span>${one.text}</span><button type="button" class="plain" aria-label=${t("dismiss")} @click=${() => model.drop(one.id)}>${icons.close}</button></div>`)}</div>`;
  }
}
customElements.define("hub-toasts", Toasts);

class Freshness extends View {
  override topics = ["conn", "tick"];

  override render(): TemplateResult {
    const { kind, text } = model.freshness();
    return html`<span class="fresh is-${kind}" role="status"><i aria-hidden="true"></i><span>${text}</span></span>`;
  }
}
customElements.define("hub-freshness", Freshness);

class Banner extends View {
  override topics = ["conn", "tick"];

  override render(): TemplateResult | typeof nothing {
    const { conn } = model;
    if (!conn || !model.staleSince) return nothing;
    const time = clockSeconds(model.staleSince);
    if (conn.state === "stopped") {
      const code = { elsewhere: "close_4409", not_permitted: "close_4403", unauthenticated: "close_4401" }[conn.reason];
      const reason = code && has(code) ? t(code) : t("close_other", { code: conn.reason });
      return html`<div class="banner bad" role="alert">${icons.warn}<span>${t("conn_banner_stopped", { reason, time })}</span><button type="button" class="button" @click=${() => location.reload()}>${t("conn_retry_now")}</button></div>`;
    }
    const wait = conn.retryAt ? Math.max(0, Math.ceil((conn.retryAt - Date.now()) / 1000)) : 0;
    return html`<div class="banner" role="alert">${icons.warn}<span>${t("conn_banner", { time })} ${navigator.onLine ? (conn.state === "waiting" ? t("conn_retry_in", { s: wait }) : t("conn_trying")) : t("conn_offline")}</span>
      ${conn.state === "waiting" ? html`<button type="button" class="button" @click=${() => conn.retryNow()}>${t("conn_retry_now")}</button>` : nothing}</div>`;
  }
}
customElements.define("hub-banner", Banner);

class App extends View {
  override topics = ["conn", "route"];

  override connectedCallback(): void {
    super.connectedCallback();
    document.addEventListener("keydown", this.#keys);
    document.addEventListener("click", this.#closeMenus);
  }

  #closeMenus = (event: Event): void => {
    for (const menu of this.querySelectorAll<HTMLDetailsElement>("details.menu[open]")) if (!menu.contains(event.target as Node)) menu.open = false;
  };

  #keys = (event: KeyboardEvent): void => {
    if (event.key === "Escape") for (const menu of this.querySelectorAll<HTMLDetailsElement>("details.menu[open]")) menu.open = false;
    if (event.ctrlKey || event.metaKey || event.altKey || model.dialog || !model.conn) return;
    const target = event.target as HTMLElement;
    if (target.matches("input, textarea, select") && !(target.matches("input[type=checkbox], input[type=radio]"))) return;
    const handler = { "/": () => this.#search(), "?": () => model.show({ kind: "help" }), m: () => this.#monitor(), t: () => this.querySelector<Conversation>("hub-conversation")?.takeOver() }[event.key];
    const page = PAGES[Number(event.key) - 1];
    if (!handler && !page) return;
    event.preventDefault();
    if (page) location.hash = `/${page}`;
    else handler!();
  };

  async #search(): Promise<void> {
    if (model.route.page !== "interactions") {
      location.hash = "/interactions";
      await new Promise((done) => model.addEventListener("route", done, { once: true }));
      await this.updateComplete;
    }
    const table = this.querySelector<Interactions>("hub-interactions");
    await table?.updateComplete;
    table?.focusSearch();
  }

  #monitor(): void {
    const page = this.querySelector<Conversation>("hub-conversation");
    if (page) return page.toggleMonitor();
    const row = model.row(model.selected);
    if (!row || model.route.page !== "interactions") return;
    const held = row.monitor as Json | null;
    if (held?.user_id === model.me.id) void model.stopMonitor(row.conversation_id);
    else if (held) model.toast(t("e_monitor_held", { name: held.name, time: clockSeconds(held.since) }), true);
    else if (!model.me.may("monitor")) model.toast(t("monitor_not_permitted"), true);
    else if (row.state !== "active") model.toast(t("e_not_in_progress"), true);
    else void model.monitor(row);
  }

  override updated(): void {
    const { page, id } = model.route;
    const row = page === "c" ? model.row(id) : undefined;
    const name = page === "c" ? row?.customer?.name || id : t(`nav_${page}` as Key);
    document.title = model.conn ? `${name} · ${t("product_long")}` : t("product_long");
  }

  override render(): TemplateResult {
    if (!model.conn && model.asking) return html`<main aria-busy="true"></main>`;
    if (!model.conn) return html`<hub-signin></hub-signin>`;
    return html`<a class="skip" href="#content" @click=${this.#skip}>${t("skip")}</a>
      ${this.#top()}<hub-banner></hub-banner>${this.#notices()}
      <div class="shell"><nav class="rail" aria-label=${t("nav")}>${PAGES.map((page) => this.#tab(page))}<a class="rail-roster" href="#/roster" aria-current=${model.route.page === "roster" ? "page" : nothing}>${icons.binoculars}<span>${t("nav_roster")}</span></a></nav>
        <aside class="side" aria-label=${t("roster")}><hub-roster></hub-roster></aside>
        <main id="content" tabindex="-1" class="${model.route.page === "c" ? "on-conversation" : ""}">${model.route.page === "c" ? nothing : html`<hub-wallboard></hub-wallboard>`}<div class="page page-${model.route.page}">${this.#page()}</div></main></div>
      <hub-dialogs></hub-dialogs><hub-toasts></hub-toasts>`;
  }

  #skip = (event: Event): void => {
    event.preventDefault(); // the fragment is the route
    this.querySelector<HTMLElement>("#content")?.focus();
  };

  #tab(page: (typeof PAGES)[number]): TemplateResult {
    const here = model.route.page === page || (page === "interactions" && model.route.page === "c");
    return html`<a href="#/${page}" aria-current=${here ? "page" : nothing}>${PAGE_ICONS[page]}<span>${t(`nav_${page}`)}</span></a>`;
  }

  #page(): TemplateResult {
    switch (model.route.page) {
      case "queues":
        return html`<hub-queues></hub-queues>`;
      case "agents":
        return html`<hub-agents></hub-agents>`;
      case "history":
        return html`<hub-history></hub-history>`;
      case "roster":
        return html`<h1 class="sr">${t("roster")}</h1><hub-roster class="big"></hub-roster>`;
      case "c":
        return html`<hub-conversation .id_=${model.route.id}></hub-conversation>`;
      default:
        return html`<hub-interactions></hub-interactions>`;
    }
  }

  #notices(): unknown {
    const acknowledge = async (id: string) => {
      if (await model.ask("takeover.acknowledge", { takeover_id: id })) model.notices.delete(id);
      this.requestUpdate();
    };
    return [...model.notices.values()].map((one) => html`<div class="banner bad" role="alert">${icons.takeover}<span>${t("taken_from_you", { name: one.supervisor?.name ?? "" })}</span><a href="#/c/${encodeURIComponent(one.conversation_id)}">${t("view_details")}</a><button type="button" class="button" @click=${() => acknowledge(one.takeover_id)}>${t("acknowledge")}</button></div>`);
  }

  #top(): TemplateResult {
    const { me } = model;
    return html`<header class="top"><a class="brand" href="#/interactions" aria-label=${t("product")}>${icons.logo}<span>${t("product")}</span></a><hub-freshness></hub-freshness><span class="grow"></span>
      <span class="select status-select">${statusDot(me.status)}<select aria-label=${t("status")} .value=${me.status} @change=${(event: Event) => model.setStatus((event.target as HTMLSelectElement).value)}>${STATUSES.map((one) => html`<option value=${one} ?selected=${one === me.status}>${t(`st_${one}` as Key)}</option>`)}</select>${icons.down}</span>
      <button type="button" class="plain" aria-label=${t("help")} title="${t("help")} (?)" @click=${() => model.show({ kind: "help" })}>${icons.help}</button>
      ${this.#settings()}
      <details class="menu"><summary class="plain" aria-label="${t("account")}: ${me.name}">${avatar(me.id, me.name || "?")}</summary><div class="menu-body"><p class="strong">${me.name}</p><p class="muted mono">${me.id}</p><button type="button" class="button quiet wide" @click=${() => model.signOut()}>${icons.out}<span>${t("signout")}</span></button></div></details></header>`;
  }

  #settings(): TemplateResult {
    const { prefs } = model;
    const pick = (key: Key, name: "theme" | "locale", options: [string, string][]) => html`<label class="field">${t(key)}<span class="select"><select @change=${(event: Event) => model.prefer({ [name]: (event.target as HTMLSelectElement).value } as Partial<Prefs>)}>${options.map(([id, text]) => html`<option value=${id} ?selected=${prefs[name] === id}>${text}</option>`)}</select>${icons.down}</span></label>`;
    const notices = async (event: Event) => {
      const box = event.target as HTMLInputElement;
      const allowed = box.checked && "Notification" in window ? (await Notification.requestPermission()) === "granted" : false;
      if (box.checked && !allowed) model.toast(t("notices_denied"), true);
      box.checked = allowed;
      model.prefer({ notices: allowed });
    };
    const sound = (event: Event) => {
      model.prefer({ sound: (event.target as HTMLInputElement).checked });
      model.beep();
    };
    return html`<details class="menu"><summary class="plain" aria-label=${t("settings")} title=${t("settings")}>${icons.gear}</summary><div class="menu-body">
      ${pick("theme", "theme", [["auto", t("theme_auto")], ["light", t("theme_light")], ["dark", t("theme_dark")]])}${pick("language", "locale", Object.entries(LOCALES) as [Locale, string][])}
      <label class="check"><input type="checkbox" .checked=${prefs.sound} @change=${sound} />${t("sound")}</label><label class="check"><input type="checkbox" .checked=${prefs.notices} @change=${notices} />${t("notices")}</label></div></details>`;
  }
}

model.begin();
customElements.define("hub-app", App);
