/** Everything the server knows about one instance of the program. The next instance gets a new record. */
import type { EndSignal, Signal } from "../signals.ts";
import type {
  Evidence,
  ProcessEvidence,
  RecoveryReason,
  ServerInput,
  ServerState,
} from "./types.ts";
import type { Watch } from "./watch.ts";

/** How a process ended; `detail` says more for people, when everything that the process wrote has arrived. */
export type Exit =
  & Pick<ServerInput & { readonly type: "exit" }, "code" | "signal">
  & Partial<Pick<ServerInput & { readonly type: "concluded" }, "detail">>;

/** A failure that the server decided to recover from, while the process lived. */
export interface Failure {
  readonly reason: RecoveryReason;
  readonly detail: string;
  /** When the server decided. */
  readonly at: number;
}

/** What follows an orderly end: the end of supervision, the next instance, or no instance until a restart is asked for. */
export type Goal = "stop" | "restart" | "halt";

/** One instance of the program. */
export class InstanceRecord {
  /** 1 for the first instance, +1 for each later one, 0 after 2^31-1. */
  readonly id: number;
  /** The deadlines of this instance. */
  readonly watch: Watch;
  /** When the process was started, or promoted. */
  spawnedAt: number;
  /** Null before the process exists, and after its end was judged. */
  pid: number | null = null;
  /** Since when the instance has been healthy; null while it is not. */
  healthySince: number | null = null;

  /** The process called `register()`, or its preload did. */
  isRegistered = false;
  /** Only the preload has registered the process, not the program itself. */
  isPreloaded = false;
  /** No instance had registered before this one. */
  isFirst = false;
  /** The link to the process is open. */
  isLinked = false;
  /** The instance has been watched, at least for a while. */
  hasStarted = false;
  /** The process was promoted from a spare, and no message shows yet that it noticed. */
  isUnaware = false;
  /** The request id of a `start()` that has no answer yet. */
  startRequest: number | null = null;

  /** How the process said that its stack can be had; null before it did. */
  stackAccess: string | null = null;
  /** What the last look at the process from outside showed, and what it left behind. */
  processEvidence: ProcessEvidence = {};
  /** With `observe`: the failures for which the process is still being examined. */
  readonly observed: Failure[] = [];

  /** The failure that ends the instance; null for none. */
  failure: Failure | null = null;
  /** The orderly end that was asked for; null for none. */
  goal: Goal | null = null;
  /** The signal to end the instance with; null for the warn signal. */
  goalSignal: Signal | null = null;
  /** A stop was asked for twice while the process was being started. */
  isHastened = false;
  /** The state in which a wrapper ended and left the program behind; null if none did. */
  orphanedIn: ServerState | null = null;
  /** How the process ended; null while it lives. */
  exit: Exit | null = null;

  constructor(id: number, watch: Watch, now: number) {
    this.id = id;
    this.watch = watch;
    this.spawnedAt = now;
  }

  /** True if the program called `register()` itself: the rules of libsam judge its end. */
  get judgesItself(): boolean {
    return this.isRegistered && !this.isPreloaded;
  }

  /** Milliseconds from the spawn to `now`. */
  ranMs(now: number): number {
    return now - this.spawnedAt;
  }

  /** How long the instance was healthy before it ended, or before the server decided to end it. */
  healthyMs(now: number): number {
    return this.healthySince === null ? 0 : (this.failure?.at ?? now) - this.healthySince;
  }

  /** Everything that is known about a failure. */
  evidence(detail: string, now: number): Evidence {
    const exitCode = this.exit?.code ?? null;
    const signal: EndSignal | null = this.exit?.signal ?? null;
    const { lastHeartbeat } = this.watch;
    const heartbeatAge = lastHeartbeat === null ? null : (this.failure?.at ?? now) - lastHeartbeat;
    return { detail, exitCode, signal, heartbeatAge, ...this.processEvidence };
  }
}

/** The id of the instance after `id`: an i32, as libsam has it. */
export function nextInstanceId(id: number): number {
  return id >= 2 ** 31 - 1 ? 0 : id + 1;
}
