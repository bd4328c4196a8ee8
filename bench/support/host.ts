// Starts the programs of bench/programs on a runtime, receives their lines, and reads their state in /proc.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { wall } from "./clock.ts";
import { runtimePath } from "../../test/support/runtimes.ts";

/** The names of the measured runtimes, as in rows. */
export const runtimes = ["node26", "deno", "bun"] as const;
export type BenchRuntime = typeof runtimes[number];

const compiled = import.meta.url.endsWith(".js");

/** The root of the repository. */
export const root: string = fileURLToPath(
  new URL(compiled ? "../../../" : "../../", import.meta.url),
);

/** The path of the compiled bench/programs/tiny_program.c. */
export const tinyProgram: string = `${root}.build/bench/tiny_program`;

/** The `Program` for `supervise()` that runs a program of bench/programs. */
export function programFor(runtime: BenchRuntime, program: string, settings: object): object {
  const [path, words] = commandLine(runtime, program);
  const module = words.at(-1)!;
  const name = runtime === "node26" ? "node" : runtime;
  const flags = words.slice(runtime === "deno" ? 1 : 0, -1);
  return { module, args: [JSON.stringify(settings)], runtime: { name, path, flags } };
}

/** The command line of a program of bench/programs: the source on Deno and Bun, the compiled file on Node. */
export function commandLine(
  runtime: BenchRuntime,
  program: string,
  flags: readonly string[] = [],
): [string, string[]] {
  const source = `${root}bench/programs/${program}.ts`;
  switch (runtime) {
    case "deno":
      return [runtimePath("deno"), [
        "run",
        "-A",
        `--config=${root}.build/deno/deno.json`,
        ...flags,
        source,
      ]];
    case "bun":
      return [runtimePath("bun"), [...flags, source]];
    case "node26":
      return [runtimePath("node26"), [...flags, `${root}.build/bench/programs/${program}.js`]];
  }
}

/** A line from a program: one JSON object. */
export interface Line {
  readonly event: string;
  /** The time of its arrival, on the clock of `wall`. */
  readonly arrived: number;
  // deno-lint-ignore no-explicit-any
  readonly [name: string]: any;
}

/** A running program. Its lines include those of its child processes. It gets `endSignal` if this process is killed. */
export class Running {
  readonly lines: Line[] = [];
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #waiting: (() => void)[] = [];
  /** Everything that was written to standard error. */
  stderr = "";

  constructor(
    file: string,
    words: readonly string[],
    env: Readonly<Record<string, string>> = {},
    endSignal: "KILL" | "TERM" = "KILL",
  ) {
    this.#child = spawn("setpriv", [`--pdeathsig=${endSignal}`, file, ...words], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => this.stderr += text);
    let rest = "";
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      const arrived = wall(performance.now());
      const parts = (rest + text).split("\n");
      rest = parts.pop()!;
      for (const part of parts) {
        if (part.startsWith("{")) this.lines.push({ ...JSON.parse(part), arrived } as Line);
      }
      this.#wake();
    });
    this.ended = new Promise((resolve) => {
      this.#child.on("close", (code) => {
        this.#wake();
        resolve(code);
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Waits for the nth line of an event, at most three minutes. */
  async line(event: string, nth = 1): Promise<Line> {
    const deadline = performance.now() + 180_000;
    for (;;) {
      const found = this.lines.filter((line) => line.event === event)[nth - 1];
      if (found) return found;
      if (this.#child.exitCode !== null || performance.now() > deadline) {
        throw new Error(`line ${nth} of "${event}" did not come: ${this.stderr.slice(-2000)}`);
      }
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        setTimeout(resolve, 1000).unref();
      });
    }
  }

  /** Writes a line to its standard input. */
  write(text: string): void {
    this.#child.stdin!.write(`${text}\n`);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.#child.exitCode === null) this.#child.kill(signal);
    await this.ended;
  }
}

/** Starts a program of bench/programs, with its settings as one JSON argument. */
export function start(
  runtime: BenchRuntime,
  program: string,
  settings: object = {},
  env: Readonly<Record<string, string>> = {},
): Running {
  const [file, words] = commandLine(runtime, program);
  return new Running(file, [...words, JSON.stringify(settings)], env);
}

/** Runs a peer to its end and returns its samples. */
export async function peerSamples(file: string, ...words: (string | number)[]): Promise<number[]> {
  return await peerResult(file, ...words) as number[];
}

/** Runs a peer to its end and returns its last line, parsed as JSON. */
export async function peerResult(file: string, ...words: (string | number)[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(file, words.map(String), { encoding: "utf8" });
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

/** Creates a path for a Unix socket, and removes it after `use`. */
export async function withSocketPath<T>(use: (path: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "bench-"));
  try {
    return await use(join(directory, "s"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Microseconds of CPU time that all threads of a process have used so far. */
export function cpuMicroseconds(pid: number): number {
  let total = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [nanoseconds] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ");
    total += Number(nanoseconds) / 1000;
  }
  return total;
}

/** The number of times that the main thread of a process, which runs its event loop, has gone to sleep. */
export function voluntarySwitches(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)![1]);
}

/** The resident memory of a process in KiB. */
export function residentKiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
}

/** The memory that a process shares with no other, in KiB. */
export function privateKiB(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return [...rollup.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+)/gm)]
    .reduce((sum, [, number]) => sum + Number(number), 0);
}

/** The process id of the parent of a process. */
export function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
}

/** The process ids of the present children of a process; none if it has ended. */
export function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
      const text = readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8");
      return text.split(" ").filter((word) => word !== "").map(Number);
    });
  } catch {
    return [];
  }
}
