/**
 * The two rhythms of a health check: confirmations of the event loop, every quarter of the time interval; and calls of the
 * check, one time interval apart or at once when the last one took longer, never two at once.
 */
import type { ClientEffect } from "./types.ts";

/** When to confirm and when to call. */
export class HealthRhythm {
  /** Whether there is a health check. */
  on = false;

  readonly #push: (effect: ClientEffect) => void;
  #timeInterval = 0;
  /** A call that has not answered yet; it may be older than the present watch. */
  #running = false;
  /** Undefined while nothing is watched. */
  #nextConfirm: number | undefined;
  #nextCall: number | undefined;
  /** When the next call is due, as soon as the present one is answered. */
  #dueAfterAnswer = 0;

  constructor(push: (effect: ClientEffect) => void) {
    this.#push = push;
  }

  /** The earliest of both; Infinity for never. */
  get deadline(): number {
    return Math.min(this.#nextConfirm ?? Infinity, this.#nextCall ?? Infinity);
  }

  /** The watch begins. A call that still runs counts as its first. */
  begin(timeInterval: number, now: number): void {
    if (!this.on) return;
    this.#timeInterval = timeInterval;
    this.#nextConfirm = now + this.#confirmMs;
    if (this.#running) this.#push({ type: "send", message: { type: "checkBegin" } });
    else this.#call(now);
  }

  /** The watch ends. */
  end(): void {
    this.#nextConfirm = this.#nextCall = undefined;
  }

  /** The check has answered. */
  answered(healthy: boolean, detail: string, now: number): void {
    this.#running = false;
    if (this.#nextConfirm === undefined) return; // stopped meanwhile: the answer is nobody's business
    this.#push({ type: "send", message: { type: "checkEnd", healthy, detail } });
    this.#nextCall = Math.max(now, this.#dueAfterAnswer);
  }

  /** Time has passed. */
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
    this.#running = true;
    this.#nextCall = undefined;
    this.#dueAfterAnswer = now + this.#timeInterval;
    this.#push({ type: "send", message: { type: "checkBegin" } });
    this.#push({ type: "check" });
  }
}
