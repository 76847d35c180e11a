/** What every part of the screen has in common: plain DOM (one stylesheet, one id space) and topics it listens to. */
import { LitElement } from "lit";
import { model } from "./model";

const BUSY_MS = 150;

export abstract class View extends LitElement {
  #later = 0;
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
  protected told(event: CustomEvent): void {
    if (event.type !== "interactions") return this.requestUpdate();
    // The busiest topic by far: a list of everything is drawn at most so often for it.
    this.#later ||= setTimeout(() => {
      this.#later = 0;
      this.requestUpdate();
    }, BUSY_MS) as unknown as number;
  }
}
