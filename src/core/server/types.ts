/** The states, inputs, effects and events of the SAM server's state machine. */
import type { SamErrorCode } from "../../errors.ts";
import type { ClientMessage, ServerMessage } from "../wire.ts";
import type { RestartOptions } from "./restart_policy.ts";
import type { EndSignal, Signal } from "../signals.ts";
import type { Evidence, ProcessEvidence } from "./evidence.ts";

export type { Evidence, Note, ProcessEvidence, ProcessState } from "./evidence.ts";

/**
 * The state of a supervised program.
 *
 * - `idle`: supervision has not begun.
 * - `pending`: the process may not start yet, because other programs come first.
 * - `spawning`: the process is being started.
 * - `launched`: the process runs, and has not called `register()`. A command that does not use SAM remains in this state.
 * - `registered`: the process has registered, and is not watched.
 * - `waiting`: `start()` waits for quorum.
 * - `started`: the process is watched.
 * - `finalized`: the process runs, and SAM does not watch it any more.
 * - `warned`: the instance failed, got the warn signal, and is in its grace period.
 * - `killing`: the failed instance got SIGKILL.
 * - `stopping`: an orderly stop or restart ends the instance.
 * - `backoff`: no process runs. The next instance starts after a delay.
 * - `stopped`: no process runs until a restart is requested. Only `sam stop NAME` leads to this state.
 * - `finished`: supervision is over.
 */
export type ServerState =
  | "idle"
  | "pending"
  | "spawning"
  | "launched"
  | "registered"
  | "waiting"
  | "started"
  | "finalized"
  | "warned"
  | "killing"
  | "stopping"
  | "backoff"
  | "stopped"
  | "finished";

/**
 * The reason for a recovery.
 *
 * - `exit`: the process ended with an exit code, or closed its connection to the server and did not end.
 * - `signal`: a signal ended the process.
 * - `timeout`: no heartbeat arrived within the time interval.
 * - `unhealthy`: a health check failed or did not answer in time, or `reportUnhealthy()` was called.
 * - `quorum`: the cluster lost quorum.
 * - `failed`: the program called `markFailed()`.
 * - `startup`: the instance was not ready within `startupTimeout`. Or, after a restart, its process ended before it called
 *   `start()`, or could not be started.
 */
export type RecoveryReason =
  | "exit"
  | "signal"
  | "timeout"
  | "unhealthy"
  | "quorum"
  | "failed"
  | "startup";

/**
 * The reason why supervision ended.
 *
 * - `exit`: the program ended, and its end was no failure.
 * - `stopped`: a stop was requested.
 * - `quit`: the program failed, and the recovery policy is `quit`.
 * - `restart-limit`: the restart limit is reached.
 * - `failed`: the program called `markFailed()`, or its process could not be killed.
 * - `spawn`: the first process could not be started.
 */
export type FinishReason = "exit" | "stopped" | "quit" | "restart-limit" | "failed" | "spawn";

/** The result of supervision. Unlike in the public type, the error is plain data. */
export interface ExitStatus {
  readonly code: number;
  readonly signal: EndSignal | null;
  readonly reason: FinishReason;
  readonly error?: Problem | undefined;
}

/** The error of the event `spawnFailed`: the properties of a `SamError`, as a plain object. */
export interface Problem {
  /** The reason for the failure. */
  readonly code: SamErrorCode;
  /** Description for people: what happened, and what to do. */
  readonly message: string;
  /** The error behind it, if any. */
  readonly cause?: unknown;
}

