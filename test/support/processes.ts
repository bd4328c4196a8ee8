// Tests with real processes: starts a program of test/fixtures, alone or by supervise(), and waits for the lines that
// it prints.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type ModuleProgram,
  type Program,
  supervise,
  type SuperviseOptions,
  type Supervisor,
  type SupervisorEvent,
} from "../../mod.ts";
import { test, type TestOptions } from "./harness.ts";
import { taggedProcesses, withoutLeaks } from "./leaks.ts";
import { currentRuntime, fixture, fixtureFor, type RuntimeName, runtimePath } from "./runtimes.ts";
import { type Terminal, terminal } from "./terminal.ts";

/** The names of the transports. */
export const transports = ["unix", "pipe", "shm"] as const;
export type TransportName = typeof transports[number];

/** A line that a program printed with `say` of program.ts. */
export interface Line {
  readonly event: string;
  readonly pid: number;
  readonly ms: number;
  // deno-lint-ignore no-explicit-any
  readonly [name: string]: any;
}

type EventType = SupervisorEvent["type"];
type EventOf<T extends EventType> = SupervisorEvent & { readonly type: T };

/** Time limit for one event, in milliseconds. */
export const waitMs = 20_000;

/** Waits until `get` returns something. */
export async function eventually<T>(
  what: string,
  get: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  for (const end = performance.now() + waitMs;;) {
    const value = await get();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > end) throw new Error(`waited ${waitMs} ms in vain for ${what}`);
    await sleep(5);
  }
}

/** A program that was started directly, and is its own SAM server. */
export interface Running {
  /** The pid of the server. */
  readonly pid: number;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  /** Standard error so far. */
  stderr(): string;
  kill(signal: NodeJS.Signals): void;
}

/** How a program is started. */
export interface How {
  readonly runtime?: RuntimeName;
  readonly flags?: readonly string[];
  /** Path of the program, if it is not the fixture's own. */
  readonly script?: string;
  readonly args?: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Words to put before the command line: a command that executes the program, for example `nohup`. */
  readonly within?: readonly string[];
}

/** A supervised program, with all its events. */
export class Watched {
  readonly supervisor: Supervisor;
  readonly events: SupervisorEvent[] = [];
  readonly ended: Promise<void>;

  constructor(program: Program, options: SuperviseOptions) {
    this.supervisor = supervise(program, options);
    this.ended = this.#collect();
  }

  async #collect(): Promise<void> {
    for await (const event of this.supervisor.events()) this.events.push(event);
  }

  /** All events of a type. */
  all<T extends EventType>(type: T): EventOf<T>[] {
    return this.events.filter((event): event is EventOf<T> => event.type === type);
  }

  /** Waits for an event of a type, of one instance if it is given. */
  event<T extends EventType>(type: T, instanceId?: number): Promise<EventOf<T>> {
    return eventually(
      `the event ${type} of instance ${instanceId ?? "any"}`,
      () => this.all(type).find((event) => (instanceId ?? event.instanceId) === event.instanceId),
    ).catch((error: Error) => {
      throw new Error(`${error.message}; there were ${JSON.stringify(this.events)}`);
    });
  }

  /** Waits for the end of supervision, after which all events are here. */
  async finished(): ReturnType<Supervisor["stop"]> {
    const status = await this.supervisor.finished;
    await this.ended;
    return status;
  }
}

/** The tools of a test with processes. */
export class Stage {
  readonly directory: string = mkdtempSync(join(tmpdir(), "stage-"));
  readonly #path = join(this.directory, "lines");
  readonly #watched: Watched[] = [];
  readonly #running: Running[] = [];

  /** All lines that the programs of this test have printed so far. */
  lines(event?: string): Line[] {
    let text = "";
    try {
      text = readFileSync(this.#path, "utf8");
    } catch {
      // no program has printed anything yet
    }
    const lines = text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as Line);
    return event === undefined ? lines : lines.filter((line) => line.event === event);
  }

