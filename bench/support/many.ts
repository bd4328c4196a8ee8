// For the figures about a server of many applications: starts it, lets it grow step by step, and ends all of it. Its
// programs inherit the limit of open files that the runtimes raise for themselves: a server has three for each application
// at most, so `ulimit -Hn` must be 4,096 or more.
import {
  beater,
  type BenchRuntime,
  childrenOf,
  commandLine,
  privateKiB,
  residentKiB,
  Running,
  withSocketPath,
} from "./host.ts";

/** The server stands still, with so many programs in the end. */
export interface Step {
  readonly programs: number;
  /** From the last start to the look. */
  readonly settleMs: number;
  /** How long the look may take. */
  readonly windowMs: number;
}

/** What the server supervises. */
export interface Kind {
  readonly transport: string;
  readonly timeInterval: number;
  /** Applications that register and send heartbeats; else a command that does neither, as in the README. */
  readonly linked: boolean;
}

/** Stands still, too, but supervises nothing and does not load the library. */
export const bare = "bare";
/** As that, but has as many children as there would be programs, each of which has a connection to it. */
export const bareParent = "bare parent";

/** So that a program can collect its garbage before somebody looks at its memory. */
export const withGarbageCollection: Readonly<Record<BenchRuntime, readonly string[]>> = {
  node26: ["--expose-gc"],
  deno: ["--v8-flags=--expose-gc"],
  bun: [],
};

/** KiB of memory. */
export interface Memory {
  readonly resident: number;
  /** Of this process alone. */
  readonly own: number;
}

/** What a process has now. */
export function memoryOf(pid: number): Memory {
  return { resident: residentKiB(pid), own: privateKiB(pid) };
}

/** Starts a server on a runtime, with its flags, and looks at it in every step. */
export async function stepwise<S extends Step, T>(
  runtime: BenchRuntime,
  flags: readonly string[],
  kind: Kind | typeof bare | typeof bareParent,
  steps: readonly S[],
  look: (pid: number, step: S) => T | Promise<T>,
): Promise<T[]> {
  return await withSocketPath(async (path) => {
    const settings = typeof kind === "string"
      ? { steps, bare: true, ...(kind === bareParent && { child: [beater, path, "0"], path }) }
      : { steps, ...supervised(kind, path) };
    const heart = typeof kind === "object" && kind.linked
      ? new Running(beater, [path, "heart"])
      : undefined;
    await heart?.line("ready");
    const [file, words] = commandLine(runtime, "many", flags);
    const server = new Running(file, [...words, JSON.stringify(settings)]);
    try {
      const seen: T[] = [];
      for (const [index, step] of steps.entries()) {
        await server.line("steady", index + 1);
        seen.push(await look(server.pid, step));
        await server.line("over", index + 1);
      }
      return seen;
    } finally {
      await endAll(server);
      await heart?.stop();
    }
  });
}

function supervised({ transport, timeInterval, linked }: Kind, heart: string): object {
  return {
    state: linked ? "started" : "launched",
    program: linked
      ? { command: beater, args: [heart] }
      : { command: "sleep", args: ["60"], stdio: "ignore" }, // should nobody be left to end it
    options: { transport, timeInterval, recoveryPolicy: "quit" },
  };
}

/** The server first, so that it starts no more; what has a link ends with it, the rest is killed. */
async function endAll(server: Running): Promise<void> {
  const children = childrenOf(server.pid);
  const ended = server.stop("SIGKILL");
  for (const child of children) {
    try {
      process.kill(child, "SIGKILL");
    } catch {
      // it has ended with its link
    }
  }
  await ended;
}
