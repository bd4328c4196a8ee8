/** One timer for all the programs that a process supervises. */
import type { Clock } from "../runtime/runtime.ts";

/** Something to be woken at a time that may move. */
export interface Sleeper {
  /** When, on the runtime's clock; Infinity for never. */
  readonly due: number;
  /** The time has come. */
  wake(): void;
}

/** A timer takes no longer delay. */
const maxDelayMs = 2 ** 31 - 1;

/** Wakes its sleepers; each is asked when it is due only when the timer fires, or when it says that it is due earlier. */
export class WakeTimer {
  readonly #runtime: Clock;
  readonly #sleepers = new Set<Sleeper>();
  #cancel: (() => void) | null = null;
  #armedFor = Infinity;

  constructor(runtime: Clock) {
    this.#runtime = runtime;
  }

  /** From now on, `sleeper` is woken when it is due. */
  add(sleeper: Sleeper): void {
    this.#sleepers.add(sleeper);
  }

  /** `sleeper` is not woken any more; without sleepers there is no timer. */
  remove(sleeper: Sleeper): void {
    this.#sleepers.delete(sleeper);
    if (this.#sleepers.size === 0) this.#disarm();
  }

  /** Somebody is due at `due`; a later time than armed for is found out when the timer fires. */
  arm(due: number): void {
    if (due >= this.#armedFor) return;
    this.#disarm();
    this.#armedFor = due;
    const delay = Math.min(Math.max(0, due - this.#runtime.now()), maxDelayMs);
    this.#cancel = this.#runtime.schedule(() => this.#fire(), delay, true);
  }

  /** How many milliseconds ago somebody was due who has not been woken. */
  get latenessMs(): number {
    const now = this.#runtime.now();
    return Math.max(0, ...[...this.#sleepers].map(({ due }) => now - due));
  }

  #disarm(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#armedFor = Infinity;
  }

  #fire(): void {
    this.#cancel = null;
    this.#armedFor = Infinity;
    // A timer may fire a little early: who is due within a millisecond is woken with the others.
    const now = this.#runtime.now() + 1;
    let next = Infinity;
    for (const sleeper of this.#sleepers) {
      if (sleeper.due <= now) sleeper.wake();
      next = Math.min(next, sleeper.due);
    }
    this.arm(next);
  }
}

const timers = new WeakMap<Clock, WakeTimer>();

/** The one timer of a runtime. */
export function wakeTimerOf(runtime: Clock): WakeTimer {
  let timer = timers.get(runtime);
  if (!timer) timers.set(runtime, timer = new WakeTimer(runtime));
  return timer;
}
