/** Carries out one reload of one program: the shell of the state machine in core/server/reload.ts. */
import type { SupervisorEvent } from "../api/events.ts";
import type { Evidence, RecoveryReason } from "../core/server/types.ts";
import {
  Reload,
  type ReloadFailure,
  type ReloadInput,
  type ReloadWay,
} from "../core/server/reload.ts";
import type { Clock } from "../runtime/runtime.ts";
import { endingOf, endOf, firstLine } from "./report.ts";
import type { Due, Supervision } from "./supervise.ts";

/** The actions that a reload needs of its replica. */
export interface ReloadHost {
  /** The supervision of the present instance. */
  readonly current: () => Supervision;
  /** Starts a replacement or its spare, and passes its events to `hearReplacement()`. */
  readonly startReplacement: () => Supervision;
  /** Makes the supervision of the replacement the present one, and starts its instance if none runs. */
  readonly takeOver: (replacement: Supervision) => void;
  /** The new instance, which was a spare or was started by a restart, has replaced the instance `replaced`, and has proved itself. */
  readonly exchanged: (replaced: number) => void;
  /** The reload is over. `kept` is true if the old instance has stayed. */
  readonly settle: (failure: ReloadFailure | null, pid: number | null, kept: boolean) => void;
}

/** The status of a replacement, while it proves itself. */
export interface ReplacementStatus {
  readonly pid: number | null;
  /** True if the replacement is ready, and has not yet been ready for long enough. */
  readonly ready: boolean;
}

const dataMeanwhile: ReloadInput = {
  type: "cancel",
  detail: "was ended, because the old instance has stored data meanwhile: reload the program again",
};

/** A reload that is going on. */
export class ReloadRun {
  readonly #machine: Reload;
  readonly #way: ReloadWay;
  readonly #host: ReloadHost;
  readonly #clock: Clock;
  /** The supervision of the replacement; null for a restart. */
  #replacement: Supervision | null = null;
  /** The supervision of the old instance, once it was replaced; null before. */
  #retired: Supervision | null = null;
  /** Number of the old instance. */
  #replaced: number;
  #pid: number | null = null;
  #cancelTimer = () => {};

  constructor(
    clock: Clock,
    way: ReloadWay,
    minReady: number,
    startupTimeout: number,
    host: ReloadHost,
  ) {
    this.#clock = clock;
    this.#host = host;
    this.#way = way;
    this.#machine = new Reload({ way, minReady, startupTimeout });
    this.#replaced = host.current().instanceId;
  }

  begin(): void {
    this.#feed({ type: "begin" });
  }

