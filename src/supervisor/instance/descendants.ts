/**
 * The processes below one that was started, where that may be a wrapper (`npm start`, `npx tsx`, `sh -c`). A program that gets a
 * signal twice often ends in the middle of its work, and one that does not get it works on. Some wrappers pass a signal on and
 * wait, some pass it on and end, some just die of it. So only the topmost process gets a signal. Each process that it leaves
 * behind gets the signal then, unless it may have it already.
 *
 * A process cannot have it where its parent did not handle the signal, for then the parent died of it. Nor where it does not
 * handle the signal itself, for then it would be dead. Nor where its main thread, which takes a signal first, has not run since.
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

/** A process that cannot be mistaken for a later one with its number. */
export interface Known {
  readonly pid: number;
  readonly beginning: string;
}

interface Descendant extends Known {
  readonly parent: Known | undefined;
  readonly parentHandles: boolean;
  readonly turns: string | undefined;
  /** It was seen to that it has the signal. */
  done: boolean;
}

/** The processes below one; none where /proc cannot be read. */
export class Descendants {
  readonly #runtime: SystemFiles;
  readonly #known = new Map<number, Descendant>();

  constructor(runtime: SystemFiles) {
    this.#runtime = runtime;
  }

  /** Those that live. */
  get living(): readonly Known[] {
    return [...this.#known.values()].filter((each) => lives(this.#runtime, each));
  }

  /** Notes all that are below `pid`, which is about to get a signal. */
  look(pid: number, signal: Signal): void {
    const root = knownProcess(this.#runtime, pid);
    if (root) this.#addChildren(root, signal);
    for (const each of this.#known.values()) this.#addChildren(each, signal);
  }

  #addChildren(parent: Known, signal: Signal): void {
    const children = childrenOf(this.#runtime, parent.pid)?.filter((pid) => !this.#known.has(pid));
    if (!children?.length) return;
    const parentHandles = handles(this.#runtime, parent.pid, signal);
    for (const pid of children) {
      this.#add(pid, {
        parent,
        parentHandles,
        turns: timeslicesOf(this.#runtime, pid),
        done: false,
      });
    }
  }

  /** Notes processes that have the signal. */
  addDone(pids: readonly number[]): void {
    const rest = { parent: undefined, parentHandles: true, turns: undefined, done: true };
    for (const pid of pids) this.#add(pid, rest);
  }

  #add(pid: number, rest: Omit<Descendant, keyof Known>): void {
    const known = knownProcess(this.#runtime, pid);
    if (known) this.#known.set(pid, { ...known, ...rest });
  }

  /** The topmost process has ended: sends the signal to each that lost its parent and cannot have it. */
  passOn(signal: Signal, send: (pid: number) => void): void {
    for (const each of this.#known.values()) {
      if (!lives(this.#runtime, each)) continue;
      this.#addChildren(each, signal); // it may have started more since
      if (each.done || (each.parent && lives(this.#runtime, each.parent))) continue;
      each.done = true;
      if (!this.#mayHave(each, signal)) send(each.pid);
    }
  }

  #mayHave({ pid, parentHandles, turns }: Descendant, signal: Signal): boolean {
    if (!parentHandles || !handles(this.#runtime, pid, signal)) return false;
    return isSignalPending(this.#runtime, pid, signal) || turns === undefined ||
      timeslicesOf(this.#runtime, pid) !== turns;
  }
}

/** A process as it is now; undefined when it has ended, and where /proc cannot be read. */
function knownProcess(runtime: SystemFiles, pid: number): Known | undefined {
  const beginning = startTimeOf(runtime, pid);
  return beginning === undefined ? undefined : { pid, beginning };
}

/** The program `pid` that registered, where it is below the process that was started. */
export function programBelow(runtime: SystemFiles, pid: number, started: number): Known | null {
  if (pid === started || !descends(runtime, pid, started)) return null;
  return knownProcess(runtime, pid) ?? null;
}

/** True if a process has not ended. */
export function lives(runtime: SystemFiles, { pid, beginning }: Known): boolean {
  return startTimeOf(runtime, pid) === beginning;
}
