// The clock and the timers of a runtime, moved by hand.
import type { Clock as RuntimeClock } from "../../mod.ts";
import { emptyRuntime } from "./empty_runtime.ts";

/** A clock, and the timers that are set on it. */
export class Clock {
  time = 1000;
  timers: { at: number; callback: () => void; hold: boolean }[] = [];
  readonly runtime: RuntimeClock = {
    ...emptyRuntime,
    now: () => this.time,
    schedule: (callback: () => void, delayMs: number, hold: boolean) => {
      const timer = { at: this.time + delayMs, callback, hold };
      this.timers.push(timer);
      return () => void (this.timers = this.timers.filter((each) => each !== timer));
    },
  };

  /** Fires the timers that are due until then, in their order, each `late` milliseconds late or early. */
  pass(until: number, late = 0): void {
    for (;;) {
      const [next] = [...this.timers].sort((a, b) => a.at - b.at);
      if (!next || next.at > until) break;
      this.timers = this.timers.filter((each) => each !== next);
      this.time = Math.max(this.time, next.at + late);
      next.callback();
    }
    this.time = Math.max(this.time, until);
  }
}
