/**
 * Files on their way into a message: chosen, dropped or pasted, uploaded at once, sent with the next message.
 *
 * The words are the app's (`TRAY_WORDS` in its own catalogue), so that each keeps its way of choosing a language.
 */

import { html, nothing, svg, type TemplateResult } from 'lit';
import { ref } from 'lit/directives/ref.js';
import { HubError, randomId, type Attachment, type HubFiles } from '../sdk/hub.ts';

const TOGETHER = 2;
const ATTACHMENTS_MAX = 10;

export const TRAY_WORDS = {
  en: {
    attach: 'Attach files',
    files: 'Files to send',
    uploading: 'Uploading {name}',
    removeFile: 'Remove {name}',
    fileReady: 'ready',
    openFile: 'Save {name}',
    fileGone: 'The file {name} is not available any more.',
    f_name: 'This name can’t be used: {message}',
    f_type: 'This kind of file is not taken. Possible are: {allowed}',
    f_content: 'The file’s content is not what its name says, or it is damaged, empty or has macros.',
    f_scan: 'The virus scanner has not let this file through.',
    f_count: 'This conversation has as many files as it may.',
    f_space: 'There is no room for files at the moment.',
    f_slow: 'The upload took too long. Try again on a better connection.',
    f_large: 'The file is too large: at most {size}.',
    f_many: 'At most {n} files go with one message.',
    f_offline: 'No connection; the file was not sent.',
    f_masked: 'What you read here is masked, so its files are for those who answer.',
    f_other: 'Not possible: {message}',
  },
  de: {
    attach: 'Dateien anhängen',
    files: 'Dateien zum Senden',
    uploading: '{name} wird hochgeladen',
    removeFile: '{name} entfernen',
    fileReady: 'bereit',
    openFile: '{name} speichern',
    fileGone: 'Die Datei {name} gibt es nicht mehr.',
    f_name: 'Dieser Name geht nicht; bitte benennen Sie die Datei um.',
    f_type: 'Solche Dateien werden nicht angenommen. Möglich sind: {allowed}',
    f_content: 'Der Inhalt passt nicht zum Namen der Datei, oder sie ist beschädigt, leer oder hat Makros.',
    f_scan: 'Der Virenscanner hat diese Datei nicht durchgelassen.',
    f_count: 'Dieses Gespräch hat schon so viele Dateien, wie es haben darf.',
    f_space: 'Im Moment ist kein Platz für Dateien.',
    f_slow: 'Das Hochladen hat zu lange gedauert. Bitte mit besserer Verbindung noch einmal.',
    f_large: 'Die Datei ist zu groß: höchstens {size}.',
    f_many: 'Mit einer Nachricht gehen höchstens {n} Dateien.',
    f_offline: 'Keine Verbindung; die Datei wurde nicht gesendet.',
    f_masked: 'Was Sie hier lesen, ist maskiert; die Dateien öffnet nur, wer antwortet.',
    f_other: 'Nicht möglich: {message}',
  },
};
export type TrayKey = keyof typeof TRAY_WORDS.en;
type Say = (key: TrayKey, values?: Record<string, string | number>) => string;

/** One chosen file: under way (`share` of it has left), refused (`problem`), or ready (`attachment`). */
export interface Upload {
  id: string;
  file: File;
  share: number;
  problem: HubError | null;
  attachment: Attachment | null;
  abort: AbortController;
}

/** The files of one composer. Sends `change`. */
export class Tray extends EventTarget {
  uploads: Upload[] = [];
  /** Endings for the picker's own filter; empty until the hub has said what it takes. */
  accept = '';
  #waiting: Upload[] = [];
  #running = 0;

  constructor(
    readonly files: HubFiles,
    readonly conversationId: string | null,
  ) {
    super();
    // Endings alone: pickers understand them everywhere, and some show nothing at all for a media type they don't know.
    void files.limits().then(({ types }) => (this.accept = Object.values(types).flat().join(',')), () => undefined);
  }

  /** True while a file is under way: the message has to wait. */
  get busy(): boolean {
    return this.uploads.some((one) => !one.attachment && !one.problem);
  }

  /** True where there is a file to send. */
  get ready(): boolean {
    return !this.busy && this.uploads.some((one) => one.attachment);
  }

  add(files: Iterable<File>): void {
    for (const file of files) {
      const upload: Upload = { id: randomId('u'), file, share: 0, problem: null, attachment: null, abort: new AbortController() };
      this.uploads.push(upload);
      if (this.uploads.filter((one) => !one.problem).length > ATTACHMENTS_MAX) upload.problem = new HubError('many', '');
      else this.#waiting.push(upload);
    }
    this.#next();
    this.#changed();
  }

  remove(upload: Upload): void {
    upload.abort.abort();
    this.uploads = this.uploads.filter((one) => one !== upload);
    this.#waiting = this.#waiting.filter((one) => one !== upload);
    this.#changed();
  }

  /** The files that are ready, which are the message's from now on; what was refused goes, too: it has been read. */
  take(): Attachment[] {
    const ready = this.uploads.flatMap((one) => one.attachment ?? []);
    this.uploads = [];
    this.#changed();
    return ready;
  }

