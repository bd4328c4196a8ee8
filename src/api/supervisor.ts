/** The type of `Supervisor`, which `supervise()` returns. */
import type { Signal } from "../core/signals.ts";
import type { ExitStatus, SupervisorEvent, SupervisorStatus } from "./events.ts";

/** Controls a program that `supervise()` has started, and reports its status and events. */
export interface Supervisor {
  /** The current status of the program. */
  readonly status: SupervisorStatus;
  /**
   * Returns all events from now on: first a `status`, then every event, and last a `finish`.
   *
   * Any number of readers may call it at the same time. A reader that is more than 1,024 events behind loses the oldest ones,
   * and gets the event `lost` with their number.
   */
  events(): AsyncIterableIterator<SupervisorEvent>;
  /** Resolves when supervision is over. Never rejects. */
  readonly finished: Promise<ExitStatus>;
  /**
   * Stops the program: sends the warn signal, waits up to `stopTimeout`, then sends SIGKILL.
   *
   * A second call kills the program at once. Resolves when supervision is over.
   */
  stop(): Promise<ExitStatus>;
  /**
   * Ends the current instance as `stop()` does, and starts the next one. While a process is still being started, `restart()`
   * only waits for it.
   *
   * The restart has no backoff, and does not count toward the restart limit. Resolves when the next process exists. Rejects with
   * INTERRUPT if the program is stopped first, and with BAD_HANDLE if supervision is already over.
   */
  restart(): Promise<void>;
  /**
   * Sends a signal to the program. SAM treats the result like any other event: if the program ends, it may be restarted.
   *
   * Does nothing without a process. Throws INVALID_PARAM if `signal` is not a signal name.
   */
  signal(signal: Signal): void;
  /**
   * Reports that the program is unhealthy, which starts a recovery with the reason `unhealthy`. `detail` becomes evidence.
   *
   * Does nothing without a process, after the program's `finalize()`, or while the process is being ended.
   */
  reportUnhealthy(detail: string): void;
  /** Stops the program, and waits for the end of supervision. */
  [Symbol.asyncDispose](): Promise<void>;
}
