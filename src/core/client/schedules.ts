/** The timed work of the active process: the schedule of the health check, and the rate limit of notes. */
import type { ClientEffect } from "./types.ts";

type Push = (effect: ClientEffect) => void;

/**
 * Calls the health check once per time interval, and sends event-loop heartbeats four times as often. Calls never overlap.
 *
 * A call that takes longer than the time interval is a failure. If no recovery follows, for example with `observe`, or if the
 * call began before the last `stop()`, the next call begins at once after the answer.
 */
export class HealthSchedule {
  readonly #push: Push;
  #isUsed = false;
  #wasUsed = false;
  #timeInterval = 0;
  /** True while a call has not answered. The call may have been made before the last `stop()`. */
  #isCalling = false;
  /** Time of the next event-loop heartbeat; undefined while the process is not watched. */
  #nextConfirm: number | undefined;
  /** Time of the next call of the health check; undefined while the process is not watched, and during a call. */
  #nextCall: number | undefined;
  /** Earliest time of the call after the current one. */
  #dueAfterAnswer = 0;

  constructor(push: Push) {
    this.#push = push;
  }

  /** True if a health check was set at any time. */
  get wasUsed(): boolean {
    return this.#wasUsed;
  }

  /** Time of the next tick; Infinity if none is needed. */
  get deadline(): number {
    return Math.min(this.#nextConfirm ?? Infinity, this.#nextCall ?? Infinity);
  }

  /** Switches between a health check and `heartbeat()`. Takes effect at the next `begin()`. */
  use(isUsed: boolean): void {
    this.#isUsed = isUsed;
    this.#wasUsed ||= isUsed;
  }

  /** Begins the watch. A call that has not answered yet counts as the first call of this watch. */
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

  /** Takes the answer of the health check. It does not count if the watch has ended meanwhile. */
  answer(healthy: boolean, detail: string, now: number): void {
    this.#isCalling = false;
    if (this.#nextConfirm === undefined) return;
    this.#push({ type: "send", message: { type: "checkEnd", healthy, detail } });
    this.#nextCall = Math.max(now, this.#dueAfterAnswer);
  }

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

/** Number of notes that may be sent without a pause. */
const noteBurst = 50;
/** Rate of notes after such a burst. */
const notesPerMs = 1;

/** Limits the rate of notes: the server must not fall behind. Of the notes above the limit, only the last is sent, later. */
export class NoteSchedule {
  readonly #push: Push;
  /** Number of notes that may be sent now. */
  #credit = noteBurst;
  #creditedAt = 0;
  #held: string | null = null;
  /** Time to send the note that was held back. */
  #due = Infinity;

  constructor(push: Push) {
    this.#push = push;
  }

  /** Time of the next tick; Infinity if none is needed. */
  get deadline(): number {
    return this.#due;
  }

  /** Sends a note, or holds it back in place of the previous one. */
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

  /** Discards the note that was held back. */
  end(): void {
    this.#held = null;
    this.#due = Infinity;
  }

  tick(now: number): void {
    if (this.#held !== null && this.#due <= now) this.note(this.#held, now);
  }
}
