// Starts a server for the figures about many programs, adds programs step by step, and ends everything. The runtimes raise the
// limit of open files to the hard limit. A server has at most three open files for each program, so `ulimit -Hn` must be 4,096
// or more.
import {
  type BenchRuntime,
  childrenOf,
  commandLine,
  privateKiB,
  residentKiB,
  Running,
  tinyProgram,
  withSocketPath,
} from "./host.ts";

/** A step of the growth: a number of programs, and a pause for a measurement. */
export interface Step {
  /** The number of programs after this step. */
  readonly programs: number;
  /** Milliseconds from the last start until the measurement. */
  readonly settleMs: number;
  /** The longest duration of the measurement, in milliseconds. */
  readonly windowMs: number;
}

/** The programs of a server. */
export interface Kind {
  readonly transport: string;
  readonly timeInterval: number;
  /** True for programs that register and send heartbeats; false for a command that never connects to the server. */
  readonly linked: boolean;
}

/** Instead of a `Kind`: a process that supervises nothing and does not load the library. */
export const bare = "bare";
/** Instead of a `Kind`: a process without the library that has one child with a connection to it for each program. */
export const bareParent = "bare parent";

/** The flags that let a program run the garbage collector before its memory is measured. */
export const withGarbageCollection: Readonly<Record<BenchRuntime, readonly string[]>> = {
  node26: ["--expose-gc"],
  deno: ["--v8-flags=--expose-gc"],
  bun: [],
};

/** The memory of a process, in KiB. */
export interface Memory {
  readonly resident: number;
  /** The memory that it shares with no other process. */
  readonly own: number;
}

export function memoryOf(pid: number): Memory {
  return { resident: residentKiB(pid), own: privateKiB(pid) };
}

/** Starts a server on a runtime, with flags for the runtime, and calls `measure` in each step. */
export async function stepwise<S extends Step, T>(
  runtime: BenchRuntime,
  flags: readonly string[],
  kind: Kind | typeof bare | typeof bareParent,
  steps: readonly S[],
  measure: (pid: number, step: S) => T | Promise<T>,
): Promise<T[]> {
  return await withSocketPath(async (path) => {
    const settings = typeof kind === "string"
      ? { steps, bare: true, ...(kind === bareParent && { child: [tinyProgram, path, "0"], path }) }
      : { steps, ...supervised(kind, path) };
    const sender = typeof kind === "object" && kind.linked
      ? new Running(tinyProgram, [path, "sender"])
      : undefined;
    await sender?.line("ready");
    const [file, words] = commandLine(runtime, "many", flags);
    const server = new Running(file, [...words, JSON.stringify(settings)]);
    try {
      const seen: T[] = [];
      for (const [index, step] of steps.entries()) {
        await server.line("steady", index + 1);
        seen.push(await measure(server.pid, step));
        await server.line("over", index + 1);
      }
      return seen;
    } finally {
      await endAll(server);
      await sender?.stop();
    }
  });
}

function supervised({ transport, timeInterval, linked }: Kind, senderPath: string): object {
  return {
    state: linked ? "started" : "launched",
    program: linked
      ? { command: tinyProgram, args: [senderPath] }
      : { command: "sleep", args: ["60"], stdio: "ignore" }, // ends by itself if this process is killed
    options: { transport, timeInterval, recoveryPolicy: "quit" },
  };
}

/** Ends the server first, so that it starts no further program. Its children then end with their connection, or are killed. */
async function endAll(server: Running): Promise<void> {
  const children = childrenOf(server.pid);
  const ended = server.stop("SIGKILL");
  for (const child of children) {
    try {
      process.kill(child, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
  await ended;
}
