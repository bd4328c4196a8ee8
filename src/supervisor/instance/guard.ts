/**
 * The guard: a small shell that runs beside the server, in a session of its own, and outlives it. It has two tasks:
 *
 * - When the server is killed by SIGKILL, the guard kills all supervised programs, even one whose event loop is blocked.
 * - It searches /proc for child processes that an instance left behind. Not every runtime may read /proc itself.
 *
 * The kernel could do the first task (PR_SET_PDEATHSIG), with three drawbacks. Each start would need another `exec` or an FFI.
 * It would end a wrapper and leave the program below it. And it could not release a program that has finalized.
 */
import { privatePrefixes } from "../../../transports/private_directories.ts";
import type { Child, Clock, Files, Processes } from "../../runtime/runtime.ts";
import { guardScript } from "./guard_script.ts";

type GuardRuntime = Clock & Processes & Pick<Files, "temporaryFiles">;

/**
 * Makes the name of an environment variable that marks all processes of one instance, its family: each inherits the variable.
 * It is no secret. The name is unique, not the value, so that a server below another server hides no mark of that one. The
 * pid and the time are in the name because random numbers repeat in two Deno processes with the same `--seed`.
 */
export function familyVariable(pid: number): string {
  const random = Array.from(crypto.getRandomValues(new Uint32Array(2)));
  const words = [pid, Date.now(), ...random].map((word) => word.toString(36));
  return `SAM_FAMILY_${words.join("_")}`;
}

/** A process that must not outlive the server. */
export interface Ward {
  /** The process id; 0 for a process that is about to start, which is found by its family. */
  readonly pid: number;
  /** True if the process leads a process group, which is killed with it. */
  readonly leads: boolean;
  /** The variable that marks the processes to be killed with it; empty for none. */
  readonly family: string;
}

/** Time limit for the last orders of a guard that ends, in milliseconds. */
const endMs = 2000;

/** Least milliseconds between two searches for families: when many instances end, one search serves them all. */
const sweepMs = 100;

/** Least milliseconds between the starts of two guards. A guard that is killed later than that is replaced at once. */
const replaceMs = 1000;

/** The byte by which a guard acknowledges the order to kill families. */
const acknowledgment = 10;

/** The message about a guard that cannot search for families. */
const limitText =
  "SAM cannot find child processes outside the program's process group, so they may outlive the program: mount /proc, and install the grep of GNU or BusyBox";

/** The guard of all programs that this process supervises. */
export class Guard {
  readonly #runtime: GuardRuntime;
  readonly #wards = new Set<Ward>();
  /** Wards that have ended, and whose families are still to be killed. */
  readonly #ended = new Set<Ward>();
  /** Cancels the next search for families; null if a search may start at once. */
  #cancelSweep: (() => void) | null = null;
  #users = 0;
  /** Called with the message if the guard cannot search for families. */
  readonly #listeners = new Set<(detail: string) => void>();
  #isLimited = false;
  #starting: Promise<void> | null = null;
  #child: Child | null = null;
  /** Cancels the planned start of the next guard; null for none. */
  #cancelReplacement: (() => void) | null = null;
  /** Orders to kill families that no guard has acknowledged. The next guard gets them again. */
  readonly #unswept: string[] = [];

  constructor(runtime: GuardRuntime) {
    this.#runtime = runtime;
  }

