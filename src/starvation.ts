/**
 * Tells a silent process that is given no processor from one that hangs, as far as Linux shows it in /proc: on a machine with
 * too much to do, above a CPU limit, or where the host of a virtual machine runs others.
 */
import { sharesOf } from "./proc.ts";
import type { Runtime } from "./runtime/runtime.ts";

/** The kernel counts processor time in steps of up to 4 ms, mostly. */
const leastRunMs = 5;

type Look = ReturnType<typeof sharesOf>;

/** What a process has had of the processor since it came into doubt. */
export class Starvation {
  /** The deadline at which the process is to be judged. */
  before: number = NaN;

  readonly #runtime: Runtime;
  /** Who had more than a tenth of the last quarter of the time interval could have given a sign of life. */
  readonly #enoughMs: number;
  #pid: number | undefined;
  /** At the beginning of the doubt. */
  #first: Look;
  /** The last time. */
  #last: Look;
  #lastAt = 0;

  constructor(runtime: Runtime, timeInterval: number) {
    this.#runtime = runtime;
    this.#enoughMs = Math.max(leastRunMs, timeInterval / 4 / 10);
  }

  /** Process `pid` comes into doubt. */
  watch(pid: number | undefined, before: number): void {
    this.before = before;
    this.#pid = pid;
    this.#first = this.#look();
  }

  /** The deadline is near: the process could do next to nothing since it came into doubt, because it had to wait. */
  explains(pid: number | undefined, deadline: number): boolean {
    if (pid === undefined || pid !== this.#pid || deadline !== this.before) return false;
    const [first, last, since] = [this.#first, this.#last, this.#lastAt];
    const now = this.#look();
    if (!first || !last || !now) return false;
    const longMs = (this.#lastAt - since) / 2;
    // The main thread may wait for another one (for the garbage collector, say) that is given no processor.
    return (["main", "all"] as const).some((part) =>
      now[part].ranMs - first[part].ranMs < this.#enoughMs &&
      (now[part].ready || now[part].waitedMs - last[part].waitedMs > longMs)
    );
  }

  #look(): Look {
    this.#lastAt = this.#runtime.now();
    return this.#last = this.#pid === undefined ? undefined : sharesOf(this.#runtime, this.#pid);
  }
}
