/** One timer for all the programs that a process supervises. */
import type { Clock } from "../runtime/runtime.ts";

/** Something that must be woken at a time, which may change. */
export interface Sleeper {
  /** The time to wake, on the runtime's clock; Infinity for never. */
  readonly due: number;
  /** Called at that time. */
  wake(): void;
}

/** The longest delay of a timer, in milliseconds. */
const maxDelayMs = 2 ** 31 - 1;

/** Wakes its sleepers. It reads their `due` only when it fires, so a sleeper that becomes due earlier calls `arm()`. */
export class WakeTimer {
  readonly #runtime: Clock;
  readonly #sleepers = new Set<Sleeper>();
  #cancel: (() => void) | null = null;
  #armedFor = Infinity;

  constructor(runtime: Clock) {
    this.#runtime = runtime;
  }

  /** Wakes `sleeper` when it is due, from now on. */
  add(sleeper: Sleeper): void {
    this.#sleepers.add(sleeper);
  }

  /** Wakes `sleeper` no more. Without sleepers, no timer is set. */
  remove(sleeper: Sleeper): void {
    this.#sleepers.delete(sleeper);
    if (this.#sleepers.size === 0) this.#disarm();
  }

  /** Sets the timer to `due`, unless it fires earlier anyway. */
  arm(due: number): void {
    if (due >= this.#armedFor) return;
    this.#disarm();
    this.#armedFor = due;
    const delay = Math.min(Math.max(0, due - this.#runtime.now()), maxDelayMs);
    this.#cancel = this.#runtime.schedule(() => this.#fire(), delay, true);
  }

  /** The delay of the most overdue sleeper, in milliseconds; 0 if none is overdue. */
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
    // A timer may fire up to a millisecond early.
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

/** The wake timer that all programs of a runtime share. */
export function wakeTimerOf(runtime: Clock): WakeTimer {
  let timer = timers.get(runtime);
  if (!timer) timers.set(runtime, timer = new WakeTimer(runtime));
  return timer;
}