  /** The status of the replacement before it takes over; undefined if there is none. */
  get status(): ReplacementStatus | undefined {
    if (this.#machine.isCommitted || this.#machine.state === "over") return undefined;
    return { pid: this.#pid, ready: this.#machine.state === "proving" };
  }

  /** The process of the replacement that starts first. */
  get firstDue(): Due {
    return this.#way === "spare" ? "spare" : "process";
  }

  /** True while the old instance is being ended for a parked spare. */
  get isExchanging(): boolean {
    return this.#way === "spare" && this.#machine.state === "exchanging" && this.#retired === null;
  }

  /** True if events of this supervision are those of a replacement that has not taken over. */
  isReplacement(supervision: Supervision): boolean {
    return this.#retired === null && supervision === this.#replacement;
  }

  /** Ends the replacement, unless it has taken over. `detail` says why, in words that follow "the replacement". */
  cancel(detail: string): void {
    this.#feed({ type: "cancel", detail });
  }

  /** Kills the processes that are being ended. */
  hasten(): void {
    if (this.isExchanging) this.#host.current().shutdown(null);
    else if (this.#retired) this.#retired.shutdown(null);
    else this.#replacement?.shutdown(null);
  }

  /** Takes an event of the replacement before it takes over. */
  hearReplacement(event: SupervisorEvent): void {
    // Nothing can keep the old instance now. If the spare has ended, a process of the new code is started in its place.
    if (this.isExchanging) return;
    if (event.type === "spawn" || event.type === "spare") this.#pid = event.pid;
    if (event.type === "spare" && event.state === "parked") this.#feed({ type: "parked" });
    if (event.type === "spare" && event.state === "ended") {
      this.#feed({ type: "failed", failure: { detail: "ended before it was ready" } });
    }
    this.#hearNew(event);
    if (event.type === "finish") {
      const { code, signal, error } = event.status;
      this.#feed({ type: "ended", detail: error?.message ?? endingOf(code, signal) });
    } else if (this.#replacement?.ready) this.#feed({ type: "ready" });
  }

  /** Takes an event of the present instance. It matters for a reload by a spare or by a restart. */
  hearCurrent(event: SupervisorEvent): void {
    if (this.#way === "side by side") return;
    const { state } = this.#machine;
    if (this.isExchanging) {
      if (event.type === "finish") this.#exchange();
    } else if (state === "awaiting" || state === "proving") {
      this.#hearNew(event);
      if (event.type === "finish") this.#feed({ type: "failed", failure: { detail: "ended" } });
      else if (this.#host.current().ready) this.#feed({ type: "ready" });
    } else if (state === "exchanging") {
      if (event.type === "spawn" || (event.type === "spare" && event.state === "promoted")) {
        this.#pid = event.pid;
        this.#feed({ type: "replaced" });
        if (this.#host.current().ready) this.#feed({ type: "ready" });
      } else if (event.type === "finish") {
        this.#feed({ type: "failed", failure: { detail: "could not be started" } });
      }
    }
  }

  /** Notes that the old instance has ended, after the replacement took over. */
  noteRetired(): void {
    this.#feed({ type: "replaced" });
  }

  #hearNew(event: SupervisorEvent): void {
    switch (event.type) {
      case "warn":
      case "exit":
        return this.#feed({ type: "failing" });
      case "check":
        if (!event.healthy) this.#feed({ type: "checkFailed", detail: event.detail });
        return;
      case "spawnFailed":
        return this.#feed({ type: "failed", failure: { detail: event.error.message } });
      case "recovery":
      case "observed": {
        const { reason, evidence } = event;
        const detail = event.type === "recovery" ? describeEnd(reason, evidence) : evidence.detail;
        return this.#feed({ type: "failed", failure: { reason, detail, evidence } });
      }
    }
  }

  #feed(given: ReloadInput): void {
    if (this.#machine.state === "over") return;
    const input = this.#hasDataMeanwhile ? dataMeanwhile : given;
    for (const effect of this.#machine.step(input, this.#clock.now())) {
      switch (effect.type) {
        case "startReplacement":
        case "prepareSpare":
          this.#replacement = this.#host.startReplacement();
          break;
        case "takeOver":
          this.#retired = this.#host.current();
          this.#replaced = this.#retired.instanceId;
          this.#host.takeOver(this.#replacement!);
          break;
        case "endOld":
          this.#endOld();
          break;
        case "endReplacement":
          this.#replacement!.shutdown(null);
          break;
        case "settle":
          if (this.#way !== "side by side" && !effect.failure) {
            this.#host.exchanged(this.#replaced);
          }
          this.#host.settle(effect.failure, this.#pid, !this.#machine.isCommitted);
      }
    }
    this.#arm();
  }

  /** True if the replacement must not take over, because it would lose data that the old instance has stored meanwhile. */
  get #hasDataMeanwhile(): boolean {
    if (this.#way !== "side by side" || this.#machine.isCommitted) return false;
    // With the setting minReady 0, the replacement takes over while the state is still "starting".
    const mayTakeOver = this.#machine.state === "starting" || this.#machine.state === "proving";
    return mayTakeOver && this.#host.current().status.dataSize > 0;
  }

  #endOld(): void {
    const old = this.#retired ?? this.#host.current();
    if (this.#way === "restart") {
      this.#replaced = old.instanceId;
      return void old.restart().catch(() => {}); // the events say why it was interrupted
    }
    if (!old.result) return old.shutdown(null);
    if (this.#way === "side by side") this.#feed({ type: "replaced" });
    else this.#exchange();
  }

  /** The old instance has ended: its supervision gives way to that of the parked spare. */
  #exchange(): void {
    this.#retired = this.#host.current();
    this.#replaced = this.#retired.instanceId;
    this.#host.takeOver(this.#replacement!);
  }

  #arm(): void {
    this.#cancelTimer();
    this.#cancelTimer = () => {};
    const { deadline } = this.#machine;
    if (deadline === undefined) return;
    const delay = Math.max(0, deadline - this.#clock.now());
    this.#cancelTimer = this.#clock.schedule(() => this.#feed({ type: "tick" }), delay, true);
  }
}

/** Says how a replacement ended, and why. Its warning was not reported before. */
function describeEnd(reason: RecoveryReason, evidence: Evidence): string {
  const end = endOf(reason, evidence);
  const cause = firstLine(evidence.detail);
  return cause === "" || end.includes(cause) ? end : `${end}: ${cause}`;
}
