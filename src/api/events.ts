/** What a supervised program's status and events say. */
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

/** How supervision ended. */
export interface ExitStatus {
  /** What a SAM server would exit with: the program's exit code, or 128 + the number of the signal that ended it. */
  readonly code: number;
  /** The signal that ended the program, or null. */
  readonly signal: EndSignal | null;
  /**
   * `exit`: it ended while it was not started. `stopped`: it was asked to. `quit`: a failure under the policy `quit`.
   * `restart-limit`: too many failures. `failed`: `markFailed()`, or it could not be killed. `spawn`: it could not be started.
   */
  readonly reason: FinishReason;
  /** Why the program never came to life, or could not be killed. */
  readonly error?: SamError;
}

/** The last recovery of a program. */
export interface LastRecovery {
  /** Why. */
  readonly reason: RecoveryReason;
  /** When, in milliseconds since 1970. */
  readonly at: number;
  /** The instance that was given up. */
  readonly instanceId: number;
  /** What was known about it. */
  readonly evidence: Evidence;
  /** In how many milliseconds the next one was to start; null: never. */
  readonly delay: number | null;
}

/** A supervised program at one moment. */
export interface SupervisorStatus {
  /** Where it is in its life. */
  readonly state: ServerState;
  /** The process id of the instance; null while there is none. */
  readonly pid: number | null;
  /**
   * True if others may build on it: it is started, or, with a check of the server's, healthy; a command without one, there. Not
   * any more when it is given up.
   */
  readonly ready: boolean;
  /** The result of the server's last health check; null without a check, and before the first success of an instance. */
  readonly check: "passing" | "failing" | null;
  /** When its process was started, or took over from being the spare, in milliseconds since 1970; null while there is none. */
  readonly spawnedAt: number | null;
  /** 1 for the first instance, +1 for each further one. */
  readonly instanceId: number;
  /** How many instances were started after the first. */
  readonly restarts: number;
  /** The last recovery, or null. */
  readonly lastRecovery: LastRecovery | null;
  /** Milliseconds since the last heartbeat of the instance; null before the first one, and when no more are expected. */
  readonly heartbeatAge: number | null;
  /** Near misses: how much of the time interval was left at the signs of life of the instance. */
  readonly slack: Slack;
  /** The spare process; null while there is none. */
  readonly spare: SpareStatus | null;
  /** Bytes stored by the program. */
  readonly dataSize: number;
  /** The transport in use. */
  readonly transport: string;
}

/** What happens outside the core. */
export type DriverEvent =
  /** The transport works, but slower than it could. */
  | { readonly type: "fallback"; readonly side: "server" | "program"; readonly detail: string }
  /** Something failed that supervision survives: a signal, the cluster, a malformed frame, a stray error. */
  | { readonly type: "problem"; readonly error: SamError };

/** What the check of the server found: the program is healthy (again), or a check has failed. */
export interface CheckEvent {
  /** Which event. */
  readonly type: "check";
  /** True if the program is healthy. */
  readonly healthy: boolean;
  /** What is wrong; empty where nothing is. */
  readonly detail: string;
}

/** Which event, and what it says. */
export type SupervisorEventDetail =
  | ServerEvent
  | DriverEvent
  | CheckEvent
  /** How things stood when this reader began. */
  | { readonly type: "status"; readonly status: SupervisorStatus }
  /** This reader was slow: the oldest `count` events are missing here. */
  | { readonly type: "lost"; readonly count: number }
  /** Supervision is over. The last event. */
  | { readonly type: "finish"; readonly status: ExitStatus };

/** One event: told apart by `type`. */
export type SupervisorEvent = SupervisorEventDetail & {
  /** When, in milliseconds since 1970. */
  readonly at: number;
  /** The instance it is about. */
  readonly instanceId: number;
};
