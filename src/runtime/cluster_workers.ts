/** Tells the server of the workers of node:cluster that this process starts. `src/active/cluster_primary.cts` prepares them. */
import type * as Channels from "node:diagnostics_channel";
import type * as Modules from "node:module";
import { launch } from "./launch.ts";
import { process } from "./node_api.ts";

type Announce = (key: string, hasEnded: boolean) => void;

/** The state that all copies of the library in this process share. See `cluster_primary.cts`. */
interface Workers {
  announce: Announce | null;
  readonly waiting: Set<string>;
  capturesStack?: boolean;
}
interface SpawnOptions {
  readonly envPairs?: readonly string[];
}
interface ChildPrototype {
  spawn(options: SpawnOptions): unknown;
}
interface BunOptions {
  readonly cmd?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
}
type BunSpawn = (options: BunOptions, more?: unknown) => unknown;
interface Primary {
  spawnWorker(
    child: unknown,
    options: SpawnOptions,
    spawn: ChildPrototype["spawn"],
    link: string,
  ): unknown;
  spawnBunWorker(options: BunOptions, spawn: BunSpawn, link: string): unknown;
}

/** The variable that node:cluster passes to its workers. */
const workerVariable = "NODE_UNIQUE_ID";
const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";

/** `Runtime.isWorker` on Node and Bun. */
export function isWorker(): boolean {
  try {
    // A worker has a channel to its primary process. This is checked first, because most programs never load node:cluster.
    return typeof process.channel === "object" &&
      (process.getBuiltinModule("node:cluster") as { readonly isWorker: boolean }).isWorker;
  } catch {
    return false; // a thread, in which `process.channel` may throw
  }
}

/** Sets the function that tells the server of workers. Returns the address of the server, if workers are not prepared yet. */
function share(announce: Announce, capturesStack: boolean): string | undefined {
  const all = globalThis as unknown as Record<symbol, Workers | undefined>;
  const key = Symbol.for("@x/sam/workers");
  const isNew = all[key] === undefined;
  const workers = all[key] ??= { announce: null, waiting: new Set() };
  workers.announce = announce;
  workers.capturesStack = capturesStack;
  for (const each of workers.waiting) announce(each, false);
  workers.waiting.clear();
  return isNew ? launch.link : undefined;
}

/** Loads `cluster_primary.cts`. Undefined if a bundler has included the library in the program, but not that file. */
function loadPrimary(): Primary | undefined {
  try {
    const path = new URL(`../active/cluster_primary.c${extension}`, import.meta.url).pathname;
    const { createRequire } = process.getBuiltinModule("node:module") as typeof Modules;
    return createRequire(import.meta.url)(decodeURIComponent(path));
  } catch {
    return undefined;
  }
}

/** `Runtime.announceWorkers` on Node. Does not load node:child_process, which most programs never use. */
export function announceNodeWorkers(announce: Announce, capturesStack: boolean): void {
  const link = share(announce, capturesStack);
  if (link === undefined) return;
  const name = "child_process"; // Node publishes each new ChildProcess there, before it is spawned
  const channels = process.getBuiltinModule("node:diagnostics_channel") as typeof Channels;
  const onChild = (message: unknown) => {
    channels.unsubscribe(name, onChild);
    const { process: child } = message as { process: object };
    const prototype = Object.getPrototypeOf(child) as ChildPrototype;
    const { spawn } = prototype;
    prototype.spawn = function (options) {
      const isWorker = options?.envPairs?.some((pair) => pair.startsWith(`${workerVariable}=`));
      const primary = isWorker ? loadPrimary() : undefined;
      return primary
        ? primary.spawnWorker(this, options, spawn, link)
        : Reflect.apply(spawn, this, [options]);
    };
  };
  channels.subscribe(name, onChild);
}

/** `Runtime.announceWorkers` on Bun, whose node:child_process calls `Bun.spawn`. */
export function announceBunWorkers(announce: Announce, capturesStack: boolean): void {
  const link = share(announce, capturesStack);
  if (link === undefined) return;
  const { Bun } = globalThis as unknown as { Bun: { spawn: BunSpawn } };
  const { spawn } = Bun;
  Bun.spawn = (options, more) => {
    const isWorker = options?.env?.[workerVariable] !== undefined && options.cmd !== undefined;
    const primary = isWorker ? loadPrimary() : undefined;
    return primary ? primary.spawnBunWorker(options, spawn, link) : spawn(options, more);
  };
}