  /** Keeps the guard until `leave()`. Calls `listener` once if the guard cannot search for families. */
  enter(listener?: (detail: string) => void): void {
    this.#users++;
    if (!listener) return;
    if (this.#isLimited) listener(limitText);
    else this.#listeners.add(listener);
  }

  /** Ends the guard after the last user. Resolves when the guard has carried out its last orders. */
  async leave(listener?: (detail: string) => void): Promise<void> {
    if (listener) this.#listeners.delete(listener);
    if (--this.#users > 0) return;
    this.#cancelReplacement?.();
    this.#cancelReplacement = null;
    this.#cancelSweep?.();
    this.#cancelSweep = null;
    this.#sweepEnded();
    if (this.#unswept.length > 0) await this.ready().catch(() => {});
    await this.#starting?.catch(() => {});
    const child = this.#child;
    if (this.#users > 0 || child === null) return;
    this.#child = null;
    child.stream!.write(bytesOf("q\n"));
    const orders = this.#unswept.splice(0); // the guard carries them out before it ends
    const cancel = this.#runtime.schedule(() => child.kill("SIGKILL"), endMs, true);
    const { signal } = await child.exited;
    cancel();
    if (signal !== null) this.#unswept.unshift(...orders);
  }

  /** Starts the guard if it does not run. Rejects if it cannot start. */
  async ready(): Promise<void> {
    if (this.#child !== null) return;
    this.#cancelReplacement?.();
    this.#cancelReplacement = null;
    // Bun.spawn lets other code run before it returns: `#starting` must be set by then.
    await (this.#starting ??= Promise.resolve().then(() => this.#start()));
  }

  /** Makes the guard kill `ward` if the server is killed. Rejects if the guard cannot start. */
  async add(ward: Ward): Promise<void> {
    this.#wards.add(ward);
    this.#order(`+ ${words(ward)}`);
    await this.ready();
  }

  /** Lets `ward` outlive the server. */
  remove(ward: Ward): void {
    if (this.#wards.delete(ward)) this.#order(`- ${words(ward)}`);
  }

  /** Kills the processes that `ward`, which has ended, left behind. */
  sweep(ward: Ward): void {
    this.#ended.add(ward);
    if (!this.#cancelSweep) this.#sweepEnded();
  }

  /** Orders the kills first and removes the wards then: if the server is killed between the two, the guard still kills them. */
  #sweepEnded(): void {
    if (this.#ended.size === 0) return;
    const ended = [...this.#ended];
    this.#ended.clear();
    const order = `k ${ended.map(({ family }) => family).join(" ")}`;
    if (this.#child || this.#starting || this.#cancelReplacement) this.#unswept.push(order);
    this.#order(order);
    for (const ward of ended) this.remove(ward);
    if (this.#users === 0) return;
    this.#cancelSweep = this.#runtime.schedule(
      () => {
        this.#cancelSweep = null;
        this.#sweepEnded();
      },
      sweepMs,
      false,
    );
  }

  async #start(): Promise<void> {
    const began = this.#runtime.now();
    try {
      const prefixes = await privatePrefixes(this.#runtime);
      const child = await this.#runtime.spawn({
        file: "sh",
        flags: [],
        // The script is in a variable so that `ps` does not show it.
        args: ["-c", 'eval "$SAM_GUARD"', "sam-guard", ...prefixes],
        env: { SAM_GUARD: guardScript },
        stdio: ["ignore", "ignore", "ignore"],
        ownGroup: true,
      }, () => ({}));
      child.stream!.read((bytes) => {
        const acknowledged = bytes.filter((byte) => byte === acknowledgment).length;
        if (acknowledged < bytes.length) this.#reportLimit();
        if (this.#child === child) this.#unswept.splice(0, acknowledged);
      }, () => {});
      this.#child = child;
      void child.exited.then(() => {
        child.stream!.close();
        if (this.#child === child) this.#replace(began);
      });
      for (const ward of this.#wards) this.#order(`+ ${words(ward)}`);
      for (const order of this.#unswept) this.#order(order);
    } finally {
      this.#starting = null;
    }
  }

  /** Plans the next guard, because the one that started at `began` was killed. */
  #replace(began: number): void {
    this.#child = null;
    const delay = Math.max(0, began + replaceMs - this.#runtime.now());
    // A guard that cannot start is reported when the next ward is added.
    const start = () => void this.ready().catch(() => {});
    this.#cancelReplacement = this.#runtime.schedule(start, delay, false);
  }

  #reportLimit(): void {
    this.#isLimited = true;
    for (const listener of this.#listeners) listener(limitText);
    this.#listeners.clear();
  }

  #order(order: string): void {
    this.#child?.stream?.write(bytesOf(`${order}\n`));
  }
}

/** Formats a ward for the script. */
function words({ pid, leads, family }: Ward): string {
  return `${pid},${pid === 0 ? "" : leads ? -pid : pid},${family}`;
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

const guards = new WeakMap<GuardRuntime, Guard>();

/** The guard that all programs of a runtime share. */
export function guardOf(runtime: GuardRuntime): Guard {
  let guard = guards.get(runtime);
  if (!guard) guards.set(runtime, guard = new Guard(runtime));
  return guard;
}
