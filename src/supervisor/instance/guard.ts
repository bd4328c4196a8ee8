/**
 * The guard: a small shell beside the server, in a session of its own, that outlives it. When the server is killed outright it
 * kills what the server had under supervision, also a program whose event loop is blocked. And it looks through /proc for
 * helpers that an instance left behind, which not every runtime may.
 *
 * The kernel could do the first (PR_SET_PDEATHSIG), but each start would then pay for another `exec`, or for loading an FFI;
 * it would end a wrapper and leave the program below it; and a program that has finalized could not be let go again.
 */
import { privatePrefixes } from "../../../transports/private_directories.ts";
import type { Child, Clock, Files, Processes } from "../../runtime/runtime.ts";
import { guardScript } from "./guard_script.ts";

type GuardRuntime = Clock & Processes & Pick<Files, "temporaryFiles">;

/**
 * A variable by whose name all that one instance of this process starts is found, for each inherits it. It is no secret. Its
 * name differs, not its value, so that a server below a server takes nothing away from the one above. Random numbers alone
 * are the same in two processes on Deno that have the same `--seed`.
 */
export function familyVariable(pid: number): string {
  const random = Array.from(crypto.getRandomValues(new Uint32Array(2)));
  const words = [pid, Date.now(), ...random].map((word) => word.toString(36));
  return `SAM_FAMILY_${words.join("_")}`;
}

/** A process that shall not outlive the server. */
export interface Ward {
  /** 0 for one that is about to be started: its family says which. */
  readonly pid: number;
  /** It leads a process group (and session) of its own, which goes with it. */
  readonly leads: boolean;
  /** Whatever has this variable in its environment goes with it; empty for nothing. */
  readonly family: string;
}

/** How long a guard that ends has for its last orders. */
const endMs = 2000;

/** Families are looked for together where many instances end, at most once in this time. */
const sweepMs = 100;

/** A guard that was killed is replaced at once, but no more often than this. */
const replaceMs = 1000;

/** The byte by which a guard acknowledges an order to look for families. */
const acknowledgment = 10;

/** The message about a guard that cannot look for families. */
const blindness =
  "helpers that leave the program's process group are not ended with it: the guard needs /proc, and a grep of GNU or BusyBox";

/** The guard of all that one process supervises. */
export class Guard {
  readonly #runtime: GuardRuntime;
  readonly #wards = new Set<Ward>();
  /** Those that have ended, and whose families are still to be looked for. */
  readonly #ended = new Set<Ward>();
  /** Calls off the next look for families; null where the last one was long ago. */
  #cancelSweep: (() => void) | null = null;
  #users = 0;
  /** Called with what the guard cannot do. */
  readonly #listeners = new Set<(detail: string) => void>();
  #blind = false;
  #starting: Promise<void> | null = null;
  #child: Child | null = null;
  /** Calls off the start of the next guard, while that is planned. */
  #cancelReplacement: (() => void) | null = null;
  /** Orders to look for families that no guard has acknowledged: the next one gets them again. */
  readonly #unswept: string[] = [];

  constructor(runtime: GuardRuntime) {
    this.#runtime = runtime;
  }

  /** The guard is needed until `leave()`. Calls `listener` once if there is something that the guard cannot do. */
  enter(listener?: (detail: string) => void): void {
    this.#users++;
    if (!listener) return;
    if (this.#blind) listener(blindness);
    else this.#listeners.add(listener);
  }

  /** Resolved when the last orders have been carried out. */
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
    const orders = this.#unswept.splice(0); // it carries them out before it ends
    const cancel = this.#runtime.schedule(() => child.kill("SIGKILL"), endMs, true);
    const { signal } = await child.exited;
    cancel();
    if (signal !== null) this.#unswept.unshift(...orders);
  }

  /** Sees to it that there is a guard. Rejects where there can be none. */
  async ready(): Promise<void> {
    if (this.#child !== null) return;
    this.#cancelReplacement?.();
    this.#cancelReplacement = null;
    // Begun in a step of its own, when it is known here: Bun.spawn lets other code run before it returns.
    await (this.#starting ??= Promise.resolve().then(() => this.#start()));
  }

  /** From now on `ward` is killed when the server is. Rejects where there can be no guard. */
  async add(ward: Ward): Promise<void> {
    this.#wards.add(ward);
    this.#order(`+ ${words(ward)}`);
    await this.ready();
  }

  /** `ward` is let go. */
  remove(ward: Ward): void {
    if (this.#wards.delete(ward)) this.#order(`- ${words(ward)}`);
  }

  /** `ward` has ended: what it has left behind is killed. */
  sweep(ward: Ward): void {
    this.#ended.add(ward);
    if (!this.#cancelSweep) this.#sweepEnded();
  }

  /** They are forgotten after that: a server that is killed in between leaves nothing. */
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
        // By a variable, so that `ps` does not show all of the script.
        args: ["-c", 'eval "$SAM_GUARD"', "sam-guard", ...prefixes],
        env: { SAM_GUARD: guardScript },
        stdio: ["ignore", "ignore", "ignore"],
        ownGroup: true,
      }, () => ({}));
      child.stream!.read((bytes) => {
        const acknowledged = bytes.filter((byte) => byte === acknowledgment).length;
        if (acknowledged < bytes.length) this.#tellBlindness();
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

  /** The guard that began at `began` was killed. */
  #replace(began: number): void {
    this.#child = null;
    const delay = Math.max(0, began + replaceMs - this.#runtime.now());
    // Where there can be none any more, the next ward says so.
    const start = () => void this.ready().catch(() => {});
    this.#cancelReplacement = this.#runtime.schedule(start, delay, false);
  }

  #tellBlindness(): void {
    this.#blind = true;
    for (const listener of this.#listeners) listener(blindness);
    this.#listeners.clear();
  }

  #order(order: string): void {
    this.#child?.stream?.write(bytesOf(`${order}\n`));
  }
}

/** A ward, as the script writes it. */
function words({ pid, leads, family }: Ward): string {
  return `${pid},${pid === 0 ? "" : leads ? -pid : pid},${family}`;
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

const guards = new WeakMap<GuardRuntime, Guard>();

/** The one guard of a runtime. */
export function guardOf(runtime: GuardRuntime): Guard {
  let guard = guards.get(runtime);
  if (!guard) guards.set(runtime, guard = new Guard(runtime));
  return guard;
}
