/**
 * A replica: one of the instances that a program runs side by side, as its user sees it. Most programs have one replica. Its
 * supervision is replaced when a reload succeeds.
 */
import type {
  ExitStatus,
  LastRecovery,
  ReloadEvent,
  SupervisorEvent,
  SupervisorStatus,
} from "../api/events.ts";
import type { CheckedProgram } from "../api/program.ts";
import type { CheckedSuperviseOptions } from "../api/supervise_options.ts";
import { nextInstanceId } from "../core/server/instance_record.ts";
import type { ReloadFailure } from "../core/server/reload.ts";
import type { Slack } from "../core/server/slack.ts";
import type { Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import { loadRuntime } from "../runtime/load.ts";
import { EventLog } from "./event_log.ts";
import { ReloadRun, type ReplacementStatus } from "./reload_run.ts";
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
}

/** The result of a reload. */
export interface ReloadResult {
  /** The event `reloadFailed`; null if the reload succeeded. */
  readonly failed: (SupervisorEvent & { readonly type: "reloadFailed" }) | null;
}

const defaultMinReady = 1000;

/** One replica of a program under supervision. */
export class Replica {
  /** Resolves when supervision is over, and no process is left. */
  readonly finished: Promise<ExitStatus>;

  readonly #parts: ReplicaParts;
  readonly #onEvent: (event: SupervisorEvent) => void;
  readonly #onDue: (due: Due) => void;
  readonly #log = new EventLog();
  #current: Supervision;
  #run: ReloadRun | null = null;
  #isReloading = false;
  /** Why the reload that is about to begin was canceled; null if it was not. */
  #canceled: string | null = null;
  /** The replacement has got its process. It gets no other one before it takes over. */
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
  // The history before the present supervision.
  #earlierRestarts = 0;
  #earlierHeartbeats: readonly number[] = [];
  #earlierRecovery: LastRecovery | null = null;

  /** `onDue` is called when a process is due; the process starts after `allowStart()`. */
  constructor(
    parts: ReplicaParts,
    onEvent: (event: SupervisorEvent) => void,
    onDue: (due: Due) => void,
  ) {
    this.#parts = parts;
    this.#onEvent = onEvent;
    this.#onDue = onDue;
    this.finished = new Promise((resolve) => this.#settle = resolve);
    this.#current = this.#supervise(parts.options);
  }

  #supervise(options: CheckedSuperviseOptions): Supervision {
    const supervision: Supervision = new Supervision(
      this.#parts.program,
      options,
      (event) => this.#hear(supervision, event),
      (due) => this.#noteDue(supervision, due),
    );
    return supervision;
  }

  /** True if the replica is ready: see `SupervisorStatus`. */
  get ready(): boolean {
    return this.#current.ready;
  }

  /** Number of the present instance. */
  get instanceId(): number {
    return this.#current.instanceId;
  }

  get status(): ReplicaStatus {
    const status = this.#current.status;
    const replacement = this.#run?.status;
    return {
      ...status,
      restarts: this.#earlierRestarts + status.restarts,
      lastRecovery: status.lastRecovery ?? this.#earlierRecovery,
      slack: this.#sum(status.slack),
      ...(replacement && { replacement }),
    };
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
    else this.#cancelReload("stopped");
    this.#isStopping = true;
    this.#current.shutdown(signal, delivered);
  }

  /** Ends the present instance and starts the next. */
  restart(): Promise<void> {
    this.#cancelReload("restarted");
    return this.#current.restart();
  }

  /** Ends the processes until `restart()`. */
  async halt(): Promise<void> {
    this.#cancelReload("stopped");
    await this.#current.halt();
  }

  /**
   * Replaces the present instance by one that has proved itself. Resolves when the old instance has ended, or the reload has
   * failed. Rejects with BAD_HANDLE, TRY_AGAIN or NOT_SUPPORTED if there is nothing to reload now.
   */
  async reload(): Promise<ReloadResult> {
    this.#checkReload();
    this.#isReloading = true;
    this.#canceled = null;
    const clock = await loadRuntime();
    const { options: { settings }, minReady = defaultMinReady } = this.#parts;
    const ended = new Promise<ReloadResult>((resolve) => this.#endReload = resolve);
    const run = new ReloadRun(clock, this.#mayOverlap, minReady, settings.startupTimeout, {
      current: () => this.#current,
      startReplacement: () => this.#startReplacement(),
      takeOver: (replacement) => this.#takeOver(replacement),
      promoted: (replaced) => this.#announce({ type: "reloaded", pid: this.status.pid, replaced }),
      settle: (failure, pid, kept) => this.#endRun(failure, pid, kept),
    });
    this.#run = run;
    this.#announce({ type: "reload" });
    if (this.#canceled === null) run.begin();
    else this.#endRun({ detail: this.#canceled }, null, true);
    return await ended;
  }

  /** True if two processes of the program may run at the same time. */
  get #mayOverlap(): boolean {
    const { quorum, clusterMap } = this.#parts.options;
    return !quorum && !clusterMap && this.#current.status.dataSize === 0;
  }