  /** Waits for the `nth` line of an event. */
  line(event: string, nth = 1): Promise<Line> {
    return eventually(`"${event}"`, () => this.lines(event)[nth - 1]).catch((error: Error) => {
      throw new Error(
        `${error.message}; said was ${JSON.stringify(this.lines())}${
          this.#running.map((each) => `\n${each.stderr()}`)
        }`,
      );
    });
  }

  /** Lets a program continue that waits in `ready(name)`. */
  go(name: string): void {
    writeFileSync(`${this.#path}.${name}`, "");
  }

  /** Describes a program of test/fixtures for supervise(). */
  program(name: string, { runtime, flags, args = [], cwd, env = {} }: How = {}): ModuleProgram {
    return {
      module: runtime ? fixtureFor(runtime, name) : fixture(name),
      args,
      env: { ...env, SAM_TEST_OUTPUT: this.#path },
      ...(cwd !== undefined && { cwd }),
      ...(runtime && {
        runtime: {
          name: runtime === "deno" || runtime === "bun" ? runtime : "node",
          path: runtimePath(runtime),
          flags: flags ?? (runtime === "deno" ? ["-A", "--no-config"] : []),
        },
      }),
    };
  }

  /** Supervises a program of test/fixtures in this process. */
  supervise(program: string | Program, options: SuperviseOptions, how?: How): Watched {
    const watched = new Watched(
      typeof program === "string" ? this.program(program, how) : program,
      options,
    );
    this.#watched.push(watched);
    return watched;
  }

  /** The command line that starts a program of test/fixtures as its own SAM server. */
  commandOf(name: string, how: How = {}): string[] {
    const runtime = how.runtime ?? currentRuntime;
    const flags = how.flags ?? (runtime === "deno" ? ["run", "-A", "--no-config"] : []);
    const module = how.runtime ? fixtureFor(runtime, name) : fixture(name);
    const command = [runtimePath(runtime), ...flags, how.script ?? module, ...how.args ?? []];
    return [...how.within ?? [], ...command];
  }

  /** Starts a program of test/fixtures as its own SAM server. */
  run(name: string, how: How = {}): Running {
    const [file, ...words] = this.commandOf(name, how);
    return this.runCommand(file!, { ...how, args: words });
  }

  /** Starts a program of test/fixtures as its own SAM server, in a terminal. */
  runInTerminal(name: string, how: How = {}): Terminal {
    const line = this.commandOf(name, how).map((word) => `'${word}'`).join(" ");
    return terminal(line, { ...how.env, SAM_TEST_OUTPUT: this.#path });
  }

  /** Runs a command. */
  runCommand(file: string, how: Pick<How, "args" | "cwd" | "env">): Running {
    const child = spawn(file, how.args ?? [], {
      cwd: how.cwd,
      env: { ...process.env, ...how.env, SAM_TEST_OUTPUT: this.#path },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
    const running: Running = {
      pid: child.pid!,
      exited: new Promise((resolve) =>
        child.on("exit", (code, signal) => resolve({ code, signal }))
      ),
      stderr: () => stderr,
      kill: (signal) => void process.kill(child.pid!, signal), // on Deno, child.kill() works only once
    };
    this.#running.push(running);
    return running;
  }

  /** Ends all that the test left running. */
  async end(): Promise<void> {
    const ends = this.#watched.map(async ({ supervisor, ended }) => {
      void supervisor.stop();
      await supervisor.stop();
      await ended;
    });
    for (const pid of taggedProcesses()) {
      if (this.#running.length > 0) killQuietly(pid);
    }
    await Promise.all([...ends, ...this.#running.map(({ exited }) => exited)]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** True if a process lives. A zombie does not. */
export function lives(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

export function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // the process has ended
  }
}

/**
 * Registers a test that starts processes. Processes that it leaves running are ended, and anything that is left then
 * fails the test.
 */
export function processTest(
  name: string,
  fn: (stage: Stage) => Promise<void>,
  options: TestOptions = {},
): void {
  test(name, () =>
    withoutLeaks(async () => {
      const stage = new Stage();
      try {
        await fn(stage);
      } finally {
        await stage.end();
      }
    }), { timeoutMs: 30_000, ...options });
}
