/**
 * Distinguishes a process that gets no CPU time from one that hangs, by Linux's /proc. A process gets no CPU time on a busy
 * machine, above a CPU limit, or while its memory pages are read from a slow disk.
 *
 * After three quarters of the time interval without a heartbeat, the process is in doubt. A loop that hangs uses all the CPU
 * time it can get. Therefore a process is starved if it is ready to run, or waits for the disk, and has used less than a quarter
 * of a core since. A starved process gets more time, until it has used as much CPU time as the rest of the time interval. For
 * waiting for the disk it gets at most five seconds, because a process that hangs in a disk access uses no CPU time either.
 */
import { otherThreadsOf, type Thread, threadOf, waitsForThread } from "../../runtime/procfs.ts";
import type { Clock, SystemFiles } from "../../runtime/runtime.ts";

/** A process that uses less than this share of a core is starved. */
const starvedShare = 1 / 4;

/** A thread is busy if it ran, or was ready to run, for this share of the time. */
const busyShare = 9 / 10;

/** The most time that waiting for the disk earns a process. */
const maxDiskMs = 5000;

/** Watches the CPU time of a process in doubt. */
export class Starvation {
  readonly #runtime: Clock & SystemFiles;
  readonly #timeInterval: number;
  #deadline = NaN;
  #pid = 0;
  #since = 0;
  #main: Thread | undefined;
  #others: ReadonlyMap<number, Thread> = new Map();
  /** True if the main thread has waited for another thread. */
  #waitsForThread = false;
  /** Milliseconds that the process got for waiting for the disk. */
  #diskMs = 0;
  /** The delay of `watch()`, because this server itself got no CPU time: the process was not watched meanwhile. */
  #lateMs = 0;
  /** True if the process slept while none of its threads waited for a CPU: it got the CPU time that it needed. */
  #isServed = false;

  constructor(runtime: Clock & SystemFiles, timeInterval: number) {
    this.#runtime = runtime;
    this.#timeInterval = timeInterval;
  }

  /** The deadline of the process in doubt. */
  get deadline(): number {
    return this.#deadline;
  }

  /** Begins to watch process `pid`, which must send a heartbeat before `deadline`. */
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

  /** Gives the process time until `deadline`. */
  postpone(deadline: number): void {
    this.#deadline = deadline;
  }

  /**
   * True if the main thread has not paused since `watch()`, which came after the last heartbeat. The event loop is blocked then:
   * a loop that turns would have sent an event-loop heartbeat in the CPU time that the thread had.
   */
  isBusySince(lastHeartbeat: number | null): boolean {
    const then = this.#main;
    if (!then || this.#since < (lastHeartbeat ?? Infinity)) return false;
    const now = threadOf(this.#runtime, this.#pid);
    const passedMs = this.#runtime.now() - this.#since;
    if (now?.state !== "running" || passedMs < this.#timeInterval / 8) return false;
    const ranMs = now.ranMs - then.ranMs;
    const waitedMs = now.waitedMs - then.waitedMs;
    return ranMs + waitedMs >= passedMs * busyShare && !this.#isStarved(ranMs);
  }

  /** Milliseconds that process `pid` gets beyond `deadline`, which is near, because it got no CPU time; 0 for none. */
  extraTime(pid: number | undefined, deadline: number): number {
    const [runtime, then] = [this.#runtime, this.#main];
    if (!then || pid !== this.#pid || deadline !== this.#deadline) return 0;
    const now = threadOf(runtime, pid);
    if (!now) return 0;
    const ranMs = now.ranMs - then.ranMs;
    const lateMs = this.#lateMs;
    this.#lateMs = 0;
    if (lateMs >= this.#soonMs) return lateMs;
    if (now.state === "running" || now.state === "blocked") {
      return this.#isStarved(ranMs) ? this.#more(now) : 0;
    }
    if (this.#isServed) return 0;
    // The main thread sleeps. It may wait for another thread, such as the garbage collector, which needs CPU time.
    this.#waitsForThread ||= waitsForThread(runtime, pid);
    const others = this.#waitsForThread ? this.#othersSince(pid) : [];
    const isStarved = this.#isStarved(others.reduce((sum, thread) => sum + thread.ranMs, ranMs));
    // A thread that waits for the disk counts only if it waits for its own memory pages (page faults), not for files.
    const starved = others.find(({ state }) => state === "running") ??
      others.find(({ state, faults }) => state === "blocked" && faults > 0);
    if (isStarved && starved) return this.#more(starved);
    // No thread is starved anymore. The process sleeps, perhaps until its next heartbeat: it gets its longest wait back, once.
    this.#isServed = true;
    const waits = (isStarved ? others : []).map(({ waitedMs }) => waitedMs);
    const longestMs = Math.max(now.waitedMs - then.waitedMs, ...waits);
    return longestMs < this.#soonMs ? 0 : Math.min(longestMs, this.#timeInterval);
  }

  /** The other threads, with their times and page faults since `watch()`. */
  #othersSince(pid: number): readonly Thread[] {
    return [...otherThreadsOf(this.#runtime, pid)].map(([id, { state, ...now }]) => {
      const then = this.#others.get(id) ?? { ranMs: 0, waitedMs: 0, faults: 0 };
      const [ranMs, waitedMs] = [now.ranMs - then.ranMs, now.waitedMs - then.waitedMs];
      return { state, ranMs, waitedMs, faults: now.faults - then.faults };
    });
  }

  /** Milliseconds until a starved thread is examined again. */
  get #soonMs(): number {
    return this.#timeInterval / 16;
  }

  /** Milliseconds that a starved thread gets. */
  #more({ state }: Thread): number {
    if (state !== "blocked") return this.#soonMs;
    const moreMs = Math.min(this.#soonMs, maxDiskMs - this.#diskMs);
    this.#diskMs += moreMs;
    return moreMs;
  }

  #isStarved(ranMs: number): boolean {
    const passedMs = this.#runtime.now() - this.#since;
    return ranMs <= Math.min(passedMs * starvedShare, this.#timeInterval / 4);
  }
}
