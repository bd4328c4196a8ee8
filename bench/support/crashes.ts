// Ends applications of bench/programs/app.ts again and again, under this library and without, and tells how long it took
// until the next one stood. A crash is rare, so servers are cold: each call here starts its own.
import { pathToFileURL } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { bigModule } from "./big_module.ts";
import { wall } from "./clock.ts";
import { type BenchRuntime, commandLine, type Line, root, start } from "./host.ts";

/** What there is before register(), and how the server is told to watch it. */
export interface App {
  readonly mib: number;
  readonly withModule?: boolean;
  /** The user has set NODE_COMPILE_CACHE. */
  readonly cached?: boolean;
  readonly transport?: string;
  readonly standby?: 0 | 1;
}

/** The time interval of an application that hangs. */
export const hangInterval = 100;

/** All is loaded, and nothing goes on any more, so long after the last line. */
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

/** Milliseconds from SIGKILL to the first line after register() in the next instance. */
export function crashes(runtime: BenchRuntime, app: App, count: number): Promise<number[]> {
  return endings(runtime, app, count, false);
}

/** Milliseconds from the last heartbeat of an application that heeds no warning to that line. */
export function hangs(runtime: BenchRuntime, app: App, count: number): Promise<number[]> {
  return endings(runtime, app, count, true);
}

async function endings(
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
        throw new Error("this machine is too busy for the time interval");
      }
      const { pid } = await server.line("started", instance);
      // The server and the first instance were born before the first spare.
      const spare = app.standby === 1 ? await server.line("born", instance + 2) : undefined;
      await sleep(quietMs);
      const killed = wall(performance.now());
      const alive = signal(pid, hanging ? "SIGUSR2" : "SIGKILL");
      const next = await server.line("ready", instance + 1);
      const hung = server.lines.find((line) => line.event === "hung" && line["pid"] === pid);
      // On a busy machine, an application may be taken to hang before it was asked to.
      if (!alive || (hanging && !hung)) continue;
      checkNext(next, instance + 1, spare);
      samples.push(next["at"] - (hung ? hung["at"] : killed));
    }
  } finally {
    await server.stop();
  }
  return samples;
}

/** Sends a signal; false: there is no such process. */
function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** A figure is one of a standby only when the process that had waited is the next instance. */
function checkNext(next: Line, instance: number, spare: Line | undefined): void {
  if (next["instance"] !== instance) throw new Error(`${next["instance"]} came, not ${instance}`);
  if (spare && next["pid"] !== spare["pid"]) throw new Error("another process than the spare came");
}

/** What a bare parent on the same runtime sees of a bare process of the same size. */
export interface Bare {
  /** Milliseconds from a spawn to the first line. */
  readonly spawns: number[];
  /** Milliseconds from SIGKILL to the moment when the parent sees the exit. */
  readonly exits: number[];
}

/** Node can start a child by `fork`, too, with a channel between them. */
export async function bare(
  runtime: BenchRuntime,
  app: App,
  count: number,
  manner: "spawn" | "fork" = "spawn",
): Promise<Bare> {
  const [file, flags] = commandLine(runtime, "bare_app");
  const words = [...flags, JSON.stringify(settingsOf(app))];
  const parent = start(runtime, "bare_parent", { file, words, count, quietMs, manner });
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
