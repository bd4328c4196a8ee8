/**
 * The `sam` command, and the types of its configuration file and of its JSON output. To run the command:
 *
 * - Node: `npx @x/sam run web.js`
 * - Deno: `deno run -A jsr:@x/sam/cli run web.ts`
 * - Bun: `bunx @x/sam run web.ts`
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
import { checkPlatform, loadRuntime } from "../runtime/load.ts";
import { CommandError, exitCodeOf, exitCodes } from "./command_line/exit.ts";
import { help, runHelp, unitHelp } from "./command_line/help.ts";
import { remoteOptions, runOptions, unitOptions } from "./command_line/commands.ts";
import { version } from "./command_line/version.ts";
import { findHelpFlag, type Option } from "./command_line/words.ts";

export type { ProgramConfig, RestartConfig, SamConfig } from "./run/config.ts";
export type { ProgramStatus, ServerStatus } from "./control/status.ts";

type CarryOut = (words: readonly string[]) => Promise<number>;

interface Command {
  readonly options: readonly Option[];
  /** Imports the code of the command. The help and the version need none of it. */
  load(): Promise<CarryOut>;
}

const remote = (name: keyof typeof remoteOptions): Command => ({
  options: remoteOptions[name],
  load: async () => (await import("./ask/remote_commands.ts"))[name],
});

const commands: Readonly<Record<string, Command>> = {
  run: { options: runOptions, load: async () => (await import("./run/run.ts")).run },
  unit: { options: unitOptions, load: async () => (await import("./unit/unit.ts")).unit },
  status: remote("status"),
  events: remote("events"),
  restart: remote("restart"),
  reload: remote("reload"),
  stop: remote("stop"),
  signal: remote("signal"),
  completion: {
    options: [],
    load: async () => (await import("./command_line/completion.ts")).completion,
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
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    throw new CommandError("usage", `unknown command "${name}". See sam --help.`);
  }
  const helpFlag = findHelpFlag(rest, command.options, name === "run" || name === "unit");
  if (helpFlag !== undefined) {
    if (name === "unit") return print(unitHelp);
    return print(name === "run" ? runHelp(helpFlag === "--help-all") : help);
  }
  checkPlatform();
  const carryOut = await command.load();
  return await carryOut(rest);
}

function print(text: string): number {
  host.stdout.write(text);
  return 0;
}

const { exit } = await loadRuntime();
host.stdout.onError(({ code, message }) => {
  if (code === "EPIPE") exit(0); // the reader has stopped reading, as in `sam events | head`
  host.stderr.write(`sam: cannot write to standard output: ${message}\n`);
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
await host.stdout.written; // exit() would discard output that a pipe has not yet accepted
exit(exitCode);
