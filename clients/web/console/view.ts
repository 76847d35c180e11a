/** What every part of the screen has in common: plain DOM (one stylesheet, one id space) and topics it listens to. */
import { LitElement } from "lit";
import { model } from "./model";

export abstract class View extends LitElement {
  /** Topics of the model that draw this part again. */
  topics: string[] = [];
  readonly redraw = (event: Event): void => this.told(event as CustomEvent);

  protected override createRenderRoot(): HTMLElement {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    for (const topic of [...this.topics, "prefs"]) model.addEventListener(topic, this.redraw);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    for (const topic of [...this.topics, "prefs"]) model.removeEventListener(topic, this.redraw);
  }

  /** Something changed; draws again unless a part knows better. */
  protected told(_event: CustomEvent): void {
    this.requestUpdate();
  }
}