  /** Throws if the replica cannot be reloaded now. */
  #checkReload(): void {
    const { name, program: { isCommand, preload } } = this.#parts;
    const refused = (code: "BAD_HANDLE" | "TRY_AGAIN" | "NOT_SUPPORTED", why: string) =>
      new SamError(code, `cannot reload ${name}: ${why}`);
    if (this.#isReloading) {
      throw refused("TRY_AGAIN", "another reload of it is running. Wait until that has ended.");
    }
    const { state, pid } = this.#current.status;
    switch (state) {
      case "finished":
        throw refused("BAD_HANDLE", "it has finished. Start it again with a new sam run.");
      case "stopped":
        throw refused("BAD_HANDLE", `it is stopped. Start it with sam restart ${name}.`);
      case "stopping":
        throw refused("TRY_AGAIN", "it is being stopped or restarted.");
      case "idle":
      case "pending":
      case "spawning":
        throw refused("TRY_AGAIN", "it has not started yet.");
    }
    if (this.#mayOverlap) return;
    if (pid === null || state === "warned" || state === "killing") {
      throw refused("TRY_AGAIN", "it is being recovered.");
    }
    if (isCommand && !preload && state === "launched") {
      throw refused(
        "NOT_SUPPORTED",
        `it must not run twice, and does not call register(). Use sam restart ${name}.`,
      );
    }
  }

  #cancelReload(why: string): void {
    const detail = `was ended, because the program is being ${why}`;
    this.#canceled ??= detail;
    this.#run?.cancel(detail);
  }

  #startReplacement(): Supervision {
    const { options } = this.#parts;
    const firstInstanceId = nextInstanceId(Math.max(this.#current.instanceId, this.#highestId));
    this.#highestId = firstInstanceId;
    this.#current.driver?.reserveIds(firstInstanceId);
    this.#hasReplacementStarted = this.#isSpareHeld = false;
    return this.#supervise({ ...options, settings: { ...options.settings, firstInstanceId } });
  }

  #takeOver(replacement: Supervision): void {
    const { instanceId: replaced } = this.#current;
    const { restarts, slack, lastRecovery } = this.status;
    this.#earlierRestarts = restarts + 1;
    this.#earlierHeartbeats = slack.buckets.map(({ total }) => total);
    this.#earlierRecovery = lastRecovery;
    this.#heldFinish = null;
    this.#highestId = Math.max(this.#highestId, replaced);
    replacement.driver?.reserveIds(this.#highestId);
    this.#current = replacement;
    this.#announce({ type: "reloaded", pid: replacement.status.pid, replaced });
    if (this.#isSpareHeld) this.#onDue("spare");
  }

  #endRun(failure: ReloadFailure | null, pid: number | null, kept: boolean): void {
    this.#run = null;
    this.#isReloading = false;
    const failed = failure && this.#announce({ type: "reloadFailed", pid, kept, ...failure });
    this.#endReload({ failed });
    this.#finishIfOver();
  }

  #noteDue(supervision: Supervision, due: Due): void {
    if (supervision === this.#current) return this.#onDue(due);
    if (due === "spare") this.#isSpareHeld = true;
    else if (!this.#hasReplacementStarted) {
      this.#hasReplacementStarted = true;
      supervision.allowStart(due);
    }
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

  #announce<T extends ReloadEvent>(event: T): SupervisorEvent & T {
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

  /** Adds the heartbeats before the last reload to the totals. */
  #sum(slack: Slack): Slack {
    const buckets = slack.buckets.map((bucket, at) => ({
      ...bucket,
      total: bucket.total + (this.#earlierHeartbeats[at] ?? 0),
    }));
    return { ...slack, buckets };
  }
}
