/**
 * Tells a silent process that cannot run from one that hangs, as far as Linux shows it in /proc: on a machine with too much to
 * do, above a CPU limit, or while its pages come from a slow disk.
 *
 * A process that has been silent for three quarters of the time interval is in doubt. A hang that has a processor takes it. A
 * process that is ready to run, or waits for the disk, and has had less than a quarter of a processor is held up: it gets more
 * time, until it has had as much as the rest of the time interval. A disk excuses for some seconds only, because a loop, or a
 * process that is stuck in the disk, hardly runs either.
 */
import { otherThreadsOf, type Thread, threadOf, waitsForThread } from "../../runtime/procfs.ts";
import type { Clock, SystemFiles } from "../../runtime/runtime.ts";

/** With less than this share of a processor, a process is slowed down by others more than by itself. */
const leastShare = 1 / 4;

/** A thread that has run, or waited for a processor, for this share of the time has not paused. */
const busyShare = 9 / 10;

/** A process that waits for the disk gets no more than that in all. */
const longestDiskMs = 5000;

/** Measures the CPU time of a process since it came into doubt. */
export class Starvation {
  readonly #runtime: Clock & SystemFiles;
  readonly #timeInterval: number;
  #deadline = NaN;
  #pid = 0;
  #since = 0;
  #main: Thread | undefined;
  #others: ReadonlyMap<number, Thread> = new Map();
  /** The main thread was seen to wait for another one. */
  #waitsForThread = false;
  /** So much more it was given since then for the disk. */
  #diskMs = 0;
  /** The look began so much too late, because this server itself got no CPU time: what happened before was not seen. */
  #lateMs = 0;
  /** Once since then it slept, and no thread of it waited. */
  #isServed = false;

  constructor(runtime: Clock & SystemFiles, timeInterval: number) {
    this.#runtime = runtime;
    this.#timeInterval = timeInterval;
  }

  /** The deadline at which the process in doubt is to be judged. */
  get deadline(): number {
    return this.#deadline;
  }

  /** Process `pid` comes into doubt, before `deadline`. */
  watch(pid: number | undefined, deadline: number): void {
    this.#deadline = deadline;
    this.#pid = pid ?? 0;
    this.#since = this.#runtime.now();
    this.#diskMs = 0;
    this.#lateMs = Math.min(this.#since - deadline, 0) + this.#timeInterval / 4;
    this.#isServed = this.#waitsForThread = false;
    this.#main = pid === undefined ? undefined : threadOf(this.#runtime, pid);
    this.#others = this.#main ? otherThreadsOf(this.#runtime, this.#pid) : new Map();
  }

  /** The process is still in doubt, and has until `deadline`. */
  postpone(deadline: number): void {
    this.#deadline = deadline;
  }

  /**
   * Whether the main thread has not paused since the process came into doubt, after its last sign of life: an event loop that
   * turned would have confirmed that in the time that it has run.
   */
  isBusySince(lastSign: number | null): boolean {
    const then = this.#main;
    if (!then || this.#since < (lastSign ?? Infinity)) return false;
    const now = threadOf(this.#runtime, this.#pid);
    const passedMs = this.#runtime.now() - this.#since;
    if (now?.state !== "running" || passedMs < this.#timeInterval / 8) return false;
    const ranMs = now.ranMs - then.ranMs;
    const waitedMs = now.waitedMs - then.waitedMs;
    return ranMs + waitedMs >= passedMs * busyShare && !this.#hasHardlyRun(ranMs);
  }

  /** `deadline` is near: how many milliseconds more process `pid` is to be given, because it could not run; 0 for none. */
  excuse(pid: number | undefined, deadline: number): number {
    const [runtime, then] = [this.#runtime, this.#main];
    if (!then || pid !== this.#pid || deadline !== this.#deadline) return 0;
    const now = threadOf(runtime, pid);
    if (!now) return 0;
    const ranMs = now.ranMs - then.ranMs;
    const lateMs = this.#lateMs;
    this.#lateMs = 0;
    if (lateMs >= this.#soonMs) return lateMs;
    if (now.state === "running" || now.state === "blocked") {
      return this.#hasHardlyRun(ranMs) ? this.#more(now) : 0;
    }
    if (this.#isServed) return 0;
    // It sleeps. Where it waits for another thread (for the garbage collector, say), that must be given a processor.
    this.#waitsForThread ||= waitsForThread(runtime, pid);
    const others = this.#waitsForThread ? this.#othersSince(pid) : [];
    const hardlyRan = this.#hasHardlyRun(others.reduce((sum, thread) => sum + thread.ranMs, ranMs));
    // One that reads or writes files does not hold it up; one that waits for pages of its own may.
    const heldUp = others.find(({ state }) => state === "running") ??
      others.find(({ state, faults }) => state === "blocked" && faults > 0);
    if (hardlyRan && heldUp) return this.#more(heldUp);
    // No thread is held up any more. The process sleeps, perhaps until its next heartbeat: it gets the longest wait back, once.
    this.#isServed = true;
    const waits = (hardlyRan ? others : []).map(({ waitedMs }) => waitedMs);
    const longestMs = Math.max(now.waitedMs - then.waitedMs, ...waits);
    return longestMs < this.#soonMs ? 0 : Math.min(longestMs, this.#timeInterval);
  }

  /** The other threads, and what each has had since the process came into doubt. */
  #othersSince(pid: number): readonly Thread[] {
    return [...otherThreadsOf(this.#runtime, pid)].map(([id, { state, ...had }]) => {
      const then = this.#others.get(id) ?? { ranMs: 0, waitedMs: 0, faults: 0 };
      const [ranMs, waitedMs] = [had.ranMs - then.ranMs, had.waitedMs - then.waitedMs];
      return { state, ranMs, waitedMs, faults: had.faults - then.faults };
    });
  }

  /** How soon a thread that waits is looked at again, in milliseconds. */
  get #soonMs(): number {
    return this.#timeInterval / 16;
  }

  /** How much more time a thread that is held up gets, in milliseconds. */
  #more({ state }: Thread): number {
    if (state !== "blocked") return this.#soonMs;
    const moreMs = Math.min(this.#soonMs, longestDiskMs - this.#diskMs);
    this.#diskMs += moreMs;
    return moreMs;
  }

  #hasHardlyRun(ranMs: number): boolean {
    const passedMs = this.#runtime.now() - this.#since;
    return ranMs <= Math.min(passedMs * leastShare, this.#timeInterval / 4);
  }
}
