/** The processes of an instance: the one that was spawned, the program below it where that is a wrapper, and all between. */
import type { Problem } from "../../core/server/types.ts";
import type { Signal } from "../../core/signals.ts";
import { Descendants, type Known, lives, programBelow } from "./descendants.ts";
import { SamError } from "../../errors.ts";
import { processesWithVariable } from "../../runtime/procfs.ts";
import type { Child, Clock, Processes, SystemFiles } from "../../runtime/runtime.ts";

/** A wrapper ends so soon after its program, and a program so soon after a wrapper that was killed together with it. */
const followMs = 100;
/** How often it is looked whether processes below a wrapper have ended: at first, and after some seconds. */
const lookMs = { least: 20, most: 200 };

/** Hears of the processes. */
export interface ProcessTreeSink {
  problem(error: unknown, what: string): void;
  /** SIGKILL was not permitted. */
  unkillable(problem: Problem): void;
}

/** The processes of an instance. */
export class ProcessTree {
  /** The signal by which all are to end; null while they are not. */
  ending: Signal | null = null;
  /** The processes have that signal from elsewhere. */
  isDelivered = false;
  /** The program has finalized: unless it is asked to end, it may outlive what was spawned. */
  isFree = false;

  readonly #runtime: Clock & Processes & SystemFiles;
  readonly #child: Child;
  readonly #sink: ProcessTreeSink;
  /** The variable that all processes have in their environment, as `NAME=VALUE`; empty for none. */
  readonly #family: string;
  /** True if a process below the spawned one may be the program rather than a helper. */
  #mayBeWrapper: boolean;
  /** The program that registered below the process that was spawned. */
  #program: Known | null = null;
  /** The processes below the spawned one when that got its signal. */
  readonly #descendants: Descendants;
  #passesOn = false;
  /** The process that was spawned has ended. */
  #isReaped = false;
  /** True once nothing waits for the processes any more. */
  #isOver = false;
  /** Each ends one wait before its time. */
  readonly #waits = new Set<() => void>();

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

  /** The process that registered; before that the one that was spawned. */
  get pid(): number {
    return this.#program?.pid ?? this.#child.pid;
  }

  /** Process `pid` has registered. */
  noteProgram(pid: number): void {
    if (pid === this.#child.pid) this.#mayBeWrapper = false;
    else this.#program = programBelow(this.#runtime, pid, this.#child.pid) ?? this.#program;
    if (this.ending === "SIGKILL") this.#kill(); // the wrapper was killed before its program was known
  }

  /** Sends a signal to the program: the process that registered, or else the one that was spawned. */
  signal(signal: Signal): void {
    if (signal === "SIGKILL") this.#kill();
    else if (!this.#programLives) this.#signalSpawned(signal);
    else {
      this.#send(this.#program!, signal);
      if (signal === this.ending) void this.#signalSpawnedLater(signal);
    }
  }

  #signalSpawned(signal: Signal): void {
    if (this.#isReaped) return;
    const { pid } = this.#child;
    if (signal === this.ending && this.#mayBeWrapper && !this.isFree) {
      this.#descendants.look(pid, signal);
    }
    this.#send(this.#child, signal);
  }

  /** A wrapper ends by itself after its program; one that goes on gets the signal then. */
  async #signalSpawnedLater(signal: Signal): Promise<void> {
    while (this.#programLives && !this.#isReaped && !this.#isOver) await this.#pass(lookMs.least);
    if (!this.#isReaped) await this.#pass(followMs);
    if (this.ending === signal && !this.#isOver) this.#signalSpawned(signal);
  }

  /** The wrapper has ended: those below it get its signal, unless they may have it. */
  passOn(): void {
    this.#passesOn = !this.isDelivered;
    if (this.ending === "SIGKILL") this.#kill();
    else this.#passOn();
  }

  #passOn(): void {
    const { ending } = this;
    if (!this.#passesOn || ending === null || ending === "SIGKILL") return;
    this.#descendants.passOn(ending, (pid) => this.#send({ pid }, ending));
  }

  /** Kills the process that was spawned, and what is known to be below it. */
  #kill(): void {
    if (!this.#isReaped) this.#send(this.#child, "SIGKILL");
    if (this.#programLives) this.#send(this.#program!, "SIGKILL");
    for (const each of this.#descendants.living) this.#send(each, "SIGKILL");
  }

  #send(target: { readonly pid: number; kill?(signal: Signal): void }, signal: Signal): void {
    const { pid } = target;
    try {
      if (target.kill) target.kill(signal);
      else this.#runtime.kill(pid, signal);
    } catch (cause) {
      this.#sink.problem(cause, `cannot send ${signal} to process ${pid}`);
      if (signal !== "SIGKILL" || this.ending !== "SIGKILL") return; // it need not end
      const message =
        `process ${pid} cannot be killed and lives on: end it as its user, or as root`;
      const code = cause instanceof SamError ? cause.code : "LIBRARY";
      this.#sink.unkillable({ code, message, cause });
    }
  }

  /**
   * The process that was spawned has ended. Calls back where the program lives on, and resolves when that has ended too.
   */
  async gone(onOrphans: () => void): Promise<void> {
    this.#isReaped = true;
    this.#endWaits();
    if (this.isDelivered && this.#mayBeWrapper && !this.isFree && this.#family) {
      this.#descendants.addDone(processesWithVariable(this.#runtime, this.#family));
    }
    if (this.ending === null) await this.#orphansGone(followMs);
    if (!this.#hasOrphans) return;
    onOrphans();
    await this.#orphansGone(Infinity);
  }

  async #orphansGone(limitMs: number): Promise<void> {
    const begin = this.#runtime.now();
    for (let waited = 0; waited < limitMs && this.#hasOrphans && !this.#isOver;) {
      await this.#pass(Math.min(Math.max(lookMs.least, waited / 10), lookMs.most));
      waited = this.#runtime.now() - begin;
      this.#passOn();
    }
  }

  get #programLives(): boolean {
    return this.#program !== null && lives(this.#runtime, this.#program);
  }

  get #hasOrphans(): boolean {
    if (this.isFree && this.ending === null && !this.isDelivered) return false;
    return this.#programLives || this.#descendants.living.length > 0;
  }

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        this.#waits.delete(end);
        resolve();
      };
      const cancel = this.#runtime.schedule(end, ms, true);
      this.#waits.add(end);
    });
  }

  #endWaits(): void {
    for (const end of this.#waits) end();
  }

  /** Ends all waiting for the processes, whether they have ended or cannot be killed. */
  release(): void {
    this.#isOver = true;
    this.#endWaits();
    if (!this.#isReaped) this.#child.release();
  }
}
