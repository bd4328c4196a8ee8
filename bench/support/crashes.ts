// Kills programs (bench/programs/app.ts) repeatedly, with this library and without, and measures the time until the next
// instance is registered. Each call starts a new server. A real crash is rare, so its server has not compiled the code either.
import { pathToFileURL } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { bigModule } from "./big_module.ts";
import { wall } from "./clock.ts";
import { type BenchRuntime, commandLine, type Line, root, start } from "./host.ts";
import { hangInterval } from "./targets.ts";

/** A program to kill, and the settings of its server. */
export interface App {
  /** MiB of memory that it fills before register(). */
  readonly mib: number;
  readonly withModule?: boolean;
  /** True if NODE_COMPILE_CACHE is set. */
  readonly cached?: boolean;
  readonly transport?: string;
  readonly standby?: 0 | 1;
}

/** The time after the last line of a program until all its start-up work is over, in milliseconds. */
const quietMs = 100;

function settingsOf(app: App, hangs = false): object {
  const { mib, withModule = false, transport = "unix", standby = 0 } = app;
  return {
    mib,
    ...(withModule && { module: pathToFileURL(bigModule()).href }),
    hangs,
    options: {
      timeInterval: hangs ? hangInterval : 60_000,
      recoveryPolicy: "restart",
      transport,
      standby,
    },
  };
}

/** Milliseconds from SIGKILL until the first line after register() in the next instance. */
export function crashTimes(runtime: BenchRuntime, app: App, count: number): Promise<number[]> {
  return recoveryTimes(runtime, app, count, false);
}

/** Milliseconds from the last heartbeat of a hung program until the first line after register() in the next instance. */
export function hangTimes(runtime: BenchRuntime, app: App, count: number): Promise<number[]> {
  return recoveryTimes(runtime, app, count, true);
}

async function recoveryTimes(
  runtime: BenchRuntime,
  app: App,
  count: number,
  hanging: boolean,
): Promise<number[]> {
  const env = app.cached ? { NODE_COMPILE_CACHE: `${root}.build/bench/compile-cache` } : {};
  const server = start(runtime, "app", settingsOf(app, hanging), env);
  const samples: number[] = [];
  try {
    for (let instance = 1; samples.length < count; instance++) {
      if (instance > 20 * count) {
        throw new Error(`this machine is too busy for a time interval of ${hangInterval} ms`);
      }
      const { pid } = await server.line("started", instance);
      // The server and the first instance write "born" too, before the first spare.
      const spare = app.standby === 1 ? await server.line("born", instance + 2) : undefined;
      await sleep(quietMs);
      const killed = wall(performance.now());
      const alive = signal(pid, hanging ? "SIGUSR2" : "SIGKILL");
      const next = await server.line("ready", instance + 1);
      const hung = server.lines.find((line) => line.event === "hung" && line["pid"] === pid);
      // On a busy machine, a program may stop responding before the benchmark makes it hang. Such a sample does not count.
      if (!alive || (hanging && !hung)) continue;
      checkNext(next, instance + 1, spare);
      samples.push(next["at"] - (hung ? hung["at"] : killed));
    }
  } finally {
    await server.stop();
  }
  return samples;
}

/** Sends a signal. Returns false if the process does not exist. */
function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** Fails if the next instance is not the spare. */
function checkNext(next: Line, instance: number, spare: Line | undefined): void {
  if (next["instance"] !== instance) {
    throw new Error(`the next instance is ${next["instance"]}, not ${instance}`);
  }
  if (spare && next["pid"] !== spare["pid"]) {
    throw new Error("the next instance is not the spare");
  }
}

/** The times that a bare parent measures for a process of the same size on the same runtime. */
export interface BareTimes {
  /** Milliseconds from the spawn until the first line. */
  readonly spawns: number[];
  /** Milliseconds from SIGKILL until the exit event in the parent. */
  readonly exits: number[];
}

/** Measures a bare parent. On Node it can start the child with `fork()`, which adds a channel between them. */
export async function bareTimes(
  runtime: BenchRuntime,
  app: App,
  count: number,
  method: "spawn" | "fork" = "spawn",
): Promise<BareTimes> {
  const [file, flags] = commandLine(runtime, "bare_app");
  const words = [...flags, JSON.stringify(settingsOf(app))];
  const parent = start(runtime, "bare_parent", { file, words, count, quietMs, method });
  try {
    await parent.line("sample", count);
    const samples = parent.lines.filter(({ event }) => event === "sample");
    return {
      spawns: samples.map((line) => line["spawnMs"]),
      exits: samples.map((line) => line["exitMs"]),
    };
  } finally {
    await parent.stop();
  }
}
