/**
 * The processes of an instance: the spawned process and, if it is a wrapper such as `sh` or `npm`, the program below it and the
 * processes between the two.
 */
import type { Problem } from "../../core/server/types.ts";
import type { Signal } from "../../core/signals.ts";
import { Descendants, isAlive, type ProcessIdentity, programBelow } from "./descendants.ts";
import { SamError } from "../../errors.ts";
import { processesWithVariable } from "../../runtime/procfs.ts";
import type { Child, Clock, Processes, SystemFiles } from "../../runtime/runtime.ts";

/** Time that a wrapper may take to end after its program, and a program after its wrapper, in milliseconds. */
const wrapperEndLimitMs = 100;
/** Poll period for the end of processes below a wrapper, in milliseconds: 1/10 of the time waited, between these limits. */
const pollMs = { least: 20, most: 200 };

/** Receives the failures. */
export interface ProcessTreeSink {
  problem(error: unknown, failure: string): void;
  /** SIGKILL was not permitted. */
  unkillable(problem: Problem): void;
}

/** The processes of an instance. */
export class ProcessTree {
  /** The signal that must end all processes; null while they need not end. */
  ending: Signal | null = null;
  /** True if the processes got that signal from the terminal. */
  isDelivered = false;
  /** True if the program has finalized. It may then outlive the spawned process, unless `ending` is set. */
  hasFinalized = false;

  readonly #runtime: Clock & Processes & SystemFiles;
  readonly #child: Child;
  readonly #sink: ProcessTreeSink;
  /** The environment variable that marks all processes of the instance, as `NAME=VALUE`; empty for none. See guard.ts. */
  readonly #family: string;
  /** True if the spawned process may be a wrapper. If false, it is the program, and all processes below it are the program's. */
  #mayBeWrapper: boolean;
  /** The program that registered, if it is below the spawned process; else null. */
  #program: ProcessIdentity | null = null;
  /** The processes that were below the spawned one when that got its signal. */
  readonly #descendants: Descendants;
  /** True if the wrapper has ended and the processes below it may still need its signal. */
  #mayPassOn = false;
  /** True if the spawned process has ended. */
  #isReaped = false;
  /** True after `release()`. */
  #isOver = false;
  /** Functions that each end a pause early. */
  readonly #pauses = new Set<() => void>();

  constructor(
    runtime: Clock & Processes & SystemFiles,
    child: Child,
    kind: { readonly mayBeWrapper: boolean; readonly family: string },
    sink: ProcessTreeSink,
  ) {
    this.#runtime = runtime;
    this.#child = child;
    this.#mayBeWrapper = kind.mayBeWrapper;
    this.#family = kind.family;
    this.#sink = sink;
    this.#descendants = new Descendants(runtime);
  }

  /** The pid of the process that registered; if none has, the pid of the spawned process. */
  get pid(): number {
    return this.#program?.pid ?? this.#child.pid;
  }

  /** Takes the process `pid`, which has registered, as the program. */
  setProgram(pid: number): void {
    if (pid === this.#child.pid) this.#mayBeWrapper = false;
    else this.#program = programBelow(this.#runtime, pid, this.#child.pid) ?? this.#program;
    if (this.ending === "SIGKILL") this.#kill(); // the wrapper was killed before its program was known
  }

  /** Sends a signal to the process that registered, or else to the spawned process. */
  signal(signal: Signal): void {
    if (signal === "SIGKILL") this.#kill();
    else if (!this.#isProgramAlive) this.#signalSpawned(signal);
    else {
      this.#send(this.#program!, signal);
      if (signal === this.ending) void this.#signalSpawnedLater(signal);
    }
  }

  #signalSpawned(signal: Signal): void {
    if (this.#isReaped) return;
    const { pid } = this.#child;
    if (signal === this.ending && this.#mayBeWrapper && !this.hasFinalized) {
      this.#descendants.track(pid, signal);
    }
    this.#send(this.#child, signal);
  }

  /** Signals the wrapper after the end of its program, if the wrapper does not end by itself. */
  async #signalSpawnedLater(signal: Signal): Promise<void> {
    while (this.#isProgramAlive && !this.#isReaped && !this.#isOver) {
      await this.#pause(pollMs.least);
    }
    if (!this.#isReaped) await this.#pause(wrapperEndLimitMs);
    if (this.ending === signal && !this.#isOver) this.#signalSpawned(signal);
  }

  /** Passes the signal of the ended wrapper on to the processes below it, unless they may have received it. */
  passOn(): void {
    this.#mayPassOn = !this.isDelivered;
    if (this.ending === "SIGKILL") this.#kill();
    else this.#passOnPending();
  }

  #passOnPending(): void {
    const { ending } = this;
    if (!this.#mayPassOn || ending === null || ending === "SIGKILL") return;
    this.#descendants.passOn(ending, (pid) => this.#send({ pid }, ending));
  }

  /** Kills the spawned process and all known processes below it. */
  #kill(): void {
    if (!this.#isReaped) this.#send(this.#child, "SIGKILL");
    if (this.#isProgramAlive) this.#send(this.#program!, "SIGKILL");
    for (const each of this.#descendants.living) this.#send(each, "SIGKILL");
  }

  #send(target: { readonly pid: number; kill?(signal: Signal): void }, signal: Signal): void {
    const { pid } = target;
    try {
      if (target.kill) target.kill(signal);
      else this.#runtime.kill(pid, signal);
    } catch (cause) {
      this.#sink.problem(cause, `cannot send ${signal} to process ${pid}`);
      if (signal !== "SIGKILL" || this.ending !== "SIGKILL") return; // only the SIGKILL of a planned end must succeed
      const message = `cannot kill process ${pid}, which still runs: end it as its user or as root`;
      const code = cause instanceof SamError ? cause.code : "LIBRARY";
      this.#sink.unkillable({ code, message, cause });
    }
  }

  /** Call it when the spawned process has ended. Calls `onOrphans` if processes below it still run. Resolves when none is left. */
  async waitForOrphans(onOrphans: () => void): Promise<void> {
    this.#isReaped = true;
    this.#endPauses();
    if (this.isDelivered && this.#mayBeWrapper && !this.hasFinalized && this.#family) {
      this.#descendants.addSignaled(processesWithVariable(this.#runtime, this.#family));
    }
    if (this.ending === null) await this.#orphansEnded(wrapperEndLimitMs);
    if (!this.#hasOrphans) return;
    onOrphans();
    await this.#orphansEnded(Infinity);
  }

  async #orphansEnded(limitMs: number): Promise<void> {
    const begin = this.#runtime.now();
    for (let waited = 0; waited < limitMs && this.#hasOrphans && !this.#isOver;) {
      await this.#pause(Math.min(Math.max(pollMs.least, waited / 10), pollMs.most));
      waited = this.#runtime.now() - begin;
      this.#passOnPending();
    }
  }

  get #isProgramAlive(): boolean {
    return this.#program !== null && isAlive(this.#runtime, this.#program);
  }

  get #hasOrphans(): boolean {
    if (this.hasFinalized && this.ending === null && !this.isDelivered) return false;
    return this.#isProgramAlive || this.#descendants.living.length > 0;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        this.#pauses.delete(end);
        resolve();
      };
      const cancel = this.#runtime.schedule(end, ms, true);
      this.#pauses.add(end);
    });
  }

  #endPauses(): void {
    for (const end of this.#pauses) end();
  }

  /** Stops waiting for the processes: they have ended, or cannot be killed. */
  release(): void {
    this.#isOver = true;
    this.#endPauses();
    if (!this.#isReaped) this.#child.release();
  }
}
