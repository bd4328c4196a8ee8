/**
 * Tells a silent process that is given no processor from one that hangs, as far as Linux shows it in /proc: on a machine with
 * too much to do, above a CPU limit, or where the host of a virtual machine runs others.
 */
import { type Share, sharesOf } from "./proc.ts";
import type { Runtime } from "./runtime/runtime.ts";

/** The kernel counts processor time in steps of up to 4 ms, mostly. */
const leastRunMs = 5;

/** What a process has had of the processor since it came into doubt. */
export class Starvation {
  /** The deadline at which the process is to be judged. */
  before: number = NaN;

  readonly #runtime: Runtime;
  readonly #timeInterval: number;
  #pid: number | undefined;
  /** At the beginning of the doubt. */
  #then: { readonly main: Share; readonly all: Share } | undefined;

  constructor(runtime: Runtime, timeInterval: number) {
    this.#runtime = runtime;
    this.#timeInterval = timeInterval;
  }

  /** Process `pid` comes into doubt. */
  watch(pid: number | undefined, before: number): void {
    this.before = before;
    this.#pid = pid;
    this.#then = pid === undefined ? undefined : sharesOf(this.#runtime, pid);
  }

  /** The deadline is near: how many milliseconds more the process is to be given, because it could not run; 0 for none. */
  excuseMs(pid: number | undefined, deadline: number): number {
    const then = this.#then;
    if (!then || pid === undefined || pid !== this.#pid || deadline !== this.before) return 0;
    const now = sharesOf(this.#runtime, pid);
    if (!now) return 0;
    // Who had more than a tenth of the last quarter of the time interval could have given a sign of life.
    const enoughMs = Math.max(leastRunMs, this.#timeInterval / 4 / 10);
    const soonMs = this.#timeInterval / 16;
    const hardlyRan = (part: "main" | "all") => now[part].ranMs - then[part].ranMs < enoughMs;
    if (now.main.ready) return hardlyRan("main") ? soonMs : 0;
    // It may wait for another thread (for the garbage collector, say) that is given no processor.
    const part = hardlyRan("all") ? "all" : "main";
    if (part === "all" && now.all.ready) return soonMs;
    // It has waited, and has run: now it sleeps, perhaps until its next sign of life is due.
    const waitedMs = now[part].waitedMs - then[part].waitedMs;
    if (waitedMs < soonMs) return 0;
    this.#then = now;
    return Math.min(waitedMs, this.#timeInterval);
  }
}
