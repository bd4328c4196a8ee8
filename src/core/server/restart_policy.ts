/**
 * The restart limit and the backoff: how many recoveries are allowed, and how long each one waits. The words intensity and
 * period come from OTP. libsam has no limit and no backoff.
 */
import { Random } from "./random.ts";

/** Options for restarts: which ends are failures, how many recoveries are allowed, and how long each waits. */
export interface RestartOptions {
  /**
   * The ends of a process that count as a failure. Default `"started"`.
   *
   * - `"started"`: every end between `start()` and `stop()`, also with exit code 0, as in libsam. For a command that
   *   does not call `register()`: every end.
   * - `"failure"`: an end by a signal, or with an exit code other than 0.
   * - `"always"`: every end.
   *
   * For a program that calls `register()` itself, `"started"` always applies.
   */
  readonly on?: "started" | "failure" | "always";
  /** Restart limit: the most recoveries in `period`. `Infinity` sets no limit. Default 10. */
  readonly intensity?: number;
  /** Period of the restart limit, in milliseconds. The time in which no instance runs does not count. Default 300,000. */
  readonly period?: number;
  /**
   * Delay before the first restart, in milliseconds. Default 0. Each later delay is twice the one before it, but at least 100 ms,
   * and varies at random by up to 20 %. It is never more than `maxDelay`.
   */
  readonly initialDelay?: number;
  /** Longest delay before a restart, in milliseconds. Default 30,000. */
  readonly maxDelay?: number;
  /** Healthy time after which the backoff starts over with `initialDelay`, in milliseconds. Default 60,000. */
  readonly resetAfter?: number;
}

/** Least delay before the second restart in a row: without it, a program that fails at once would use a whole CPU. */
const leastMs = 100;
/** Each delay varies by this share, so that programs which failed together do not all start together. */
const jitter = 0.2;

/** Decides after each failure of an instance whether and when the next one may start. */
export class RestartPolicy {
  readonly #options: Required<RestartOptions>;
  readonly #random: Random;
  /** The last delay of the backoff, before it varied at random; null if the next restart is the first one. */
  #lastDelay: number | null = null;
  /** The run time of all instances so far, in milliseconds: a clock that ticks only while an instance runs. */
  #ranMs = 0;
  /** The values of `#ranMs` at recent recoveries. */
  #recoveries: number[] = [];

  constructor(options: Required<RestartOptions>, seed: number) {
    this.#options = options;
    this.#random = new Random(seed);
  }

  /** Counts the run time of an instance that has ended. Call it if the instance did not fail; else `nextDelay()` does it. */
  addRunTime(ranMs: number, healthyMs: number): void {
    this.#ranMs += ranMs;
    if (healthyMs >= this.#options.resetAfter) this.#lastDelay = null;
  }

  /** Counts a failed instance. Returns the milliseconds until the next one starts; undefined if the restart limit is reached. */
  nextDelay(ranMs: number, healthyMs: number): number | undefined {
    const { intensity, period, initialDelay, maxDelay } = this.#options;
    this.addRunTime(ranMs, healthyMs);
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
    return Math.min(maxDelay, delay * this.#random.vary(jitter));
  }
}
