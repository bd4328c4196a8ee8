/** What goes into the SAM server's state machine and what comes out of it. */
import type { SamErrorCode } from "../../errors.ts";
import type { ClientMessage, ServerMessage } from "../wire.ts";
import type { RestartOptions } from "./restart_policy.ts";
import type { EndSignal, Signal } from "../signals.ts";

/** Where a supervised program is in its life. */
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

/** Why an instance was, or had to be, replaced. */
export type RecoveryReason =
  | "exit"
  | "signal"
  | "timeout"
  | "unhealthy"
  | "quorum"
  | "failed"
  | "startup";

/** Why supervision is over. */
export type FinishReason = "exit" | "stopped" | "quit" | "restart-limit" | "failed" | "spawn";

/** A process at one moment, as Linux shows it in /proc. */
export interface ProcessState {
  /** `running` is what a loop without end is, `sleeping` waits for something, `stopped` was sent SIGSTOP. */
  readonly state: "running" | "sleeping" | "blocked" | "stopped" | "ended" | "unknown";
  /** The kernel function in which the main thread waits; null where it does not, or where that is not told. */
  readonly waitsIn: string | null;
  /** Processor time since it was started, of all its threads, in milliseconds. */
  readonly cpuMs: number;
  /** Resident memory in bytes. */
  readonly memoryBytes: number;
  /** How many threads it has. */
  readonly threads: number;
}

/** What a process said last by `sam.note()`. */
export interface Note {
  /** The text. */
  readonly text: string;
  /** How many milliseconds before the instance was given up it was said. */
  readonly age: number;
}

/** What was known about an instance when it was given up. What is not known is left out. */
export interface Evidence {
  /**
   * For people: what was missed, or what the health check said, with the stack of its error below; for an end at the heap limit of
   * V8, that it was one. May be empty.
   */
  readonly detail: string;
  /** The exit code, or null when it was ended by a signal or could not be started. */
  readonly exitCode: number | null;
  /** The signal that ended it, or null. */
  readonly signal: EndSignal | null;
  /** Milliseconds between the last sign of life and the decision; null when there was none. */
  readonly heartbeatAge: number | null;
  /** The process when it was given up; a process that ended by itself cannot be looked at any more. */
  readonly processState?: ProcessState;
  /** What its JavaScript was doing then: one frame per line, the innermost first. */
  readonly stack?: string;
  /** Why there is no stack of a process that was given up for its silence, in one line. */
  readonly noStack?: string;
  /** What it said last by `sam.note()`. */
  readonly note?: Note;
  /** Its last lines on the streams that are `"tee"`: at most 50, and 8 KiB. */
  readonly output?: readonly string[];
}

/** The part of the evidence that comes from outside the core: what a look at the process, and what it left behind, show. */
export type Findings = Omit<Evidence, "detail" | "exitCode" | "signal" | "heartbeatAge">;

/** How a server ended, as the core knows it. */
export interface ExitStatus {
  readonly code: number;
  readonly signal: EndSignal | null;
  readonly reason: FinishReason;
  readonly error?: Problem | undefined;
}

/** An error on its way from the core to whoever makes a SamError of it. */
export interface Problem {
  /** Why. */
  readonly code: SamErrorCode;
  /** What happened, and what to do. */
  readonly message: string;
  /** The error behind it. */
  readonly cause?: unknown;
}

/** The options of a server, checked and complete. */
export interface ServerSettings {
  /** The program's name, for messages. */
  readonly program: string;
  readonly timeInterval: number;
  readonly recoveryPolicy: "quit" | "restart";
  readonly warnSignal: Signal;
  readonly restart: Required<RestartOptions>;
  readonly startupTimeout: number;
  readonly stopTimeout: number;
  readonly maxDataSize: number;
  readonly serverLost: "exit" | "continue";
  /** Spare processes. */
  readonly standby: 0 | 1;
  /** A `{ command }`: without `register()` it counts as started from its spawn. */
  readonly startedAtSpawn: boolean;
  /** A preload registers each process ahead of its program, which may do so itself later. */
  readonly preloaded?: boolean;
  /** True if the stack of a process that hangs is taken before it is ended. Never with `observe`, which ends none. */
  readonly captureStack: boolean;
  /** Failures of a process that lives are reported, and nothing is done about them. */
  readonly observe: boolean;
  /** Each process, also a spare, starts only when that is allowed: other programs come first. */
  readonly asksBeforeStart?: boolean;
  readonly hasQuorum: boolean;
  readonly hasClusterMap: boolean;
  /** Milliseconds in which a second heartbeat may be left out by the transport; added to the deadline. */
  readonly heartbeatWindow: number;
}

