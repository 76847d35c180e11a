/**
 * `<hub-picture>`: a picture of the hub's, small, beside its name. It asks for a link once, when it appears; where that is
 * refused (masked, gone) or the page may not show it (another origin), there is the name alone.
 */

import { html, nothing, type TemplateResult } from 'lit';
import { isHubFile, type Attachment, type HubFiles } from '../sdk/hub.ts';

/** What every browser shows; a telephone's HEIC isn't. */
const SHOWN = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp']);

class HubPicture extends HTMLElement {
  files: HubFiles | null = null;
  #url = '';

  get url(): string {
    return this.#url;
  }

  /** Set again where a list has moved and this place is another message's. */
  set url(url: string) {
    if (url === this.#url) return;
    this.#url = url;
    this.replaceChildren();
    if (this.isConnected) this.#show();
  }

  connectedCallback(): void {
    if (!this.firstChild) this.#show();
  }

  #show(): void {
    const url = this.#url;
    this.hidden = !url || !this.files;
    if (this.hidden) return;
    // Its name is said by what holds it.
    const image = Object.assign(new Image(), { alt: '', decoding: 'async', loading: 'lazy', referrerPolicy: 'no-referrer' });
    const none = () => {
      // The element itself stays, since its place is the template's.
      if (image.parentNode !== this) return;
      image.remove();
      this.hidden = true;
    };
    image.onerror = none;
    this.append(image);
    this.files!.link(url).then((link) => (image.src = link), none);
  }
}
if (!customElements.get('hub-picture')) customElements.define('hub-picture', HubPicture);

/** A small picture of a file that is one, for inside whatever names it. */
export function picture(file: Attachment, files: HubFiles | null | undefined): TemplateResult | typeof nothing {
  if (!files || !SHOWN.has(file.mime) || !isHubFile(file.url)) return nothing;
  return html`<hub-picture .files=${files} .url=${file.url}></hub-picture>`;
}
