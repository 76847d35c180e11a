/** Sounds and desktop notices: made in the page, without a file to load, and quiet where the person wants it so. */

let audio: AudioContext | null = null;

/** Browsers let a page sound only after a gesture: call this once; the first click or key makes sounds possible. */
export function primeSound(): void {
  const prime = () => {
    audio ??= new AudioContext();
    void audio.resume();
  };
  for (const kind of ['pointerdown', 'keydown']) window.addEventListener(kind, prime, { once: true, capture: true });
}

/** A short chime: `alert` is three rising tones, `message` a single soft one. Silent where sound isn't possible. */
export function chime(kind: 'alert' | 'message'): void {
  try {
    audio ??= new AudioContext();
  } catch {
    return;
  }
  void audio.resume();
  const start = audio.currentTime + 0.02;
  const tones = kind === 'alert' ? [660, 880, 1175] : [740];
  const loud = kind === 'alert' ? 0.25 : 0.08;
  tones.forEach((frequency, index) => {
    const [tone, volume, at] = [audio!.createOscillator(), audio!.createGain(), start + index * 0.17];
    tone.frequency.value = frequency;
    volume.gain.setValueAtTime(0, at);
    volume.gain.linearRampToValueAtTime(loud, at + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.001, at + 0.3);
    tone.connect(volume).connect(audio!.destination);
    tone.start(at);
    tone.stop(at + 0.32);
  });
}

/** True where desktop notices may still be asked for. */
export function canAskForNotices(): boolean {
  return typeof Notification !== 'undefined' && Notification.permission === 'default';
}

/** Ask for desktop notices; from a click only. */
export async function askForNotices(): Promise<boolean> {
  return typeof Notification !== 'undefined' && (await Notification.requestPermission()) === 'granted';
}

/** A desktop notice, where allowed; a click brings the page to the front. `tag` replaces an older one of the same. */
export function notice(title: string, body: string, tag: string, stays = false): void {
  if (typeof Notification === 'undefined' || Notification.permission !== 'granted') return;
  try {
    const shown = new Notification(title, { body, tag, requireInteraction: stays, icon: '/assets/icon.svg' });
    shown.onclick = () => {
      window.focus();
      shown.close();
    };
  } catch {
    // Some mobile browsers allow notices from service workers only.
  }
}