  #next(): void {
    while (this.#running < TOGETHER && this.#waiting.length) void this.#send(this.#waiting.shift()!);
  }

  async #send(upload: Upload): Promise<void> {
    this.#running++;
    const progress = (share: number) => {
      upload.share = share;
      this.#changed();
    };
    try {
      upload.attachment = await this.files.upload(upload.file, this.conversationId, progress, upload.abort.signal);
    } catch (error) {
      upload.problem = error instanceof HubError ? error : new HubError('network', String(error));
    }
    this.#running--;
    this.#next();
    this.#changed();
  }

  #changed(): void {
    this.dispatchEvent(new Event('change'));
  }
}

/** Why a file was refused, in words. */
export function whyRefused(error: HubError, t: Say): string {
  const { details, message, code } = error;
  if (code === 'too_large') return t('f_large', { size: sizeOf(details.bytes_max ?? 0) });
  if (code === 'many') return t('f_many', { n: ATTACHMENTS_MAX });
  if (code === 'network' || code === 'offline') return t('f_offline');
  if (code === 'not_permitted' && details.reason === 'masked') return t('f_masked');
  const allowed = Array.isArray(details.allowed) ? details.allowed.join(', ') : '';
  if (code === 'file_refused' && `f_${details.reason}` in TRAY_WORDS.en) return t(`f_${details.reason}` as TrayKey, { message, allowed });
  return t('f_other', { message });
}

/** `3.4 MB`. */
export function sizeOf(bytes: number): string {
  const [value, unit] = bytes < 1_000 ? [bytes, 'B'] : bytes < 1_000_000 ? [bytes / 1_000, 'kB'] : [bytes / 1_000_000, 'MB'];
  return `${value < 10 && unit !== 'B' ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

const clip = html`<svg class="icon-svg icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${svg`<path d="M20 11l-8.500 8.500a5 5 0 0 1-7-7L13 4a3.300 3.300 0 0 1 4.700 4.700l-8.500 8.500a1.700 1.700 0 0 1-2.400-2.400L14.500 7"/>`}</svg>`;
const cross = html`<svg class="icon-svg icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${svg`<path d="M6 6l12 12M18 6L6 18"/>`}</svg>`;

/** The button that chooses files; `look` are the app's classes of a button. */
export function attachButton(tray: Tray, t: Say, look: string): TemplateResult {
  const choose = (event: Event) => {
    const input = (event.currentTarget as HTMLElement).nextElementSibling as HTMLInputElement;
    input.accept = tray.accept;
    input.click(); // at once: a browser opens nothing that comes long after the key or the click
  };
  const chosen = (event: Event) => {
    const input = event.target as HTMLInputElement;
    tray.add([...(input.files ?? [])]);
    input.value = ''; // so that the same file can be chosen again
  };
  return html`<button class=${look} type="button" aria-label=${t('attach')} title=${t('attach')} @click=${choose}>${clip}</button>
    <input type="file" multiple hidden @change=${chosen} />`;
}

/** The chosen files with their progress and problems. */
export function trayView(tray: Tray, t: Say): TemplateResult | typeof nothing {
  if (!tray.uploads.length) return nothing;
  return html`<ul class="tray" aria-label=${t('files')}>${tray.uploads.map((one) => chip(tray, one, t))}</ul>`;
}

/** A problem is seen once, also where the tray has more than fits. */
const shown = (problem?: Element): void => problem?.scrollIntoView({ block: 'nearest' });

function chip(tray: Tray, one: Upload, t: Say): TemplateResult {
  const { name, size } = one.file;
  const state = one.problem
    ? html`<span class="tray-problem" role="alert" ${ref(shown)}>${whyRefused(one.problem, t)}</span>`
    : one.attachment
      ? html`<span class="tray-size">${sizeOf(size)} <span class="sr">${t('fileReady')}</span></span>`
      : html`<progress max="1" .value=${one.share} aria-label=${t('uploading', { name })}></progress>`;
  return html`<li class="tray-file ${one.problem ? 'bad' : ''}"><bdi class="tray-name" title=${name}>${name}</bdi>${state}
    <button class="tray-remove" type="button" aria-label=${t('removeFile', { name })} @click=${() => tray.remove(one)}>${cross}</button></li>`;
}

/** Handlers for a composer that takes files dropped on it and pasted into it. */
export function takesFiles(tray: Tray): { drop: (event: DragEvent) => void; over: (event: DragEvent) => void; paste: (event: ClipboardEvent) => void } {
  const brings = (data: DataTransfer | null) => Boolean(data?.types.includes('Files'));
  return {
    over: (event) => {
      if (brings(event.dataTransfer)) event.preventDefault();
    },
    drop: (event) => {
      if (!brings(event.dataTransfer)) return;
      event.preventDefault();
      tray.add([...event.dataTransfer!.files]);
    },
    paste: (event) => {
      // A copied cell or word has its text beside a picture of it: then the text is meant.
      if (!event.clipboardData?.files.length || event.clipboardData.types.includes('text/plain')) return;
      event.preventDefault();
      tray.add([...event.clipboardData.files]);
    },
  };
}
