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
import * as host from "../runtime/host.ts";
import { loadRuntime } from "../runtime/runtime.ts";
import { CommandError, exitCodeOf } from "./exit.ts";
import { help, runHelp } from "./help.ts";
import { version } from "./version.ts";

export type { ProgramConfig, SamConfig } from "./config.ts";

const commands: Readonly<Record<string, (words: readonly string[]) => Promise<number>>> = {
  run: async (words) => (await import("./run.ts")).run(words),
  status: async (words) => (await import("./remote.ts")).status(words),
  events: async (words) => (await import("./remote.ts")).events(words),
  restart: async (words) => (await import("./remote.ts")).restart(words),
  stop: async (words) => (await import("./remote.ts")).stop(words),
  signal: async (words) => (await import("./remote.ts")).signal(words),
  completion: async (words) => (await import("./completion.ts")).completion(words),
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
    throw new CommandError("usage", `there is no command "${name}"; see sam --help`);
  }
  const asks = rest.find((word) => !word.startsWith("-") || /^(--help|-h|--help-all)$/.test(word));
  if (asks?.startsWith("-")) return print(name === "run" ? runHelp(asks === "--help-all") : help);
  return await command(rest);
}

function print(text: string): number {
  host.stdout.write(text);
  return 0;
}

const { exit } = await loadRuntime();
try {
  exit(await main(host.words));
} catch (error) {
  const { code, name } = error as { code?: string; name?: string };
  const message = error instanceof CommandError || code || name === "NotCapable"
    ? (error as Error).message
    : (error as Error).stack ?? String(error);
  host.stderr.write(`sam: ${message}\n`);
  exit(exitCodeOf(error));
}
