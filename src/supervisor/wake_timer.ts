/** One timer for all the programs that a process supervises. */
import type { Clock } from "../runtime/runtime.ts";

/** Wakes at a time that may move. */
export interface Sleeper {
  /** When to wake, on the runtime's clock; Infinity for never. */
  readonly due: number;
  /** The time has come. */
  wake(): void;
}

/** The longest delay of a timer, in milliseconds. */
const maxDelayMs = 2 ** 31 - 1;

/** Wakes its sleepers. It asks them when they are due only when it fires; a sleeper that is due earlier calls `arm()`. */
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

  /** A sleeper is due at `due`. If that is later than the timer is set for, the timer finds out when it fires. */
  arm(due: number): void {
    if (due >= this.#armedFor) return;
    this.#disarm();
    this.#armedFor = due;
    const delay = Math.min(Math.max(0, due - this.#runtime.now()), maxDelayMs);
    this.#cancel = this.#runtime.schedule(() => this.#fire(), delay, true);
  }

  /** How late the most overdue sleeper is, in milliseconds. */
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
    // A timer may fire a little early: sleepers that are due within a millisecond are woken, too.
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
