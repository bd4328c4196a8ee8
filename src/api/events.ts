/** The status and the events of a supervised program. */
import type { Slack } from "../core/server/slack.ts";
import type {
  Evidence,
  FinishReason,
  RecoveryReason,
  ServerEvent,
  ServerState,
  SpareStatus,
} from "../core/server/types.ts";
import type { EndSignal } from "../core/signals.ts";
import type { SamError } from "../errors.ts";

/** The result of supervision. */
export interface ExitStatus {
  /**
   * Exit code with which a SAM server ends: the exit code of the program, or 128 + the number of the signal that ended it.
   *
   * It is 1 if the program could not be started or killed. A 0 becomes 1 at the restart limit. With `restart.on` `"failure"` or
   * `"always"`, a 0 also becomes 1 after a failure, for example after a hang, if the process exits with 0 on the warn signal.
   */
  readonly code: number;
  /** Signal that ended the program; null if none did. */
  readonly signal: EndSignal | null;
  /** The reason why supervision ended. */
  readonly reason: FinishReason;
  /** The error, if the program could not be started or could not be killed. */
  readonly error?: SamError;
}

/** The last recovery of a program. */
export interface LastRecovery {
  /** The reason for the recovery. */
  readonly reason: RecoveryReason;
  /** Time of the recovery, in milliseconds since 1970. */
  readonly at: number;
  /** Number of the instance that failed. */
  readonly instanceId: number;
  /** Everything that is known about the failure. */
  readonly evidence: Evidence;
  /** Backoff before the next instance, in milliseconds; null if no instance follows. */
  readonly delay: number | null;
}

/** The status of a supervised program at one moment. */
export interface SupervisorStatus {
  /** The current state of the program. */
  readonly state: ServerState;
  /** Process id of the instance; null while there is no process. */
  readonly pid: number | null;
  /**
   * True if the instance is ready, false once it is being ended.
   *
   * - With the option `check`, it is ready while the check passes.
   * - Without a check, or with `progress` alone, a program that uses SAM or has `preload` is ready after `start()`.
   * - Any other command is ready while it has a process.
   * - With the option `check.progress`, it is never ready while HTTP requests wait and none finishes.
   */
  readonly ready: boolean;
  /**
   * Result of the last health check. Null without a check, and before the instance first passes it. With `check.progress` alone,
   * null or `"failing"`.
   */
  readonly check: "passing" | "failing" | null;
  /** Time when the process was started, or promoted from a spare, in milliseconds since 1970. Null without a process. */
  readonly spawnedAt: number | null;
  /** Number of the instance: 1 for the first one, +1 for each later one. */
  readonly instanceId: number;
  /** Number of instances after the first one. */
  readonly restarts: number;
  /** The last recovery; null if there was none. */
  readonly lastRecovery: LastRecovery | null;
  /** Milliseconds since the last heartbeat of the instance. Null before the first one, and while none is expected. */
  readonly heartbeatAge: number | null;
  /** How close the heartbeats came to their deadline. */
  readonly slack: Slack;
  /** The program below a wrapper such as `npm`, which is watched instead of the wrapper; null if there is none. */
  readonly watched: { readonly pid: number; readonly command: string } | null;
  /** The workers of node:cluster that are watched. Empty if the program starts none. */
  readonly members: readonly MemberStatus[];
  /** The spare; null while there is none. */
  readonly spare: SpareStatus | null;
  /** Number of bytes that the program has stored. */
  readonly dataSize: number;
  /** Name of the transport in use. */
  readonly transport: string;
}

/** A worker of node:cluster. */
export interface MemberStatus {
  /** Process id. */
  readonly pid: number;
  /** Milliseconds since its last heartbeat. Null until it has loaded its program. */
  readonly heartbeatAge: number | null;
}

/**
 * An event about SAM, not about the program.
 *
 * - `fallback`: a part of SAM works with less than its full function. `detail` says which part and why. `side` is the process
 *   concerned: the server or the program.
 * - `problem`: an error that does not end supervision. For example, a signal could not be sent, the cluster failed, a malformed
 *   message arrived, or code in the server threw an exception.
 */
export type DriverEvent =
  | { readonly type: "fallback"; readonly side: "server" | "program"; readonly detail: string }
  | { readonly type: "problem"; readonly error: SamError };

/**
 * An event of a health check: the program became healthy, or a check failed after the first one that passed. The check
 * `progress` has an event only when its result changes.
 */
export interface CheckEvent {
  /** The type of the event. */
  readonly type: "check";
  /** True if the program became healthy. False for each failed check after the first one that passed. */
  readonly healthy: boolean;
  /** Why the check failed; empty if it passed. */
  readonly detail: string;
  /** Only for the check `progress`: the option `progressAction`. */
  readonly action?: "report" | "restart";
}

/** An event of a reload, which replaces an instance by one that has proved itself. Only under `sam run`. */
export type ReloadEvent =
  /** A reload has begun: the replacement, or a spare of the new code, is being started. */
  | {
    readonly type: "reload";
    /** `"requested"` for `sam reload`; otherwise the limit that the instance exceeds: `maxMemory` or `maxAge`. */
    readonly reason: "requested" | "memory" | "age";
    /** The figures, in words that follow the name of the instance: `uses 530 MiB, more than 512 MiB`. Empty if requested. */
    readonly detail: string;
  }
  /** The new process, with the process id `pid`, is the instance from now on. It has replaced the instance `replaced`. */
  | { readonly type: "reloaded"; readonly pid: number | null; readonly replaced: number }
  /** The new process failed or the reload was canceled. `pid` is that of the new process; null if there was none. */
  | {
    readonly type: "reloadFailed";
    /** Why the reload failed, in words that follow "the replacement". */
    readonly detail: string;
    readonly pid: number | null;
    /** True if the old instance has stayed. */
    readonly kept: boolean;
    /** The reason of the failure, as that of a recovery. Left out if the new process did not fail. */
    readonly reason?: RecoveryReason;
    /** Everything that is known about the failure. Left out if nothing is known. */
    readonly evidence?: Evidence;
  };

/**
 * The content of a `SupervisorEvent`, without its time and instance.
 *
 * - `ServerEvent` has the events of the program, `CheckEvent` those of the server's health check, `DriverEvent` those of SAM.
 * - `ReloadEvent` has the events of `sam reload`, and of replacements by `maxMemory` and `maxAge`.
 * - `status`: the first event of each reader of `events()`: the status at that moment.
 * - `lost`: only for a slow reader of `events()`: `count` events before this one are missing.
 * - `finish`: the last event: supervision is over.
 */
export type SupervisorEventDetail =
  | ServerEvent
  | DriverEvent
  | CheckEvent
  | ReloadEvent
  | { readonly type: "status"; readonly status: SupervisorStatus }
  | { readonly type: "lost"; readonly count: number }
  | { readonly type: "finish"; readonly status: ExitStatus };

/**
 * An event that `events()` yields and `log` receives. `type` tells the events apart: see `SupervisorEventDetail`, or
 * https://github.com/x/sam/blob/main/docs/events.md
 */
export type SupervisorEvent = SupervisorEventDetail & {
  /** Time of the event, in milliseconds since 1970. */
  readonly at: number;
  /** Number of the instance that the event is about. */
  readonly instanceId: number;
};