/** A message of the active process that the core judges. A note is evidence: the link has it until the process is examined. */
export type JudgedMessage = Exclude<ClientMessage, { readonly type: "note" }>;

/** What a server is told. */
export type ServerInput =
  | { readonly type: "begin" }
  /** The answer to `askToStart`. */
  | { readonly type: "allowStart" }
  | { readonly type: "spawned"; readonly pid: number }
  | { readonly type: "spawnFailed"; readonly error: Problem }
  /** The process has ended. What it said before may still be on its way: `concluded` follows. */
  | { readonly type: "exit"; readonly code: number | null; readonly signal: EndSignal | null }
  /** All that the ended process said is known. `detail`: more about its end, for people. */
  | {
    readonly type: "concluded";
    readonly detail?: string | undefined;
    readonly findings: Findings;
  }
  /** A wrapper has ended so, and the program below it lives on. `exit` follows when that is gone too. */
  | { readonly type: "orphaned"; readonly code: number | null; readonly signal: EndSignal | null }
  /** SIGKILL is not permitted: the process belongs to another user. */
  | { readonly type: "unkillable"; readonly problem: Problem }
  | { readonly type: "linkEnd" }
  | { readonly type: "heartbeat" }
  | { readonly type: "message"; readonly message: JudgedMessage }
  | { readonly type: "tick" }
  /** The active process is silent because it could not run: see `Server.doubtAt`. It is given so many milliseconds more. */
  | { readonly type: "starved"; readonly waitMs: number }
  /** The answer to the effect `examine`. `isBlocked`: the event loop is blocked, because JavaScript runs without a pause. */
  | { readonly type: "examined"; readonly findings: Findings; readonly isBlocked: boolean }
  /** The process, at its end, has left these bytes where the server finds them: its last stored data. */
  | { readonly type: "kept"; readonly bytes: Uint8Array }
  | { readonly type: "quorum"; readonly quorate: boolean }
  /** Whether the cluster is quorate will never be known. */
  | { readonly type: "quorumFailed"; readonly problem: Problem }
  /** `delivered`: the process got this signal from elsewhere (a terminal sends it to all). */
  | { readonly type: "shutdown"; readonly signal: Signal | null; readonly delivered?: boolean }
  | { readonly type: "restart" }
  /** The cluster map shows all that it was to show, or cannot be reached. */
  | { readonly type: "mapped" }
  /** End the process, and start no other until a restart is asked for. */
  | { readonly type: "halt" }
  /** Somebody other than the process found that it is not healthy, or did not become so in time. */
  | {
    readonly type: "unhealthy";
    readonly reason: "unhealthy" | "startup";
    readonly detail: string;
  }
  | { readonly type: "spare"; readonly input: SpareInput };

/** What happens to the spare process. */
export type SpareInput =
  /** The answer to `askToStartSpare`. */
  | { readonly type: "allowStart" }
  | { readonly type: "spawned"; readonly pid: number }
  | { readonly type: "spawnFailed" }
  | { readonly type: "hello"; readonly message: ClientMessage & { readonly type: "hello" } }
  | { readonly type: "linkEnd" }
  | { readonly type: "exit" };

/** The spare process. */
export interface SpareStatus {
  /** `starting` until it has come to `register()`, where it is `parked`. */
  readonly state: "starting" | "parked";
  /** Its process id; null before there is one. */
  readonly pid: number | null;
}

