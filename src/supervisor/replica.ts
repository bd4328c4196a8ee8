/**
 * A replica: one of the instances that a program runs side by side, as its user sees it. Most programs have one replica. Its
 * supervision is replaced when a reload succeeds.
 */
import type {
  DriverEvent,
  ExitStatus,
  ReloadEvent,
  SupervisorEvent,
  SupervisorStatus,
} from "../api/events.ts";
import type { CheckedProgram } from "../api/program.ts";
import type { CheckedSuperviseOptions } from "../api/supervise_options.ts";
import { nextInstanceId } from "../core/server/instance_record.ts";
import type { ReloadFailure } from "../core/server/reload.ts";
import type { Replacement } from "../core/server/replacements.ts";
import type { Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import { EventLog } from "./event_log.ts";
import { ReloadRun, type ReplacementStatus } from "./reload_run.ts";
import { reloadWay } from "./reload_way.ts";
import { type LastReplacement, ReplicaHistory } from "./replica_history.ts";
import { type LoadParts, loadParts } from "./load_parts.ts";
import { type Due, Supervision } from "./supervise.ts";

/** A replica as its user describes it. */
export interface ReplicaParts {
  readonly name: string;
  readonly program: CheckedProgram;
  readonly options: CheckedSuperviseOptions;
  /** Time for which a replacement must stay ready before it takes over, in milliseconds. Default 1,000. */
  readonly minReady?: number | undefined;
}

/** The status of a replica. */
export interface ReplicaStatus extends SupervisorStatus {
  /** The replacement, while it starts and proves itself. Left out without a reload. */
  readonly replacement?: ReplacementStatus;
  /** The last replacement of an instance that exceeded a limit; left out if there was none. */
  readonly lastReplacement?: LastReplacement;
}

/** The cause of a reload that the user has not requested. */
export interface ReloadCause extends Omit<Replacement, "name"> {
  /** True if two processes of the program may run at the same time, as far as their sockets are concerned. */
  readonly mayOverlap: boolean;
}

/** The result of a reload. */
export interface ReloadResult {
  /** The event `reloadFailed`; null if the reload succeeded. */
  readonly failed: (SupervisorEvent & { readonly type: "reloadFailed" }) | null;
}

/** Time for which a new instance must stay ready, in milliseconds. */
export const defaultMinReady = 1000;

function withFirstId(parts: ReplicaParts, firstInstanceId: number): ReplicaParts {
  const { options } = parts;
  return { ...parts, options: { ...options, settings: { ...options.settings, firstInstanceId } } };
}

/** One replica of a program under supervision. */
export class Replica {
  /** Resolves when supervision is over, and no process is left. */
  readonly finished: Promise<ExitStatus>;

  #parts: ReplicaParts;
  readonly #onEvent: (event: SupervisorEvent) => void;
  readonly #onDue: (due: Due) => void;
  readonly #load: LoadParts;
  readonly #log = new EventLog();
  #current: Supervision;
  #run: ReloadRun | null = null;
  #isReloading = false;
  /** The parts that the replacement has, and the program if it takes over. */
  #nextParts: ReplicaParts;
  /** The requests that wait until a parked spare has taken over. */
  #postponed: (() => void)[] = [];
  /** The data that the program had stored before `renew()`; null once the next supervision has it. */
  #leftData: Uint8Array | null = null;
  /** The cause of the present reload; null if it was requested. */
  #cause: ReloadCause | null = null;
  /** Why the reload that is about to begin was canceled; null if it was not. */
  #canceled: string | null = null;
  /** The replacement has got its process or its spare. It gets no other one before it takes over. */
  #hasReplacementStarted = false;
  /** The highest number that an instance or a replacement has had, as far as it is needed for the next replacement. */
  #highestId = 0;
  /** A spare of the replacement was due before it took over. */
  #isSpareHeld = false;
  /** The end of supervision, which is reported when no reload goes on. */
  #heldFinish: (SupervisorEvent & { readonly type: "finish" }) | null = null;
  #isStopping = false;
  #settle!: (status: ExitStatus) => void;
  #endReload: (result: ReloadResult) => void = () => {};
  readonly #history = new ReplicaHistory();

  /** `onDue` is called when a process is due; the process starts after `allowStart()`. */
  constructor(
    parts: ReplicaParts,
    onEvent: (event: SupervisorEvent) => void,
    onDue: (due: Due) => void,
    load: LoadParts = loadParts,
  ) {
    this.#parts = this.#nextParts = parts;
    this.#load = load;
    this.#onEvent = onEvent;
    this.#onDue = onDue;
    this.finished = new Promise((resolve) => this.#settle = resolve);
    this.#current = this.#supervise(parts);
  }

  #supervise({ program, options }: ReplicaParts): Supervision {
    const supervision: Supervision = new Supervision(
      program,
      options,
      (event) => this.#hear(supervision, event),
      (due) => this.#noteDue(supervision, due),
      this.#load,
    );
    return supervision;
  }

  /** True if the replica is ready: see `SupervisorStatus`. */
  get ready(): boolean {
    return this.#current.ready;
  }

  /** True once `shutdown()` was called. A second call kills the processes. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Number of the present instance. */
  get instanceId(): number {
    return this.#current.instanceId;
  }

  get status(): ReplicaStatus {
    const replacement = this.#run?.status;
    return { ...this.#history.extend(this.#current.status), ...(replacement && { replacement }) };
  }

  events(): AsyncIterableIterator<SupervisorEvent> {
    const { status, instanceId } = this;
    return this.#log.read([{ type: "status", status, at: Date.now(), instanceId }]);
  }

  allowStart(due: Due): void {
    this.#current.allowStart(due);
  }

  /** Sends a signal to the process of the present instance. */
  signal(signal: Signal): void {
    this.#current.signal(signal);
  }

  /** Ends all processes and supervision. A second call kills the processes. */
  shutdown(signal: Signal | null, delivered = false): void {
    if (this.#isStopping) this.#run?.hasten();
    const isFirst = !this.#isStopping;
    this.#isStopping = true;
    this.#whenExchanged(() => {
      if (isFirst) this.#cancelReload("stopped");
      this.#current.shutdown(signal, delivered);
    });
  }

  /** Ends the present instance and starts the next. */
  restart(): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#whenExchanged(() => {
        this.#cancelReload("restarted");
        this.#current.restart().then(resolve, reject);
      })
    );
  }

  /** Ends the processes until `restart()`. */
  halt(): Promise<void> {
    return new Promise((resolve) =>
      this.#whenExchanged(() => {
        this.#cancelReload("stopped");
        void this.#current.halt().then(resolve);
      })
    );
  }

  /** Calls `action` at once, or after a parked spare has taken over: an old instance that is being ended cannot stay. */
  #whenExchanged(action: () => void): void {
    if (this.#run?.isExchanging) this.#postponed.push(action);
    else action();
  }

  /**
   * Replaces the present instance by one that has proved itself, with other parts if `parts` is given. Resolves when the old
   * instance has ended, or the reload has failed. Rejects with BAD_HANDLE, TRY_AGAIN or NOT_SUPPORTED if there is nothing to
   * reload now. With a `cause`, a program that must not run twice and cannot have a spare is restarted.
   */
  async reload(parts: ReplicaParts = this.#parts, cause?: ReloadCause): Promise<ReloadResult> {
    const way = reloadWay(parts, {
      ...this.#current.status,
      isReloading: this.#isReloading,
      isBelowWrapper: this.#current.driver?.server.isBelowWrapper ?? false,
      mayOverlap: this.#mayOverlap(parts) && cause?.mayOverlap !== false,
      mayRestart: cause !== undefined,
    });
    this.#checkData(parts);
    this.#isReloading = true;
    this.#nextParts = parts;
    this.#canceled = null;
    const [clock] = await this.#load(this.#parts.options); // loaded before, so that this cannot fail
    const { options: { settings }, minReady = defaultMinReady } = parts;
    const ended = new Promise<ReloadResult>((resolve) => this.#endReload = resolve);
    const run = new ReloadRun(clock, way, minReady, settings.startupTimeout, {
      current: () => this.#current,
      startReplacement: () => this.#startReplacement(),
      takeOver: (replacement) => this.#takeOver(replacement),
      exchanged: (replaced) => this.#announceReloaded(replaced),
      settle: (failure, pid, kept) => this.#endRun(failure, pid, kept),
    });
    this.#run = run;
    this.#cause = cause ?? null;
    const { reason, detail } = cause ?? { reason: "requested", detail: "" };
    this.#announce({ type: "reload", reason, detail });
    if (this.#canceled === null) run.begin();
    else this.#endRun({ detail: this.#canceled }, null, true);
    return await ended;
  }

  /** Gives another name to the program. Its process goes on. */
  describe({ name, minReady }: Pick<ReplicaParts, "name" | "minReady">): void {
    this.#parts = { ...this.#parts, name, minReady };
  }

  /** Gives other parts to a program that has no process. It starts as before: when it is due, or after `restart()`. */
  async renew(parts: ReplicaParts): Promise<null> {
    this.#checkData(parts);
    const { state, restarts } = this.#current.status;
    const hasStarted = restarts > 0 || (state !== "pending" && state !== "idle");
    const old = this.#current;
    this.#isReloading = true;
    this.#nextParts = parts;
    old.shutdown(null);
    await old.finished;
    this.#isReloading = false;
    if (this.#isStopping) {
      this.#finishIfOver();
      return null;
    }
    this.#leftData = old.driver?.server.storedData ?? null;
    const firstInstanceId = hasStarted ? this.#takeId() : old.instanceId;
    this.#follow(this.#supervise(withFirstId(parts, firstInstanceId)), hasStarted ? 1 : 0);
    if (state === "stopped") await this.#current.halt();
    return null;
  }

  /** True if two processes of the program may run at the same time, the later one with these parts. */
  #mayOverlap({ options }: ReplicaParts): boolean {
    const needsOne = ({ quorum, clusterMap }: CheckedSuperviseOptions) =>
      quorum !== undefined || clusterMap !== undefined;
    return !needsOne(options) && !needsOne(this.#parts.options) &&
      this.#current.status.dataSize === 0;
  }

  /** Throws if the stored data is too large for other parts. */
  #checkData({ name, options: { settings: { maxDataSize } } }: ReplicaParts): void {
    const { dataSize } = this.#current.status;
    if (dataSize <= maxDataSize) return;
    throw new SamError(
      "TOO_BIG",
      `cannot reload ${name}: it has stored ${dataSize} bytes, and the new maxDataSize is ${maxDataSize}. Raise maxDataSize.`,
    );
  }

  /** Publishes that the present instance exceeds a limit, and why it is not replaced. */
  refuseReplacement(detail: string): void {
    this.#announce({ type: "fallback", side: "program", detail });
  }

  #cancelReload(why: string): void {
    const detail = `was ended, because the program is being ${why}`;
    this.#canceled ??= detail;
    this.#run?.cancel(detail);
  }

  #startReplacement(): Supervision {
    const firstInstanceId = this.#takeId();
    this.#hasReplacementStarted = this.#isSpareHeld = false;
    return this.#supervise(withFirstId(this.#nextParts, firstInstanceId));
  }

  /** The number of the next replacement. The present supervision does not use it. */
  #takeId(): number {
    this.#highestId = nextInstanceId(Math.max(this.#current.instanceId, this.#highestId));
    this.#current.driver?.reserveIds(this.#highestId);
    return this.#highestId;
  }

  /** Makes a supervision the present one. A parked spare becomes the instance now; any other replacement already runs. */
  #takeOver(next: Supervision): void {
    const replaced = this.#current;
    const { driver } = next;
    this.#follow(next, 1);
    driver?.reserveIds(this.#highestId = Math.max(this.#highestId, replaced.instanceId));
    driver?.accept();
    if (next.status.pid === null) {
      driver?.adopt(replaced.driver!.server.storedData);
      for (const action of this.#postponed.splice(0)) action();
      next.allowStart("process");
    } else {
      this.#announceReloaded(replaced.instanceId);
    }
    if (this.#isSpareHeld) this.#onDue("spare");
  }

  #announceReloaded(replaced: number): void {
    const { pid } = this.#current.status;
    const { at } = this.#announce({ type: "reloaded", pid, replaced });
    if (this.#cause) this.#history.noteReplacement(this.#cause, at, replaced);
  }

  /** Replaces the present supervision, and adds its history to that of the program. */
  #follow(next: Supervision, restarts: 0 | 1): void {
    this.#history.close(this.status, restarts);
    this.#heldFinish = null;
    this.#parts = this.#nextParts;
    this.#current = next;
  }

  #endRun(failure: ReloadFailure | null, pid: number | null, kept: boolean): void {
    this.#run = null;
    this.#isReloading = false;
    const failed = failure && this.#announce({ type: "reloadFailed", pid, kept, ...failure });
    this.#endReload({ failed });
    this.#finishIfOver();
  }

  #noteDue(supervision: Supervision, due: Due): void {
    const { driver } = supervision;
    if (supervision === this.#current) {
      if (this.#leftData) driver?.adopt(this.#leftData);
      this.#leftData = null;
      return this.#onDue(due);
    }
    const begins = due === this.#run?.firstDue && !this.#hasReplacementStarted;
    if (begins) {
      this.#hasReplacementStarted = true;
      supervision.allowStart(due);
    } else if (due === "spare") this.#isSpareHeld = true;
    else if (!this.#hasReplacementStarted) driver?.prepareSpare();
  }

  #hear(supervision: Supervision, event: SupervisorEvent): void {
    if (this.#run?.isReplacement(supervision)) {
      if (event.type === "fallback" || event.type === "problem") this.#publish(event);
      return this.#run.hearReplacement(event);
    }
    if (supervision !== this.#current) {
      if (event.type === "finish") this.#run?.noteRetired();
      else this.#publish(event);
      return;
    }
    if (event.type === "finish") this.#heldFinish = event;
    else this.#publish(event);
    this.#run?.hearCurrent(event);
    this.#finishIfOver();
  }

  #finishIfOver(): void {
    const event = this.#heldFinish;
    if (event === null || this.#isReloading) return;
    this.#heldFinish = null;
    this.#publish(event);
    this.#log.close();
    this.#settle(event.status);
  }

  #announce<T extends ReloadEvent | DriverEvent>(event: T): SupervisorEvent & T {
    const stamped = { ...event, at: Date.now(), instanceId: this.instanceId };
    try {
      this.#publish(stamped as SupervisorEvent);
    } catch (error) {
      this.#current.report(error, `a listener for the event "${event.type}" failed`);
    }
    return stamped as SupervisorEvent & T;
  }

  #publish(event: SupervisorEvent): void {
    this.#log.push(event);
    this.#onEvent(event);
  }
}
