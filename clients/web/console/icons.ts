/** Line icons on a 20 x 20 grid, in the colour of the text around them. They say nothing to screen readers. */
import { html, svg, type SVGTemplateResult, type TemplateResult } from "lit";

const draw = (paths: SVGTemplateResult): TemplateResult =>
  html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">${paths}</svg>`;

export const icons = {
  binoculars: draw(svg`<path d="M7.5 5.2V4a1 1 0 0 0-1-1H5.2a1 1 0 0 0-1 .8L2.3 12M12.5 5.2V4a1 1 0 0 1 1-1h1.3a1 1 0 0 1 1 .8l1.9 8.2M8.5 7h3M8.8 12.5a3.3 3.3 0 1 1-6.6 0 3.3 3.3 0 0 1 6.6 0ZM17.8 12.5a3.3 3.3 0 1 1-6.6 0 3.3 3.3 0 0 1 6.6 0ZM8.5 7v5.5M11.5 7v5.5M8.5 10.5h3"/>`),
  list: draw(svg`<path d="M3 5h14M3 10h14M3 15h9"/>`),
  queue: draw(svg`<path d="M3 4h14v4H3zM5 11h10M7 15h6"/>`),
  people: draw(svg`<circle cx="7.5" cy="7" r="3"/><path d="M2 16.5c.5-3 2.6-4.5 5.500-4.500s5 1.500 5.500 4.500M13 4.300a3 3 0 0 1 0 5.400M15 12.500c1.700.600 2.700 2 3 4"/>`),
  history: draw(svg`<path d="M3 10a7 7 0 1 0 2.300-5.200M3 3v3.500h3.500M10 6.500V10l2.500 2"/>`),
  eye: draw(svg`<path d="M1.800 10S4.800 4.500 10 4.500 18.200 10 18.200 10 15.200 15.500 10 15.500 1.800 10 1.800 10Z"/><circle cx="10" cy="10" r="2.500"/>`),
  search: draw(svg`<circle cx="8.500" cy="8.500" r="5"/><path d="m12.500 12.500 4.500 4.500"/>`),
  gear: draw(svg`<path d="M4 5h12M4 10h12M4 15h12"/><circle cx="7.500" cy="5" r="1.700" class="fill"/><circle cx="13" cy="10" r="1.700" class="fill"/><circle cx="6" cy="15" r="1.700" class="fill"/>`),
  help: draw(svg`<circle cx="10" cy="10" r="7.500"/><path d="M7.800 7.800a2.200 2.200 0 1 1 3.400 1.800c-.800.500-1.200.900-1.200 1.700M10 14v.1"/>`),
  columns: draw(svg`<rect x="3" y="4" width="14" height="12" rx="1.500"/><path d="M7.700 4v12M12.300 4v12"/>`),
  close: draw(svg`<path d="m5 5 10 10M15 5 5 15"/>`),
  down: draw(svg`<path d="m5.500 8 4.500 4.500L14.500 8"/>`),
  right: draw(svg`<path d="m8 5.500 4.500 4.500L8 14.500"/>`),
  back: draw(svg`<path d="M12 5.500 7.500 10l4.500 4.500"/>`),
  up: draw(svg`<path d="M10 15.500v-11M5.500 9 10 4.500 14.500 9"/>`),
  web: draw(svg`<path d="M3 4.500h14v9H9l-3.500 3v-3H3z"/><path d="M6.500 8h7M6.500 10.500h4"/>`),
  sms: draw(svg`<rect x="5.500" y="2.500" width="9" height="15" rx="2"/><path d="M9 15h2"/>`),
  open: draw(svg`<path d="M10 3a7 6.500 0 1 1-3.700 12L3 16l.900-3A6.500 6.500 0 0 1 10 3Z"/>`),
  takeover: draw(svg`<path d="M3 7h9.500M9.500 3.500 13 7l-3.500 3.500M17 13H7.500M10.500 9.500"/><path d="M16.500 4v12"/>`),
  send: draw(svg`<path d="M3 10 17 3.500 13 17l-3.200-5.200z"/><path d="M9.800 11.800 17 3.500"/>`),
  clip: draw(svg`<path d="m15.500 9-5.800 5.800a3.300 3.300 0 0 1-4.700-4.700l6.200-6.200a2.200 2.200 0 0 1 3.100 3.100l-6.200 6.200a1 1 0 0 1-1.500-1.500L12 6.300"/>`),
  check: draw(svg`<path d="m4.500 10.500 3.500 3.500 7.500-8"/>`),
  checks: draw(svg`<path d="m2 10.500 3.500 3.500 7-8M9.500 13l1 1 7-8"/>`),
  warn: draw(svg`<path d="M10 3 2.500 16.500h15zM10 8v4M10 14.300v.1"/>`),
  clock: draw(svg`<circle cx="10" cy="10" r="7"/><path d="M10 6v4l2.800 1.800"/>`),
  lock: draw(svg`<rect x="4.500" y="9" width="11" height="7.500" rx="1.500"/><path d="M7 9V6.500a3 3 0 0 1 6 0V9"/>`),
  end: draw(svg`<circle cx="10" cy="10" r="7"/><path d="M7 7h6v6H7z" class="fill"/>`),
  sortUp: draw(svg`<path d="m6 12 4-4 4 4"/>`),
  sortDown: draw(svg`<path d="m6 8 4 4 4-4"/>`),
  out: draw(svg`<path d="M8 3.500H4.500v13H8M12.500 6.500 16 10l-3.500 3.500M16 10H8"/>`),
  logo: html`<svg class="logo" viewBox="0 0 28 28" aria-hidden="true" focusable="false">${svg`<rect width="28" height="28" rx="8" class="logo-bg"/><circle cx="9.300" cy="16" r="4.300"/><circle cx="18.700" cy="16" r="4.300"/><path d="M7 12.500 8.600 7.500h2.600l1.400 5M21 12.500l-1.600-5h-2.600l-1.400 5M12.600 11.500h2.800"/>`}</svg>`,
};

/** The icon of a channel. */
export const channelIcon = (channel: string): TemplateResult =>
  channel === "sms" ? icons.sms : channel === "open" ? icons.open : icons.web;