/** The options of a server, checked and complete. */
export interface ServerSettings {
  // Name of the program in messages.
  readonly program: string;
  readonly timeInterval: number;
  readonly recoveryPolicy: "quit" | "restart";
  readonly warnSignal: Signal;
  readonly restart: Required<RestartOptions>;
  readonly startupTimeout: number;
  readonly stopTimeout: number;
  readonly maxDataSize: number;
  readonly serverLost: "exit" | "continue";
  // Number of spares.
  readonly standby: 0 | 1;
  // True for a command. Unless it calls `register()`, its end counts as a failure as soon as it has a process.
  readonly startedAtSpawn: boolean;
  // True if a preload registers each process. The program may register itself later.
  readonly preloaded?: boolean;
  // True if the server captures the stack trace of an unresponsive process. Always false with `observe`.
  readonly captureStack: boolean;
  // True if the server only reports the failures of a running process.
  readonly observe: boolean;
  // True if each process, also a spare, needs permission to start, because other programs come first.
  readonly asksBeforeStart?: boolean;
  readonly hasQuorum: boolean;
  readonly hasClusterMap: boolean;
  // Milliseconds without a finished HTTP request after which the program is unhealthy. Left out or 0: requests are not counted.
  readonly progressLimit?: number | undefined;
  // The addresses on which a replacement must listen before it counts as started. Left out if it need not listen.
  readonly listensOn?: string | undefined;
  // Number of the first instance, if another one ran before it. Default 1.
  readonly firstInstanceId?: number;
  // Milliseconds within which the client may leave out a second heartbeat. Added to the deadline.
  readonly heartbeatWindow: number;
}

// Notes are not for the state machine: the driver keeps them as evidence.
/** A message of the active process for the state machine. */
export type JudgedMessage = Exclude<ClientMessage, { readonly type: "note" }>;
/** A message that tells a fact about the process. It has the same meaning in all states. */
export type Fact = JudgedMessage & {
  readonly type: "stackAccess" | "listens" | "belowWrapper" | "progress" | "member";
};

/** An input of the server. */
export type ServerInput =
  | { readonly type: "begin" }
  // The answer to `askToStart`.
  | { readonly type: "allowStart" }
  | { readonly type: "spawned"; readonly pid: number }
  | { readonly type: "spawnFailed"; readonly error: Problem }
  // The process has ended. Its last messages may still arrive; then `concluded` follows.
  | { readonly type: "exit"; readonly code: number | null; readonly signal: EndSignal | null }
  // All messages of the ended process have arrived. `detail` describes its end for people.
  | {
    readonly type: "concluded";
    readonly detail?: string | undefined;
    readonly evidence: ProcessEvidence;
  }
  // A wrapper has ended, and the program below it still runs. `exit` follows when that has ended too.
  | { readonly type: "orphaned"; readonly code: number | null; readonly signal: EndSignal | null }
  // SIGKILL is not permitted: the process belongs to another user.
  | { readonly type: "unkillable"; readonly problem: Problem }
  | { readonly type: "linkEnd" }
  | { readonly type: "heartbeat" }
  | { readonly type: "message"; readonly message: JudgedMessage }
  | { readonly type: "tick" }
  // The process sent no heartbeat because it got no CPU time (see `Server.doubtAt`). It gets `waitMs` more milliseconds.
  | { readonly type: "starved"; readonly waitMs: number }
  // The answer to the effect `examine`. `isBlocked` is true if JavaScript runs without a pause and blocks the event loop.
  | { readonly type: "examined"; readonly evidence: ProcessEvidence; readonly isBlocked: boolean }
  // The last data of an ended process, which the link has stored without a message.
  | { readonly type: "linkData"; readonly bytes: Uint8Array }
  | { readonly type: "quorum"; readonly quorate: boolean }
  // The quorum source failed for good: no `start()` can be granted.
  | { readonly type: "quorumFailed"; readonly problem: Problem }
  // A stop was requested. `delivered` is true if the process already got this signal, for example from a terminal.
  | { readonly type: "shutdown"; readonly signal: Signal | null; readonly delivered?: boolean }
  | { readonly type: "restart" }
  // Starts a spare of the new code before the first instance, which waits for permission.
  | { readonly type: "prepareSpare" }
  // The instance ids up to `upTo` belong to other processes of the program: the next instance gets a higher one.
  | { readonly type: "reserveIds"; readonly upTo: number }
  // The replacement takes over: the process may accept connections.
  | { readonly type: "accept" }
  // The cluster map shows all keys, or cannot be reached.
  | { readonly type: "mapped" }
  // A stop until the next restart was requested.
  | { readonly type: "halt" }
  // A health check of the server or the user's code found the program unhealthy, or not healthy in time.
  | {
    readonly type: "unhealthy";
    readonly reason: "unhealthy" | "startup";
    readonly detail: string;
  }
  | { readonly type: "spare"; readonly input: SpareInput }
  | { readonly type: "member"; readonly key: string; readonly input: MemberInput };

