/**
 * The `sam` command: `npx @x/sam run server.js`, `deno run -A jsr:@x/sam/cli run server.ts`, `bunx @x/sam run server.ts`.
 *
 * ```ts
 * import type { SamConfig } from "@x/sam/cli";
 *
 * const config: SamConfig = { programs: { web: { program: "./web.ts" } } };
 * export default config;
 * ```
 *
 * @module
 */
import * as host from "./host/host.ts";
import { checkPlatform, loadRuntime } from "../runtime/runtime.ts";
import { CommandError, exitCodeOf, exitCodes } from "./command_line/exit.ts";
import { help, runHelp } from "./command_line/help.ts";
import type * as Remote from "./ask/remote.ts";
import { version } from "./command_line/version.ts";
import { helpAsked, type Option } from "./command_line/words.ts";

export type { ProgramConfig, RestartConfig, SamConfig } from "./run/config.ts";
export type { ProgramStatus, ServerStatus } from "./serve/status.ts";

interface Command {
  readonly carryOut: (words: readonly string[]) => Promise<number>;
  readonly options: readonly Option[];
}

const remote = (name: keyof typeof Remote.remoteOptions) => async (): Promise<Command> => {
  const { [name]: carryOut, remoteOptions } = await import("./ask/remote.ts");
  return { carryOut, options: remoteOptions[name] };
};

const commands: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => {
    const { run, runOptions } = await import("./run/run.ts");
    return { carryOut: run, options: runOptions };
  },
  status: remote("status"),
  events: remote("events"),
  restart: remote("restart"),
  stop: remote("stop"),
  signal: remote("signal"),
  completion: async () => {
    const { completion } = await import("./command_line/completion.ts");
    return { carryOut: completion, options: [] };
  },
};

async function main(words: readonly string[]): Promise<number> {
  const [name, ...rest] = words;
  if (name === undefined) {
    host.stderr.write(help);
    return new CommandError("usage", "").exitCode;
  }
  if (["--help", "-h", "help"].includes(name)) return print(help);
  if (name === "--version") return print(`${version}\n`);
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load === undefined) {
    throw new CommandError("usage", `there is no command "${name}"; see sam --help`);
  }
  const { carryOut, options } = await load();
  const asked = helpAsked(rest, options, name === "run");
  if (asked !== undefined) return print(name === "run" ? runHelp(asked === "--help-all") : help);
  checkPlatform();
  return await carryOut(rest);
}

function print(text: string): number {
  host.stdout.write(text);
  return 0;
}

const { exit } = await loadRuntime();
host.stdout.onError(({ code, message }) => {
  if (code === "EPIPE") exit(0); // a reader that has seen enough (`sam events | head`) is no failure
  host.stderr.write(`sam: standard output takes no more: ${message}\n`);
  exit(exitCodes.ioError[0]);
});
let exitCode: number;
try {
  exitCode = await main(host.words);
} catch (error) {
  const { code, name } = (error ?? {}) as { code?: string; name?: string };
  const message = error instanceof CommandError || code || name === "NotCapable"
    ? (error as Error).message
    : (error as Error | null)?.stack ?? String(error);
  host.stderr.write(`sam: ${message}\n`);
  exitCode = exitCodeOf(error);
}
await host.stdout.written; // a pipe takes 64 KiB at once
exit(exitCode);
