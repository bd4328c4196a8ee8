// Runs the `sam` command as its user does, on the current runtime, and reads its output.
import { type ChildProcess, spawn } from "node:child_process";
import { get } from "node:http";
import type { SupervisorEvent } from "../../mod.ts";
import type { TestOptions } from "./harness.ts";
import { taggedProcesses } from "./leaks.ts";
import { eventually, processTest, type Stage, waitMs } from "./processes.ts";
import {
  currentRuntime,
  newest,
  offlineDenoConfig,
  quickFixture,
  runtimePath,
} from "./runtimes.ts";

/** Name of the current runtime as `--runtime` takes it. */
export const runtimeName: string = currentRuntime.startsWith("node") ? "node" : currentRuntime;

/** The command line of `sam` on the current runtime. */
export function samCommand(): [string, ...string[]] {
  const main = quickFixture("../../src/cli/main");
  const config = `--config=${offlineDenoConfig}`; // the server loads a package by its name in deno.json
  const flags = currentRuntime === "deno" ? ["run", "-A", "--no-check", config] : [];
  return [runtimePath(currentRuntime), ...flags, main];
}

/** An event that `--json` printed. */
export type CommandEvent = SupervisorEvent & { readonly program: string };

/** A running `sam`. */
export class Command {
  readonly child: ChildProcess;
  readonly exited: Promise<number | string | null>;
  stdout = "";
  stderr = "";

  constructor(words: readonly string[], env: Readonly<Record<string, string>> = {}, cwd?: string) {
    const [file, ...args] = samCommand();
    this.child = spawn(file, [...args, ...words], {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => this.stdout += text);
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => this.stderr += text);
    this.exited = new Promise((resolve) =>
      this.child.on("close", (code, signal) => resolve(code ?? signal))
    );
  }

  /** The events that `--json` has printed so far. */
  events(): CommandEvent[] {
    return this.stderr.split("\n").slice(0, -1).filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  }

  /** Waits for the `nth` event of a type, of one program if it is named. */
  async event<T extends SupervisorEvent["type"]>(
    type: T,
    nth = 1,
    program?: string,
  ): Promise<CommandEvent & { readonly type: T }> {
    return await eventually(
      `event ${type}, number ${nth}, of ${program ?? "any"}`,
      () =>
        this.events().filter((event): event is CommandEvent & { readonly type: T } =>
          event.type === type && (program ?? event.program) === event.program
        )[nth - 1],
    ).catch((error) => {
      throw new Error(`${error.message}; so far: ${this.stdout}${this.stderr}`);
    });
  }

  /** Waits for a text on a stream. */
  async text(pattern: RegExp, stream: "stdout" | "stderr" = "stdout"): Promise<RegExpExecArray> {
    return await eventually(String(pattern), () => pattern.exec(this[stream]) ?? undefined)
      .catch((error) => {
        throw new Error(`${error.message}; so far: ${this.stdout}${this.stderr}`);
      });
  }

  kill(signal: NodeJS.Signals): void {
    process.kill(this.child.pid!, signal); // Deno's own kill() works once
  }
}

/** Registers a test of the command, which fails if anything is left behind. */
export function commandTest(
  name: string,
  fn: (
    sam: (
      words: readonly string[],
      env?: Readonly<Record<string, string>>,
      cwd?: string,
    ) => Command,
    stage: Stage,
  ) => Promise<void>,
  options?: TestOptions,
): void {
  processTest(name, async (stage) => {
    const started: Command[] = [];
    const sockets = { XDG_RUNTIME_DIR: stage.directory };
    try {
      await fn((words, env, cwd) => {
        const command = new Command(words, { ...sockets, ...env }, cwd);
        started.push(command);
        return command;
      }, stage);
    } finally {
      for (const pid of taggedProcesses()) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // the process has ended
        }
      }
      await Promise.all(started.map(({ exited }) => exited));
    }
  }, { leg: ["node20", ...newest], ...options });
}

/** The body of a page. Undefined if no server listens, or if the server ends without an answer. */
export function page(port: number | string, path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const request = get(
      { port, path, host: "127.0.0.1", agent: false, timeout: waitMs },
      (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text) => body += text);
        response.on("close", () => resolve(body));
      },
    );
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(undefined));
  });
}
