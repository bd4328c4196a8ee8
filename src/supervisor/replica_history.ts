/** The history of a replica before its present supervision. */
import type { LastRecovery, SupervisorStatus } from "../api/events.ts";
import type { Replacement } from "../core/server/replacements.ts";

/** The part of a status that goes on when another supervision follows. */
type Continued = Pick<SupervisorStatus, "restarts" | "slack" | "lastRecovery">;

/** The replacement of a healthy instance that exceeded the option `maxMemory` or `maxAge`. */
export interface LastReplacement extends Omit<Replacement, "name"> {
  /** Time of the replacement, in milliseconds since 1970. */
  readonly at: number;
  /** Number of the instance that exceeded its limit. */
  readonly instanceId: number;
}

/** The restarts, heartbeats and failures under earlier supervisions. */
export class ReplicaHistory {
  #restarts = 0;
  #heartbeats: readonly number[] = [];
  #lastRecovery: LastRecovery | null = null;
  #lastReplacement: LastReplacement | undefined;

  /** Adds the present supervision, whose status is `status` with its history. `restarts`: instances that follow at once. */
  close(status: Continued, restarts: 0 | 1): void {
    this.#restarts = status.restarts + restarts;
    this.#heartbeats = status.slack.buckets.map(({ total }) => total);
    this.#lastRecovery = status.lastRecovery;
  }

  noteReplacement(
    { reason, detail }: Omit<Replacement, "name">,
    at: number,
    instanceId: number,
  ): void {
    this.#lastReplacement = { reason, detail, at, instanceId };
  }

  /** The status of the present supervision, with the history before it. */
  extend<T extends Continued>(status: T): T & { readonly lastReplacement?: LastReplacement } {
    const lastReplacement = this.#lastReplacement;
    const buckets = status.slack.buckets.map((bucket, at) => ({
      ...bucket,
      total: bucket.total + (this.#heartbeats[at] ?? 0),
    }));
    return {
      ...status,
      restarts: this.#restarts + status.restarts,
      lastRecovery: status.lastRecovery ?? this.#lastRecovery,
      slack: { ...status.slack, buckets },
      ...(lastReplacement && { lastReplacement }),
    };
  }
}
