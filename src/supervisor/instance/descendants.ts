/**
 * The processes below the started process, which may be a wrapper (`npm start`, `npx tsx`, `sh -c`). Each process must get a
 * signal exactly once: a program that gets it twice often ends in the middle of its work. But wrappers differ: some pass a
 * signal on and wait, some pass it on and end, and some die of it. So SAM signals only the topmost process. When that has ended,
 * SAM signals each process that it left behind, unless that process may have received the signal already.
 *
 * A process cannot have received the signal in three cases:
 *
 * - Its parent does not handle the signal: the parent died of it, and passed nothing on.
 * - It does not handle the signal itself: it would be dead.
 * - Its main thread, which takes a signal first, has not run since.
 */
import type { Signal } from "../../core/signals.ts";
import {
  childrenOf,
  descends,
  handles,
  isSignalPending,
  startTimeOf,
  timeslicesOf,
} from "../../runtime/procfs.ts";
import type { SystemFiles } from "../../runtime/runtime.ts";

/** A process, told apart from a later process with the same pid by its start time. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

interface Descendant extends ProcessIdentity {
  readonly parent: ProcessIdentity | undefined;
  readonly parentHandles: boolean;
  /** The count of times that its main thread has run. */
  readonly timeslices: string | undefined;
  /** The process has the signal, or SAM has dealt with it: SAM signals each process once at most. */
  isSettled: boolean;
}

/** All processes below one process. Empty if /proc cannot be read. */
export class Descendants {
  readonly #runtime: SystemFiles;
  readonly #known = new Map<number, Descendant>();

  constructor(runtime: SystemFiles) {
    this.#runtime = runtime;
  }

  /** The processes that have not ended. */
  get living(): readonly ProcessIdentity[] {
    return [...this.#known.values()].filter((each) => isAlive(this.#runtime, each));
  }

  /** Remembers all processes below `pid`, which is about to get a signal. */
  track(pid: number, signal: Signal): void {
    const root = identify(this.#runtime, pid);
    if (root) this.#addChildren(root, signal);
    for (const each of this.#known.values()) this.#addChildren(each, signal);
  }

  #addChildren(parent: ProcessIdentity, signal: Signal): void {
    const children = childrenOf(this.#runtime, parent.pid)?.filter((pid) => !this.#known.has(pid));
    if (!children?.length) return;
    const parentHandles = handles(this.#runtime, parent.pid, signal);
    for (const pid of children) {
      this.#add(pid, {
        parent,
        parentHandles,
        timeslices: timeslicesOf(this.#runtime, pid),
        isSettled: false,
      });
    }
  }

  /** Remembers processes that have the signal. */
  addSignaled(pids: readonly number[]): void {
    const rest = { parent: undefined, parentHandles: true, timeslices: undefined, isSettled: true };
    for (const pid of pids) this.#add(pid, rest);
  }

  #add(pid: number, rest: Omit<Descendant, keyof ProcessIdentity>): void {
    const known = identify(this.#runtime, pid);
    if (known) this.#known.set(pid, { ...known, ...rest });
  }

  /** Sends the signal to each process that lost its parent and cannot have received it. The topmost process has ended. */
  passOn(signal: Signal, send: (pid: number) => void): void {
    for (const each of this.#known.values()) {
      if (!isAlive(this.#runtime, each)) continue;
      this.#addChildren(each, signal); // the process may have started children since
      if (each.isSettled || (each.parent && isAlive(this.#runtime, each.parent))) continue;
      each.isSettled = true;
      if (!this.#mayHaveReceived(each, signal)) send(each.pid);
    }
  }

  #mayHaveReceived({ pid, parentHandles, timeslices }: Descendant, signal: Signal): boolean {
    if (!parentHandles || !handles(this.#runtime, pid, signal)) return false;
    return isSignalPending(this.#runtime, pid, signal) || timeslices === undefined ||
      timeslicesOf(this.#runtime, pid) !== timeslices;
  }
}

/** The process that has this pid now; undefined if it has ended, or if /proc cannot be read. */
function identify(runtime: SystemFiles, pid: number): ProcessIdentity | undefined {
  const startTime = startTimeOf(runtime, pid);
  return startTime === undefined ? undefined : { pid, startTime };
}

/** The program `pid` that registered, if it is below the process `started`; else null. */
export function programBelow(
  runtime: SystemFiles,
  pid: number,
  started: number,
): ProcessIdentity | null {
  if (pid === started || !descends(runtime, pid, started)) return null;
  return identify(runtime, pid) ?? null;
}

/** True if a process has not ended. */
export function isAlive(runtime: SystemFiles, { pid, startTime }: ProcessIdentity): boolean {
  return startTimeOf(runtime, pid) === startTime;
}