/** An input about a worker of node:cluster. */
export type MemberInput = ServerInput & {
  readonly type: "message" | "heartbeat" | "linkEnd" | "tick" | "starved" | "examined";
};

/** An input about the spare. */
export type SpareInput =
  // The answer to `askToStartSpare`.
  | { readonly type: "allowStart" }
  | { readonly type: "spawned"; readonly pid: number }
  | { readonly type: "spawnFailed" }
  | { readonly type: "hello"; readonly message: ClientMessage & { readonly type: "hello" } }
  | { readonly type: "linkEnd" }
  | { readonly type: "exit" };

/** The status of a spare: a process that is parked in `register()` until it becomes the next instance. */
export interface SpareStatus {
  /** `starting` until the spare calls `register()`, then `parked`. */
  readonly state: "starting" | "parked";
  /** Process id of the spare; null before its process exists. */
  readonly pid: number | null;
}

/**
 * An event of the supervised program.
 *
 * - `spawn`: a process was started.
 * - `spawnFailed`: a process could not be started.
 * - `register`: the program or its preload called `register()`. If a wrapper, such as `sh` or `npm`, has started the
 *   program, `pid` differs from `pid` of `spawn`. `command` is then its command line, and `startedBy` the wrapper.
 * - `waiting`: `start()` waits for quorum.
 * - `start`: SAM watches the program from now on.
 * - `stop`: SAM does not watch the program until the next `start`.
 * - `finalize`: the program called `finalize()`: SAM does not watch it any more.
 * - `warn`: the instance failed. It gets the warn signal, and its grace period begins.
 * - `observed`: only with the option `observe`: a failure that would have started a recovery. SAM did nothing.
 * - `stopping`: a requested stop or restart has begun, and the instance got the signal.
 * - `kill`: the instance got SIGKILL.
 * - `stopped`: `sam stop NAME` has stopped the program. It starts again at the next restart.
 * - `exit`: the process has ended.
 * - `recovery`: an instance failed and has ended. The next one starts after `delay` milliseconds; null if none follows. Under
 *   `sam run`, it also waits for the programs in `waitsFor`, which must end or become ready first.
 * - `failed`: the program is not restarted: the restart limit is reached, or it called `markFailed()`. `reason` and
 *   `evidence` are those of the last event `recovery`.
 * - `spare`: the spare is `starting`, is `parked` in `register()`, has `ended`, or was `promoted` to be the next instance.
 * - `stall`: the server was stalled: a timer was `lateMs` milliseconds late. That time does not count against the program.
 * - `member`: a worker of node:cluster (process id `pid`) stopped responding. SAM killed it alone: `evidence.signal` is `SIGKILL`.
 *   With the option `observe`, SAM did nothing: `evidence.signal` is null.
 * - `starved`: the program missed its deadline because it got no CPU time, or waited for the disk. SAM gives it more time.
 *   Reported at most once between two heartbeats.
 * - `quorum`: the cluster gained or lost quorum.
 */
