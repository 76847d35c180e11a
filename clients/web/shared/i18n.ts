/**
 * Words on the screen: English, German, and a right-to-left pseudo-locale that shows what is not translated or not
 * mirrored. An app calls `words({en, de})` once and gets a `t` whose keys are checked by the compiler.
 *
 * A text may hold `{name}` places; a text of the form `one|other` is chosen by the count in `n`.
 */

export type Locale = 'en' | 'de' | 'ar-XB';
export const LOCALES: Record<Locale, string> = { en: 'English', de: 'Deutsch', 'ar-XB': 'Pseudo (RTL)' };
const KEY = 'hub.locale';

/** The locale of this page: chosen before, or the first of the browser's that we have. */
export function currentLocale(): Locale {
  let chosen: string | null = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // Storage may be forbidden: then the browser's languages decide.
  }
  if (chosen && chosen in LOCALES) return chosen as Locale;
  const found = (navigator.languages ?? []).map((one) => one.slice(0, 2)).find((one) => one === 'en' || one === 'de');
  return (found as Locale) ?? 'en';
}

/** Choose a locale; the page loads again, so that every text and number is of one language. */
export function chooseLocale(locale: Locale): void {
  localStorage.setItem(KEY, locale);
  location.reload();
}

export const locale: Locale = currentLocale();
export const direction: 'ltr' | 'rtl' = locale === 'ar-XB' ? 'rtl' : 'ltr';
/** For `Intl`: the browser's own region where it speaks the chosen language; the pseudo-locale has English dates. */
export const intlLocale = [...(navigator.languages ?? [])].find((one) => one.startsWith(locale)) ?? (locale === 'ar-XB' ? 'en' : locale);

/** Set language and direction of the document. */
export function localizeDocument(): void {
  document.documentElement.lang = locale === 'ar-XB' ? 'en' : locale;
  document.documentElement.dir = direction;
}

function pseudo(text: string): string {
  return text.replace(/\{\w+\}|[A-Za-z]+/g, (word) => (word.startsWith('{') ? word : `\u202e${word}\u202c`));
}

export type Words<K extends string> = (key: K, values?: Record<string, string | number>) => string;

/** The translator of one catalogue. */
export function words<K extends string>(catalogue: { en: Record<K, string>; de: Record<K, string> }): Words<K> {
  const plural = new Intl.PluralRules(intlLocale);
  return (key, values = {}) => {
    let text: string = (locale === 'de' ? catalogue.de : catalogue.en)[key];
    if (text.includes('|')) {
      const [one, other] = text.split('|');
      text = (plural.select(Number(values.n)) === 'one' ? one : other)!;
    }
    if (locale === 'ar-XB') text = pseudo(text);
    return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
  };
}

const clock = new Intl.DateTimeFormat(intlLocale, { hour: '2-digit', minute: '2-digit' });
const dayAndClock = new Intl.DateTimeFormat(intlLocale, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const relative = new Intl.RelativeTimeFormat(intlLocale, { numeric: 'auto', style: 'short' });

/** `14:05`, with the day where it isn't today. */
export function timeOf(at: number): string {
  const when = new Date(at);
  return when.toDateString() === new Date().toDateString() ? clock.format(when) : dayAndClock.format(when);
}

/** `3 min. ago`. */
export function ago(at: number, now = Date.now()): string {
  const seconds = Math.round((at - now) / 1000);
  if (Math.abs(seconds) < 45) return relative.format(0, 'second');
  if (Math.abs(seconds) < 45 * 60) return relative.format(Math.round(seconds / 60), 'minute');
  if (Math.abs(seconds) < 22 * 3600) return relative.format(Math.round(seconds / 3600), 'hour');
  return relative.format(Math.round(seconds / 86_400), 'day');
}

/** `2:07`, `1:02:07`: a length of time that people compare at a glance. */
export function duration(ms: number): string {
  const total = Math.max(0, Math.floor(ms / 1000));
  const [hours, minutes, seconds] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const tail = `${String(seconds).padStart(2, '0')}`;
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${tail}` : `${minutes}:${tail}`;
}
