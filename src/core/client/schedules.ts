/** What the active process does at times of its own: the schedule of a health check, and the rate limit of notes. */
import type { ClientEffect } from "./types.ts";

type Push = (effect: ClientEffect) => void;

/**
 * Calls the health check once per time interval, and confirms the event loop four times as often. A call that takes longer
 * than the time interval is followed by the next at once. Two calls never overlap.
 */
export class HealthSchedule {
  readonly #push: Push;
  #isUsed = false;
  #wasUsed = false;
  #timeInterval = 0;
  /** A call has not answered yet. It may be older than the present watch. */
  #isCalling = false;
  /** When to confirm the event loop; undefined while nothing is watched. */
  #nextConfirm: number | undefined;
  /** When to call the health check; undefined while nothing is watched, and during a call. */
  #nextCall: number | undefined;
  /** When the call after the present one is due. */
  #dueAfterAnswer = 0;

  constructor(push: Push) {
    this.#push = push;
  }

  /** True if there was ever a health check. */
  get wasUsed(): boolean {
    return this.#wasUsed;
  }

  /** When the next tick is due; Infinity for never. */
  get deadline(): number {
    return Math.min(this.#nextConfirm ?? Infinity, this.#nextCall ?? Infinity);
  }

  /** Switches between a health check and `heartbeat()`. In force from the next watch. */
  use(isUsed: boolean): void {
    this.#isUsed = isUsed;
    this.#wasUsed ||= isUsed;
  }

  /** Begins the watch. A call that has not answered yet counts as its first. */
  begin(timeInterval: number, now: number): void {
    if (!this.#isUsed) return;
    this.#timeInterval = timeInterval;
    this.#nextConfirm = now + this.#confirmMs;
    if (this.#isCalling) this.#push({ type: "send", message: { type: "checkBegin" } });
    else this.#call(now);
  }

  /** Ends the watch. */
  end(): void {
    this.#nextConfirm = this.#nextCall = undefined;
  }

  /** Takes the answer of the health check. The answer does not count when the watch has ended meanwhile. */
  answer(healthy: boolean, detail: string, now: number): void {
    this.#isCalling = false;
    if (this.#nextConfirm === undefined) return;
    this.#push({ type: "send", message: { type: "checkEnd", healthy, detail } });
    this.#nextCall = Math.max(now, this.#dueAfterAnswer);
  }

  /** Does what is due. */
  tick(now: number): void {
    if (this.#nextConfirm !== undefined && this.#nextConfirm <= now) {
      this.#nextConfirm = now + this.#confirmMs;
      this.#push({ type: "confirm" });
    }
    if (this.#nextCall !== undefined && this.#nextCall <= now) this.#call(now);
  }

  get #confirmMs(): number {
    return Math.max(1, this.#timeInterval / 4);
  }

  #call(now: number): void {
    this.#isCalling = true;
    this.#nextCall = undefined;
    this.#dueAfterAnswer = now + this.#timeInterval;
    this.#push({ type: "send", message: { type: "checkBegin" } });
    this.#push({ type: "check" });
  }
}

/** How many notes go to the server without a pause between them. */
const noteBurst = 50;
/** How many notes per millisecond go to the server after a burst. */
const notesPerMs = 1;

/** Sends notes to the server as fast as it can take them. Of more notes, only the last is kept, and sent later. */
export class NoteSchedule {
  readonly #push: Push;
  /** How many notes may be sent now. */
  #credit = noteBurst;
  #creditedAt = 0;
  #held: string | null = null;
  /** When to send the note that was held back. */
  #due = Infinity;

  constructor(push: Push) {
    this.#push = push;
  }

  /** When the next tick is due; Infinity for never. */
  get deadline(): number {
    return this.#due;
  }

  /** Sends a note, or holds it back in place of the one before. */
  note(text: string, now: number): void {
    this.#credit = Math.min(noteBurst, this.#credit + (now - this.#creditedAt) * notesPerMs);
    this.#creditedAt = now;
    if (this.#credit >= 1) {
      this.#credit--;
      this.end();
      this.#push({ type: "send", message: { type: "note", text } });
    } else {
      this.#held = text;
      if (this.#due === Infinity) this.#due = now + noteBurst / notesPerMs;
    }
  }

  /** Forgets the note that was held back. */
  end(): void {
    this.#held = null;
    this.#due = Infinity;
  }

  /** Sends the note that was held back, if it is due. */
  tick(now: number): void {
    if (this.#held !== null && this.#due <= now) this.note(this.#held, now);
  }
}