export type ServerEvent =
  | { readonly type: "spawn"; readonly pid: number }
  | { readonly type: "spawnFailed"; readonly error: Problem }
  | {
    readonly type: "register";
    readonly pid: number;
    readonly command?: string;
    readonly startedBy?: string;
  }
  | { readonly type: "waiting" }
  | { readonly type: "start" }
  | { readonly type: "stop" }
  | { readonly type: "finalize" }
  | {
    readonly type: "warn";
    readonly reason: RecoveryReason;
    readonly detail: string;
    readonly signal: Signal;
  }
  | { readonly type: "observed"; readonly reason: RecoveryReason; readonly evidence: Evidence }
  | { readonly type: "stopping"; readonly signal: Signal }
  | { readonly type: "kill" }
  | { readonly type: "stopped" }
  | { readonly type: "exit"; readonly code: number | null; readonly signal: EndSignal | null }
  | {
    readonly type: "recovery";
    readonly reason: RecoveryReason;
    readonly evidence: Evidence;
    readonly delay: number | null;
    // Number of the next instance. Left out if it is the number of this instance + 1: a failed reload uses a number, too.
    readonly nextInstanceId?: number;
    readonly waitsFor?: readonly string[];
  }
  | { readonly type: "failed"; readonly reason: RecoveryReason; readonly evidence: Evidence }
  | {
    readonly type: "spare";
    readonly state: "starting" | "parked" | "ended" | "promoted";
    readonly pid: number | null;
  }
  | { readonly type: "stall"; readonly lateMs: number }
  | {
    readonly type: "member";
    readonly pid: number;
    readonly reason: "timeout";
    readonly evidence: Evidence;
  }
  | { readonly type: "starved" }
  | { readonly type: "quorum"; readonly quorate: boolean };

/** An effect: an action that the driver carries out. */
export type ServerEffect =
  // The next process is due. It starts after `allowStart`.
  | { readonly type: "askToStart" }
  | { readonly type: "spawn"; readonly instanceId: number }
  // Examine the process, which failed, and answer with `examined`. Later signals wait up to `stackMs` milliseconds for its stack
  // trace; with 0, capture none. `stackAccess` is the answer of the process to how its stack can be captured; null before it
  // answered.
  | {
    readonly type: "examine";
    readonly stackMs: number;
    readonly stackAccess: string | null;
  }
  | { readonly type: "signal"; readonly signal: Signal }
  // The process already got its signal, for example from a terminal.
  | { readonly type: "delivered" }
  // Send the signal to the processes below an ended wrapper that did not get it yet.
  | { readonly type: "passOn" }
  // The program below the wrapper has ended: open the link again for the next one.
  | { readonly type: "reopen" }
  // The process has finalized: it and its child processes go on when supervision ends.
  | { readonly type: "letGo" }
  | { readonly type: "send"; readonly message: ServerMessage }
  // HTTP requests wait and none finishes, or one has finished again.
  | { readonly type: "progress"; readonly healthy: boolean; readonly detail: string }
  // The next spare is due. It starts after its `allowStart`.
  | { readonly type: "askToStartSpare" }
  | { readonly type: "spawnSpare" }
  // Make the spare the instance.
  | { readonly type: "promote" }
  | { readonly type: "killSpare" }
  | { readonly type: "sendSpare"; readonly message: ServerMessage }
  // The instance has ended: close its link, and end the processes that it left behind.
  | { readonly type: "cleanUp" }
  | { readonly type: "map"; readonly keys: MapKeys }
  | { readonly type: "unmap" }
  | { readonly type: "member"; readonly key: string; readonly effect: MemberEffect }
  | { readonly type: "emit"; readonly event: ServerEvent; readonly instanceId: number }
  | { readonly type: "finish"; readonly status: ExitStatus };

/** An effect on a worker of node:cluster. */
export type MemberEffect =
  // Open a socket that admits one connection, with the key of the worker.
  | { readonly type: "admit" }
  // There are too many workers: say once that this one and further ones are not watched.
  | { readonly type: "refuse" }
  // Close the connection or the socket, and forget the worker.
  | { readonly type: "cleanUp" }
  | ServerEffect & { readonly type: "examine" | "send" | "signal" };

/** Keys of the cluster map, below `resources.process.<pid>.`. */
export interface MapKeys {
  readonly recovery?: "quit" | "restart";
  readonly pollPeriod?: bigint;
  /** On the clock of `now`, in milliseconds. */
  readonly lastUpdated?: number;
  readonly state?: "stopped" | "running" | "failed" | "waiting for quorum";
}
