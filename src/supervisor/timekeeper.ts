/**
 * Wakes the driver of one program in time for each deadline of its server. A deadline is met in three steps: the timer fires a
 * little early, what has arrived by then is read, and only then the server gets its tick. A silent process that got no CPU time
 * has more time until then.
 */
import type { Server } from "../core/server/machine.ts";
import type { ServerInput } from "../core/server/types.ts";
import type { Clock, SystemFiles } from "../runtime/runtime.ts";
import { Starvation } from "./instance/starvation.ts";
import { type Sleeper, type WakeTimer, wakeTimerOf } from "./wake_timer.ts";

/** The parts of a timekeeper. */
export interface TimekeeperParts {
  readonly runtime: Clock & SystemFiles;
  /** Its deadlines are read; it is never stepped here. */
  readonly server: Server;
  readonly timeInterval: number;
  /** True if heartbeats do not wake the server, so that it must look for them. */
  readonly isSampled: boolean;
  /** The process id of the present instance. */
  pid(): number | undefined;
  /** Looks for heartbeats that do not wake the server. */
  sample(): void;
  feed(input: ServerInput): void;
}

const tick: ServerInput = { type: "tick" };

/** The clock of one program. */
export class Timekeeper implements Sleeper {
  readonly #parts: TimekeeperParts;
  readonly #timer: WakeTimer;
  readonly #starvation: Starvation;
  /** When to look for heartbeats that do not wake the server. */
  #nextSample = Infinity;
  /** A deadline this near is waited for by settling, because a timer would be late. A small part of the time interval. */
  readonly #nearMs: number;
  /** How long before a deadline the work on it begins: as long as the runtime needs, in a small part of the time interval. */
  readonly #settleMs: number;
  /** True while a deadline is being met: input that arrived before it is delivered first. */
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

  /** From now on the server is woken. */
  begin(): void {
    this.#timer.add(this);
  }

  /** Supervision is over: no timer is left. */
  end(): void {
    this.#ended = true;
    this.#timer.remove(this);
  }

  /** True if the main thread of the process has not paused since it came into doubt; see `Starvation`. */
  get isBusy(): boolean {
    return this.#starvation.isBusySince(this.#parts.server.lastHeartbeat);
  }

  /** When to wake: early enough to meet the deadline in time, or to look at the process or for heartbeats. */
  get due(): number {
    if (this.#ended || this.#settling) return Infinity;
    const { deadline } = this.#parts.server;
    return deadline === undefined
      ? this.#nextSample
      : Math.min(this.#nextSample, this.#doubtAt, deadline - this.#settleMs);
  }

  /** When the process comes into doubt; Infinity where it is in doubt already. */
  get #doubtAt(): number {
    const { doubtAt, silenceAt } = this.#parts.server;
    return silenceAt === this.#starvation.deadline ? Infinity : doubtAt;
  }

  /** The server's deadline may have changed: the timer is set to it. */
  arm(): void {
    if (this.#settling) return;
    this.#planSample();
    this.#timer.arm(this.due);
  }

  /** All programs with the same time interval are looked at together. */
  #planSample(): void {
    const { runtime, server, isSampled, timeInterval } = this.#parts;
    if (!isSampled || timeInterval === 0 || server.state !== "started") {
      this.#nextSample = Infinity;
      return;
    }
    if (this.#nextSample !== Infinity) return;
    const periodMs = Math.max(1, timeInterval / 16);
    const soon = runtime.now() + Math.min(1, periodMs / 4); // a timer that fired early is not to fire twice
    this.#nextSample = (Math.floor(soon / periodMs) + 1) * periodMs;
  }

  wake(): void {
    this.#nextSample = Infinity;
    this.#parts.sample();
    this.#watchDoubt();
    if (this.#isNear) void this.#meet();
    else this.arm();
  }

  #watchDoubt(): void {
    const { runtime, server, pid } = this.#parts;
    const soon = runtime.now() + 1; // timers may be early
    if (this.#doubtAt <= soon) this.#starvation.watch(pid(), server.silenceAt);
  }

  get #isNear(): boolean {
    const { deadline } = this.#parts.server;
    return !this.#ended && deadline !== undefined && this.#comes(deadline);
  }

  #comes(deadline: number): boolean {
    return deadline <= this.#parts.runtime.now() + this.#settleMs + this.#nearMs;
  }

  /** Meets the deadline, unless what had arrived before moves it. */
  async #meet(): Promise<void> {
    const { runtime, server, pid, sample, feed } = this.#parts;
    this.#settling = true;
    let seen = NaN;
    let waitMs = 0;
    while (this.#isNear) {
      const { silenceAt } = server;
      // Looked at before what has arrived is read: what the process did before it fell asleep has arrived.
      if (silenceAt !== seen && this.#comes(silenceAt)) {
        seen = silenceAt;
        this.#watchDoubt();
        waitMs = this.#starvation.excuse(pid(), silenceAt);
      }
      await runtime.settle();
      sample();
      if (server.deadline! > runtime.now()) continue;
      const isSilent = server.silenceAt <= runtime.now();
      // A sign of life came, and this server got no CPU time for a whole time interval after it: look at the process anew.
      if (isSilent && server.silenceAt !== seen) continue;
      if (!isSilent || waitMs === 0) feed(tick);
      else {
        feed({ type: "starved", waitMs });
        this.#starvation.postpone(server.silenceAt);
      }
    }
    this.#settling = false;
    this.arm();
  }
}
