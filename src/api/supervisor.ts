/** A program under supervision, as its owner sees it. */
import type { Signal } from "../core/signals.ts";
import type { ExitStatus, SupervisorEvent, SupervisorStatus } from "./events.ts";

/** A program under supervision. */
export interface Supervisor {
  /** How things stand now. */
  readonly status: SupervisorStatus;
  /**
   * What happens: first a `status`, then every event, at last `finish`. Any number of readers at once; one that is more
   * than 1,024 events behind loses the oldest, and is told how many by `lost`.
   */
  events(): AsyncIterableIterator<SupervisorEvent>;
  /** Resolved when supervision is over; never rejected. */
  readonly finished: Promise<ExitStatus>;
  /** Ends the program: warn signal, `stopTimeout`, SIGKILL. Called again, it kills at once. */
  stop(): Promise<ExitStatus>;
  /**
   * Ends the present instance (the first one, while it is being started, is new enough) in the same manner and starts the next, without backoff and without counting it. Resolved
   * when the next process is there. Rejects with INTERRUPT when supervision ends instead.
   */
  restart(): Promise<void>;
  /** Sends a signal to the program, and does nothing else; a program that is not there is left alone. Throws INVALID_PARAM. */
  signal(signal: Signal): void;
  /** Somebody has found that the program is not healthy: recovered at once, reason `unhealthy`, while it is not finalized. */
  reportUnhealthy(detail: string): void;
  /** Stops, and waits for the end. */
  [Symbol.asyncDispose](): Promise<void>;
}
