/** Line icons on a 20 x 20 grid, in the colour of the text around them. They say nothing to screen readers. */
import { html, svg, type SVGTemplateResult, type TemplateResult } from "lit";

const draw = (paths: SVGTemplateResult): TemplateResult =>
  html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">${paths}</svg>`;

export const icons = {
  binoculars: draw(svg`<path d="M7.5 5.2V4a1 1 0 0 0-1-1H5.2a1 1 0 0 0-1 .8L2.3 12M12.5 5.2V4a1 1 0 0 1 1-1h1.3a1 1 0 0 1 1 .8l1.9 8.2M8.5 7h3M8.8 12.5a3.3 3.3 0 1 1-6.6 0 3.3 3.3 0 0 1 6.6 0ZM17.8 12.5a3.3 3.3 0 1 1-6.6 0 3.3 3.3 0 0 1 6.6 0ZM8.5 7v5.5M11.5 7v5.5M8.5 10.5h3"/>`),
  list: draw(svg`<path d="M3 5h14M3 10h14M3 15h9"/>`),
  queue: draw(svg`<path d="M3 4h14v4H3zM5 11h10M7 15h6"/>`),
  people: draw(svg`<circle cx="7.5" cy="7" r="3"/><path d="M2 16.5c.5-3 2.6-4.5 5.5-4.5s5 1.5 5.5 4.5M13 4.3a3 3 0 0 1 0 5.4M15 12.5c1.7.600 2.7 2 3 4"/>`),
  history: draw(svg`<path d="M3 10a7 7 0 1 0 2.3-5.2M3 3v3.5h3.5M10 6.5V10l2.5 2"/>`),
  eye: draw(svg`<path d="M1.8 10S4.8 4.5 10 4.5 18.2 10 18.2 10 15.2 15.5 10 15.5 1.8 10 1.8 10Z"/><circle cx="10" cy="10" r="2.5"/>`),
  search: draw(svg`<circle cx="8.5" cy="8.5" r="5"/><path d="m12.5 12.5 4.5 4.5"/>`),
  gear: draw(svg`<path d="M4 5h12M4 10h12M4 15h12"/><circle cx="7.5" cy="5" r="1.7" class="fill"/><circle cx="13" cy="10" r="1.7" class="fill"/><circle cx="6" cy="15" r="1.7" class="fill"/>`),
  help: draw(svg`<circle cx="10" cy="10" r="7.5"/><path d="M7.8 7.8a2.2 2.2 0 1 1 3.4 1.8c-.800.5-1.2.900-1.2 1.7M10 14v.1"/>`),
  columns: draw(svg`<rect x="3" y="4" width="14" height="12" rx="1.5"/><path d="M7.7 4v12M12.3 4v12"/>`),
  close: draw(svg`<path d="m5 5 10 10M15 5 5 15"/>`),
  down: draw(svg`<path d="m5.5 8 4.5 4.5L14.5 8"/>`),
  right: draw(svg`<path d="m8 5.5 4.5 4.5L8 14.5"/>`),
  back: draw(svg`<path d="M12 5.5 7.5 10l4.5 4.5"/>`),
  up: draw(svg`<path d="M10 15.5v-11M5.5 9 10 4.5 14.5 9"/>`),
  web: draw(svg`<path d="M3 4.5h14v9H9l-3.5 3v-3H3z"/><path d="M6.5 8h7M6.5 10.5h4"/>`),
  sms: draw(svg`<rect x="5.5" y="2.5" width="9" height="15" rx="2"/><path d="M9 15h2"/>`),
  open: draw(svg`<path d="M10 3a7 6.5 0 1 1-3.7 12L3 16l.900-3A6.5 6.5 0 0 1 10 3Z"/>`),
  takeover: draw(svg`<path d="M3 7h9.5M9.5 3.5 13 7l-3.5 3.5M17 13H7.5M10.5 9.5"/><path d="M16.5 4v12"/>`),
  send: draw(svg`<path d="M3 10 17 3.5 13 17l-3.2-5.2z"/><path d="M9.8 11.8 17 3.5"/>`),
  clip: draw(svg`<path d="m15.5 9-5.8 5.8a3.3 3.3 0 0 1-4.7-4.7l6.2-6.2a2.2 2.2 0 0 1 3.1 3.1l-6.2 6.2a1 1 0 0 1-1.5-1.5L12 6.3"/>`),
  check: draw(svg`<path d="m4.5 10.5 3.5 3.5 7.5-8"/>`),
  checks: draw(svg`<path d="m2 10.5 3.5 3.5 7-8M9.5 13l1 1 7-8"/>`),
  warn: draw(svg`<path d="M10 3 2.5 16.5h15zM10 8v4M10 14.3v.1"/>`),
  clock: draw(svg`<circle cx="10" cy="10" r="7"/><path d="M10 6v4l2.8 1.8"/>`),
  lock: draw(svg`<rect x="4.5" y="9" width="11" height="7.5" rx="1.5"/><path d="M7 9V6.5a3 3 0 0 1 6 0V9"/>`),
  end: draw(svg`<circle cx="10" cy="10" r="7"/><path d="M7 7h6v6H7z" class="fill"/>`),
  sortUp: draw(svg`<path d="m6 12 4-4 4 4"/>`),
  sortDown: draw(svg`<path d="m6 8 4 4 4-4"/>`),
  out: draw(svg`<path d="M8 3.5H4.5v13H8M12.5 6.5 16 10l-3.5 3.5M16 10H8"/>`),
  logo: html`<svg class="logo" viewBox="0 0 28 28" aria-hidden="true" focusable="false">${svg`<rect width="28" height="28" rx="8" class="logo-bg"/><circle cx="9.3" cy="16" r="4.3"/><circle cx="18.7" cy="16" r="4.3"/><path d="M7 12.5 8.6 7.5h2.6l1.4 5M21 12.5l-1.6-5h-2.6l-1.4 5M12.6 11.5h2.8"/>`}</svg>`,
};

/** The icon of a channel. */
export const channelIcon = (channel: string): TemplateResult =>
  channel === "sms" ? icons.sms : channel === "open" ? icons.open : icons.web;
