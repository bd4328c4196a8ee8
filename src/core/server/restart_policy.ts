/**
 * Restart intensity and backoff: how many recoveries are allowed, and how long each one waits. The words intensity and period
 * are OTP's. libsam has neither: it restarts at once, without a limit.
 */

/** How often, and how soon, an ended process is started again. */
export interface RestartOptions {
  /**
   * Which end of a process is a failure. `"started"`: any end between `start()` and `stop()`, also with exit code 0 (libsam's
   * rule). `"failure"`: a signal, or an exit code other than 0. `"always"`: any end. For a program that calls `register()` itself,
   * `"started"` always applies. Default `"started"`.
   */
  readonly on?: "started" | "failure" | "always";
  /** At most this many recoveries in `period`; `Infinity` for no limit. Default 10. */
  readonly intensity?: number;
  /** Milliseconds of run time, without the waits between instances. Default 300,000. */
  readonly period?: number;
  /**
   * Milliseconds before the first restart in a row. Each later delay is twice the one before, at least 100 ms, and varies by
   * up to 20 % at random. Default 0.
   */
  readonly initialDelay?: number;
  /** The longest delay in milliseconds. Default 30,000. */
  readonly maxDelay?: number;
  /** Milliseconds of health after which the next restart waits `initialDelay` again. Default 60,000. */
  readonly resetAfter?: number;
}

/** The second restart in a row waits at least this long, so that a program which cannot run does not take a processor. */
const leastMs = 100;
/** Each delay varies by this share, so that programs which failed together do not all start together. */
const jitter = 0.2;

/** Decides after each end of an instance if the next one may start, and when. */
export class RestartPolicy {
  readonly #options: Required<RestartOptions>;
  #seed: number;
  /** The last delay of this row, before it varied; null when the next restart is the first one. */
  #lastDelay: number | null = null;
  #ranMs = 0;
  /** The times of recent recoveries, on the clock that ticks only while an instance runs. */
  #recoveries: number[] = [];

  constructor(options: Required<RestartOptions>, seed: number) {
    this.#options = options;
    this.#seed = seed >>> 0;
  }

  /** Notes the end of an instance that ran for `ranMs`, was healthy for `healthyMs`, and did not fail. */
  ran(ranMs: number, healthyMs: number): void {
    this.#ranMs += ranMs;
    if (healthyMs >= this.#options.resetAfter) this.#lastDelay = null;
  }

  /**
   * Notes the failure of an instance that ran for `ranMs` and was healthy for `healthyMs`. Returns the milliseconds until the next
   * instance starts, or undefined if the restart limit is reached.
   */
  next(ranMs: number, healthyMs: number): number | undefined {
    const { intensity, period, initialDelay, maxDelay } = this.#options;
    this.ran(ranMs, healthyMs);
    const horizon = this.#ranMs - period;
    if (intensity !== Infinity) {
      this.#recoveries = this.#recoveries.filter((at) => at > horizon);
      if (this.#recoveries.length >= intensity) return undefined;
      this.#recoveries.push(this.#ranMs);
    }
    const last = this.#lastDelay;
    const delay = Math.min(maxDelay, last === null ? initialDelay : Math.max(leastMs, 2 * last));
    this.#lastDelay = delay;
    if (last === null) return delay;
    return Math.min(maxDelay, delay * (1 + jitter * (2 * this.#uniform() - 1)));
  }

  /** A uniform number in [0, 1) from the seed (a linear congruential generator, which is good enough to spread restarts). */
  #uniform(): number {
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
    return this.#seed / 2 ** 32;
  }
}
