/**
 * Wakes the driver of one program for each deadline of its server. A deadline has three steps: the timer fires a little early,
 * the input that has arrived by then is read, and only then does the server get its tick. A process that missed its deadline
 * because it got no CPU time gets more time instead.
 *
 * A process is in doubt when three quarters of the time interval have passed without a heartbeat: see `Starvation`.
 */
import type { ServerInput } from "../core/server/types.ts";
import type { Clock, SystemFiles } from "../runtime/runtime.ts";
import { Starvation } from "./instance/starvation.ts";
import { type Sleeper, type WakeTimer, wakeTimerOf } from "./wake_timer.ts";

/** Something with deadlines: the server of a program, or a worker of node:cluster. */
export interface Timed {
  /** `started` while heartbeats are expected. */
  readonly state: string;
  readonly lastHeartbeat: number | null;
  /** See `Server`. */
  readonly deadline: number | undefined;
  readonly responseDueAt: number;
  readonly doubtAt: number;
}

/** The parts of a timekeeper. */
export interface TimekeeperParts {
  readonly runtime: Clock & SystemFiles;
  /** The server whose deadlines are read. The timekeeper passes input to it only through `feed()`. */
  readonly server: Timed;
  readonly timeInterval: number;
  /** True if heartbeats do not wake the server, so that it must poll for them. */
  readonly isSampled: boolean;
  /** The process id of the current instance. */
  pid(): number | undefined;
  /** Polls for heartbeats that do not wake the server. */
  sample(): void;
  feed(input: ServerInput): void;
}

const tick: ServerInput = { type: "tick" };

/** Handles the deadlines of one program. */
export class Timekeeper implements Sleeper {
  readonly #parts: TimekeeperParts;
  readonly #timer: WakeTimer;
  readonly #starvation: Starvation;
  /** The time of the next poll for heartbeats that do not wake the server. */
  #nextSample = Infinity;
  /**
   * Milliseconds before a wake-up in which a timer would fire too late. No timer is set then: `#handleDeadline()` lets the event
   * loop run round after round until the deadline.
   */
  readonly #nearMs: number;
  /** Milliseconds by which the timer fires before a deadline, so that the runtime can deliver the input that has arrived. */
  readonly #settleMs: number;
  /** True while a deadline that is near or has arrived is being handled. */
  #settling = false;
  #ended = false;

  constructor(parts: TimekeeperParts) {
    const { runtime, timeInterval } = parts;
    this.#parts = parts;
    this.#timer = wakeTimerOf(runtime);
    this.#starvation = new Starvation(runtime, timeInterval);
    this.#nearMs = Math.min(1, timeInterval / 16 || 1);
    this.#settleMs = Math.min(runtime.settleMs, timeInterval / 4 || Infinity);
  }

  /** Begins to wake the server. */
  begin(): void {
    this.#timer.add(this);
  }

  /** Stops for good. */
  end(): void {
    this.#ended = true;
    this.#timer.remove(this);
  }

  /** True if the main thread of the process has been busy ever since the process came into doubt. */
  get isBusy(): boolean {
    return this.#starvation.isBusySince(this.#parts.server.lastHeartbeat);
  }

  /** The next time to wake: shortly before the deadline, when the process comes into doubt, or for a poll of heartbeats. */
  get due(): number {
    if (this.#ended || this.#settling) return Infinity;
    const { deadline } = this.#parts.server;
    return deadline === undefined
      ? this.#nextSample
      : Math.min(this.#nextSample, this.#doubtAt, deadline - this.#settleMs);
  }

  /** The time at which the process comes into doubt; Infinity if it is in doubt already. */
  get #doubtAt(): number {
    const { doubtAt, responseDueAt } = this.#parts.server;
    return responseDueAt === this.#starvation.deadline ? Infinity : doubtAt;
  }

  /** Sets the timer again, because the server's deadline may have changed. */
  arm(): void {
    if (this.#settling) return;
    this.#planSample();
    this.#timer.arm(this.due);
  }

  /** Plans the next poll at a multiple of its period, so that programs with the same time interval are polled together. */
  #planSample(): void {
    const { runtime, server, isSampled, timeInterval } = this.#parts;
    if (!isSampled || timeInterval === 0 || server.state !== "started") {
      this.#nextSample = Infinity;
      return;
    }
    if (this.#nextSample !== Infinity) return;
    const periodMs = Math.max(1, timeInterval / 16);
    const soon = runtime.now() + Math.min(1, periodMs / 4); // a timer that fired early must not fire twice
    this.#nextSample = (Math.floor(soon / periodMs) + 1) * periodMs;
  }

  wake(): void {
    this.#nextSample = Infinity;
    this.#parts.sample();
    this.#watchDoubt();
    if (this.#isDeadlineNear) void this.#handleDeadline();
    else this.arm();
  }

  #watchDoubt(): void {
    const { runtime, server, pid } = this.#parts;
    const soon = runtime.now() + 1; // timers may be early
    if (this.#doubtAt <= soon) this.#starvation.watch(pid(), server.responseDueAt);
  }

  get #isDeadlineNear(): boolean {
    const { deadline } = this.#parts.server;
    return !this.#ended && deadline !== undefined && this.#isNear(deadline);
  }

  #isNear(deadline: number): boolean {
    return deadline <= this.#parts.runtime.now() + this.#settleMs + this.#nearMs;
  }

  /** Ticks the server at its deadline, unless input that arrived before moves the deadline. */
  async #handleDeadline(): Promise<void> {
    const { runtime, server, pid, sample, feed } = this.#parts;
    this.#settling = true;
    let seen = NaN;
    let waitMs = 0;
    while (this.#isDeadlineNear) {
      const { responseDueAt } = server;
      // The examination comes first, and the input is read after it. If the process is found asleep, everything that it
      // sent before has arrived, and is read below.
      if (responseDueAt !== seen && this.#isNear(responseDueAt)) {
        seen = responseDueAt;
        this.#watchDoubt();
        waitMs = this.#starvation.extraTime(pid(), responseDueAt);
      }
      await runtime.settle();
      sample();
      if (server.deadline! > runtime.now()) continue;
      const isUnresponsive = server.responseDueAt <= runtime.now();
      // A heartbeat came, and then this server got no CPU time for a whole time interval: the process is examined again.
      if (isUnresponsive && server.responseDueAt !== seen) continue;
      if (!isUnresponsive || waitMs === 0) feed(tick);
      else {
        feed({ type: "starved", waitMs });
        this.#starvation.postpone(server.responseDueAt);
      }
    }
    this.#settling = false;
    this.arm();
  }
}
