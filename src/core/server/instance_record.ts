/** The server's record of one instance of the program. The next instance gets a new record. */
import type { EndSignal, Signal } from "../signals.ts";
import type {
  Evidence,
  ProcessEvidence,
  RecoveryReason,
  ServerInput,
  ServerState,
} from "./types.ts";
import type { Members } from "./members.ts";
import type { Watch } from "./watch.ts";

/** The end of a process. `detail` describes it for people, once everything that the process wrote has arrived. */
export type Exit =
  & Pick<ServerInput & { readonly type: "exit" }, "code" | "signal">
  & Partial<Pick<ServerInput & { readonly type: "concluded" }, "detail">>;

/** A failure of an instance whose process was still running. */
export interface Failure {
  readonly reason: RecoveryReason;
  readonly detail: string;
  /** Time of the failure. */
  readonly at: number;
}

/**
 * The goal of an orderly end: the end of supervision, the next instance, the promotion of the spare, or no instance until a
 * restart is requested.
 */
export type Goal = "stop" | "restart" | "halt";

/** One instance of the program. */
export class InstanceRecord {
  /** Number of the instance: usually 1 for the first one, +1 for each later one. After 2^31-1, it starts again from 0. */
  readonly id: number;
  /** The deadlines of this instance. */
  readonly watch: Watch;
  /** The workers of node:cluster below this instance. */
  readonly members: Members;
  /** Time when the process was started, or promoted from a spare. */
  spawnedAt: number;
  /** Process id; null before the process exists, and after its end was judged. */
  pid: number | null = null;
  /** Time since which the instance has been healthy; null while it is not. */
  healthySince: number | null = null;

  /** True if the program or its preload has called `register()`. */
  isRegistered = false;
  /** True if only the preload has registered the process, not the program itself. */
  isPreloaded = false;
  /** True if a preload has registered a process below the one that the server started, which is a wrapper. */
  isBelowWrapper = false;
  /** True if no instance registered before this one. */
  isFirst = false;
  /** True while the link to the process is open. */
  isLinked = false;
  /** True if the instance was watched at any time. */
  hasStarted = false;
  /** True if the process was promoted from a spare and has sent no message since. It may not know of its promotion. */
  hasNotAnsweredPromotion = false;
  /** True if the process can finish its requests and then end by itself. */
  drains = false;
  /** False while HTTP requests wait, and none has finished for too long. */
  hasProgress = true;
  /** The address on which the program listens without a socket of the server; null if there is none. */
  listensElsewhere: string | null = null;
  /**
   * The ports at which the process does not accept connections yet, and those of 127.0.0.1 at which it answers health checks
   * until then.
   */
  readonly checkPorts: Map<number, number> = new Map();
  /** Request id of a `start()` that has no answer yet; null if there is none. */
  startRequest: number | null = null;

  /** The way to capture the stack of the process, as the process reported it; null before it did. */
  stackAccess: string | null = null;
  /** The evidence from the last examination of the process. */
  processEvidence: ProcessEvidence = {};
  /** With `observe`: the failures for which the examination is not finished. */
  readonly observed: Failure[] = [];

  /** The failure that ends the instance; null for none. */
  failure: Failure | null = null;
  /** The goal of the requested orderly end; null if none was requested. */
  goal: Goal | null = null;
  /** Signal for the requested end; null for the warn signal. */
  goalSignal: Signal | null = null;
  /** True if a stop was requested twice while the process was being started. */
  killWhenSpawned = false;
  /** State in which the wrapper ended while the program still ran; null if that did not happen. */
  orphanedIn: ServerState | null = null;
  /** The end of the process; null while it runs. */
  exit: Exit | null = null;

  constructor(id: number, watch: Watch, members: Members, now: number) {
    this.id = id;
    this.watch = watch;
    this.members = members;
    this.spawnedAt = now;
  }

  /** True if the program called `register()` itself. The rules of libsam then apply to its end. */
  get registeredItself(): boolean {
    return this.isRegistered && !this.isPreloaded;
  }

  ranMs(now: number): number {
    return now - this.spawnedAt;
  }

  /** Milliseconds for which the instance was healthy, until its failure or `now`. */
  healthyMs(now: number): number {
    return this.healthySince === null ? 0 : (this.failure?.at ?? now) - this.healthySince;
  }

  evidence(detail: string, now: number): Evidence {
    const exitCode = this.exit?.code ?? null;
    const signal: EndSignal | null = this.exit?.signal ?? null;
    const { lastHeartbeat } = this.watch;
    const heartbeatAge = lastHeartbeat === null ? null : (this.failure?.at ?? now) - lastHeartbeat;
    return { detail, exitCode, signal, heartbeatAge, ...this.processEvidence };
  }
}

/** The id of the next instance. Ids are 32-bit signed integers, as in libsam. */
export function nextInstanceId(id: number): number {
  return id >= 2 ** 31 - 1 ? 0 : id + 1;
}
