/** A contextual panel whose form nobody told us: its content as a tidy list of names and values, as text alone. */

import { html, type TemplateResult } from 'lit';
import { safeHref } from './ui.ts';

const DEPTH_MAX = 4;

/** `order_id` and `orderId` as `Order id`. */
export function label(key: string): string {
  const spaced = key.replace(/[_-]+/g, ' ').replace(/([a-z0-9])([A-Z])/g, '$1 $2').trim();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

function leaf(value: unknown): TemplateResult {
  if (value === null || value === undefined || value === '') return html`<span class="muted">–</span>`;
  if (typeof value === 'boolean') return html`${value ? '✓' : '✗'}`;
  const href = typeof value === 'string' && /^https?:\/\//i.test(value) ? safeHref(value) : null;
  if (href) return html`<a href=${href} target="_blank" rel="noopener noreferrer nofollow">${value}</a>`;
  return html`${String(value)}`;
}

/** Any JSON value. */
export function panelContent(value: unknown, depth = 0): TemplateResult {
  if (typeof value !== 'object' || value === null) return leaf(value);
  if (depth >= DEPTH_MAX) return html`<code>${JSON.stringify(value)}</code>`;
  if (Array.isArray(value)) {
    return html`<ul class="panel-list">${value.map((one) => html`<li>${panelContent(one, depth + 1)}</li>`)}</ul>`;
  }
  const entries = Object.entries(value);
  return html`<dl class="panel-fields">${entries.map(
    ([key, one]) => html`<div><dt>${label(key)}</dt><dd>${panelContent(one, depth + 1)}</dd></div>`,
  )}</dl>`;
}
