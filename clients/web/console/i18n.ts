/**
 * Texts in the reader's language. `ar-XB` is a made-up right-to-left language (English with marks), which shows
 * whatever was forgotten: text that isn't translated, and layout that knows left and right only.
 */
import { de } from "./de";
import { en, type Key } from "./en";

export type { Key };
export const LOCALES = { en: "English", de: "Deutsch", "ar-XB": "[Right to left]" } as const;
export type Locale = keyof typeof LOCALES;

let locale: Locale = "en";
let texts: Record<Key, string> = en;
const times = new Map<string, Intl.DateTimeFormat>();

/** Switch the language of everything rendered from here on; sets the document's `lang` and `dir`. */
export function setLocale(wanted: string | null): Locale {
  locale = wanted && wanted in LOCALES ? (wanted as Locale) : navigator.language?.startsWith("de") ? "de" : "en";
  texts = locale === "de" ? de : locale === "ar-XB" ? pseudo() : en;
  document.documentElement.lang = locale === "ar-XB" ? "ar-x-pseudo" : locale;
  document.documentElement.dir = locale === "ar-XB" ? "rtl" : "ltr";
  times.clear();
  return locale;
}

function pseudo(): Record<Key, string> {
  const marked = (text: string) =>
    text.replace(/\{\w+\}|\|\||[aeiou]/g, (found) => ({ a: "á", e: "é", i: "í", o: "ó", u: "ú" })[found] ?? found);
  const made = {} as Record<Key, string>;
  for (const key of Object.keys(en) as Key[]) made[key] = marked(en[key]);
  return made;
}

/** The text named `key` with `{name}` filled in; of `one||many` the half that fits `values.n` (or `values.all`). */
export function t(key: Key, values: Record<string, unknown> = {}): string {
  let text = texts[key];
  if (text.includes("||")) {
    const [one, many] = text.split("||");
    text = Number(values.n ?? values.all) === 1 ? one! : many!;
  }
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** True where there is a text of that name. */
export function has(key: string): key is Key {
  return key in en;
}

function format(name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  let made = times.get(name);
  if (!made) times.set(name, (made = new Intl.DateTimeFormat(locale === "ar-XB" ? "en-GB" : locale === "en" ? "en-GB" : locale, options)));
  return made;
}

/** 14:03 */
export const clock = (at: number) => format("clock", { hour: "2-digit", minute: "2-digit" }).format(at);
/** 14:03:09 */
export const clockSeconds = (at: number) =>
  format("seconds", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(at);
/** 3 May, 14:03:09; today without the day. */
export const moment = (at: number) =>
  new Date(at).toDateString() === new Date().toDateString()
    ? clockSeconds(at)
    : format("moment", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(at);

/** 0:07, 12:40, 1:02:03. */
export function duration(ms: number): string {
  const all = Math.max(0, Math.floor(ms / 1000));
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  const two = (value: number) => String(value).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export const count = (value: number) => value.toLocaleString(locale === "de" ? "de" : "en");