/** What happens to a program, as the core sees it; the driver adds when and to which instance. */
export type ServerEvent =
  /** A process was started. */
  | { readonly type: "spawn"; readonly pid: number }
  /** A process could not be started. */
  | { readonly type: "spawnFailed"; readonly error: Problem }
  /** The program called `register()`; `pid` is its own, which differs from the spawned one below a wrapper. */
  | { readonly type: "register"; readonly pid: number }
  /** `start()` waits for quorum. */
  | { readonly type: "waiting" }
  | { readonly type: "start" }
  | { readonly type: "stop" }
  | { readonly type: "finalize" }
  /** A recovery is planned, and the active process was told. */
  | {
    readonly type: "warn";
    readonly reason: RecoveryReason;
    readonly detail: string;
    readonly signal: Signal;
  }
  /** With the option `observe`: this would have been a recovery. Nothing was done. */
  | { readonly type: "observed"; readonly reason: RecoveryReason; readonly evidence: Evidence }
  /** An orderly stop or restart has begun. */
  | { readonly type: "stopping"; readonly signal: Signal }
  /** SIGKILL was sent. */
  | { readonly type: "kill" }
  /** The program was stopped by `sam stop NAME`: it starts again when a restart is asked for. */
  | { readonly type: "stopped" }
  | { readonly type: "exit"; readonly code: number | null; readonly signal: EndSignal | null }
  /** An instance was given up; the next one starts in `delay` milliseconds, or never (null). */
  | {
    readonly type: "recovery";
    readonly reason: RecoveryReason;
    readonly evidence: Evidence;
    readonly delay: number | null;
    /** Under `sam run`: the programs that must end, or be ready, before the next one starts; left out for none. */
    readonly waitsFor?: readonly string[];
  }
  /** The program is given up for good: too many recoveries, or `markFailed()`. The last recovery's reason and evidence. */
  | { readonly type: "failed"; readonly reason: RecoveryReason; readonly evidence: Evidence }
  /** The spare process was started, has parked in `register()`, has ended, or has become the active process. */
  | {
    readonly type: "spare";
    readonly state: "starting" | "parked" | "ended" | "promoted";
    readonly pid: number | null;
  }
  /** This server was not scheduled for so long; the time does not count against the active process. */
  | { readonly type: "stall"; readonly lateMs: number }
  /**
   * The active process is silent, but was ready to run, or waited for the disk, and has hardly been run: it is given more
   * time. Said at most once between two signs of life.
   */
  | { readonly type: "starved" }
  | { readonly type: "quorum"; readonly quorate: boolean };

/** What must be done. */
export type ServerEffect =
  /** The next process is due. It starts after `allowStart`. */
  | { readonly type: "askToStart" }
  | { readonly type: "spawn"; readonly instanceId: number }
  /**
   * The process is about to be ended, or has failed with the option `observe`: look at it, and answer with `examined`. Signals
   * wait for its stack trace, at most `stackMs`; 0: take none. `stackAccess`: how the process said that its stack can be had;
   * null before it said anything.
   */
  | {
    readonly type: "examine";
    readonly stackMs: number;
    readonly stackAccess: string | null;
  }
  | { readonly type: "signal"; readonly signal: Signal }
  /** The process has got its signal from elsewhere (a terminal sends it to all). */
  | { readonly type: "delivered" }
  /** Of the processes below a wrapper that has ended, those that have not got its signal get it now. */
  | { readonly type: "passOn" }
  /** The process has finalized: it and its helpers go on when supervision ends. */
  | { readonly type: "letGo" }
  | { readonly type: "send"; readonly message: ServerMessage }
  /** The next spare is due. It starts after its `allowStart`. */
  | { readonly type: "askToStartSpare" }
  | { readonly type: "spawnSpare" }
  /** The spare is the instance from now on. */
  | { readonly type: "promote" }
  | { readonly type: "killSpare" }
  | { readonly type: "sendSpare"; readonly message: ServerMessage }
  /** The instance is gone: close its link, and end what is left of it. */
  | { readonly type: "bury" }
  | { readonly type: "map"; readonly keys: MapKeys }
  | { readonly type: "unmap" }
  | { readonly type: "emit"; readonly event: ServerEvent; readonly instanceId: number }
  | { readonly type: "finish"; readonly status: ExitStatus };

/** Keys of the cluster map, below `resources.process.<pid>.`. */
export interface MapKeys {
  readonly recovery?: "quit" | "restart";
  readonly pollPeriod?: bigint;
  /** On the clock of `now`, in milliseconds. */
  readonly lastUpdated?: number;
  readonly state?: "stopped" | "running" | "failed" | "waiting for quorum";
}
