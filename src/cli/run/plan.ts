/** The plan of `sam run`: the programs that the command line, the environment and the configuration file name. */
import { loadRuntime } from "../../runtime/load.ts";
import type { RuntimeName } from "../../runtime/runtime.ts";
import { addressOf } from "../command_line/address.ts";
import { runOptions } from "../command_line/commands.ts";
import { CommandError } from "../command_line/exit.ts";
import {
  type Flag,
  flagOf,
  flags,
  parseText,
  variableOf,
  variableOfFlag,
} from "../command_line/flags.ts";
import { Settings } from "../command_line/settings.ts";
import { parseWords } from "../command_line/words.ts";
import * as host from "../host/host.ts";
import { checkConfig, type CheckedConfig, checkName } from "./check_config.ts";
import { absolute, buildProgram, type Surroundings } from "./programs.ts";

/** The configuration files that `sam run` looks for without `--config`. */
const configFiles = ["sam.config.ts", "sam.config.js", "sam.config.mjs", "sam.config.json"];

/** Short flags for values of `--log`. */
const logFlags: Readonly<Record<string, string>> = { "--json": "json", "--quiet": "none" };

/** Reads the plan from the words of the command line, the environment and the configuration file. */
export async function readPlan(words: readonly string[]): Promise<CheckedConfig> {
  const { given, operands } = parseWords(words, runOptions, true);
  const last = (flag: string) => given.findLast(([name]) => name === flag)?.[1];
  const name = readFlag("--name", last("--name"), checkName);
  const asked = readFlag("--metrics", last("--metrics"), addressOf);
  const settings = () => {
    const settings = new Settings();
    for (const [flag, text] of given) {
      const row = flags.find((row) => flagOf(row) === flag);
      const log = logFlags[flag];
      if (row) settings.add(row.key, parseText(flag, row.kind, text), flag);
      else if (log && parseText(flag, "switch", text) === true) settings.add("log", log, flag);
    }
    for (const row of flags) {
      const text = host.variable(variableOf(row));
      if (text !== undefined) settings.add(row.key, readVariable(row, text), variableOf(row));
    }
    return settings;
  };
  const runtime = await defaultRuntime();
  const around: Surroundings = {
    cwd: host.workingDirectory(),
    runtime,
    withoutTypes: host.withoutTypes(),
    files: host,
  };
  const file = readFlag("--config", last("--config"), (_source, text) => text) ??
    (operands.length > 0 ? undefined : configFiles.find(host.exists));
  if (file !== undefined) {
    const slash = file.lastIndexOf("/");
    const own = slash < 0 ? around : {
      ...around,
      cwd: absolute(file.slice(0, slash) || "/", host.workingDirectory()),
      elsewhere: true,
    };
    const config = checkConfig(file, await loadConfig(file), operands, settings, own);
    return { ...config, name: name ?? config.name, metrics: asked ?? config.metrics };
  }
  const [program, ...args] = operands;
  if (program === undefined) {
    throw new CommandError(
      "usage",
      `what is to be run? name a program, or write a ${configFiles[0]}; see sam run --help`,
    );
  }
  const path = program === "." ? host.workingDirectory() : program;
  const own = path.replace(/\/+$/, "").replace(/^.*\//, "").replace(/\.[cm]?[jt]sx?$/, "");
  return {
    name,
    metrics: asked,
    strategy: "one_for_one",
    programs: [
      buildProgram(
        { name: name ?? (own || "program"), program, args, after: [] },
        settings(),
        around,
      ),
    ],
  };
}

/** The value of a flag, else that of its environment variable. */
function readFlag<T>(
  flag: string,
  text: string | undefined,
  parse: (source: string, text: string) => T,
): T | undefined {
  if (text !== undefined) return parse(flag, text);
  const variable = variableOfFlag(flag);
  const said = host.variable(variable);
  return said === undefined ? undefined : asConfiguration(() => parse(variable, said));
}

/** The value of an environment variable. A mistake in it ends `sam` as a mistake of the configuration, not of the command line. */
function readVariable(row: Flag, text: string): unknown {
  return asConfiguration(() => parseText(variableOf(row), row.kind, text));
}

function asConfiguration<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new CommandError("config", (error as Error).message);
  }
}

/** The runtime for a module that does not say its own. `bunx` and `bun run` run `sam` itself on Node, by its first line. */
async function defaultRuntime(): Promise<RuntimeName> {
  const byBun = host.variable("npm_config_user_agent")?.startsWith("bun/");
  return byBun ? "bun" : (await loadRuntime()).name;
}

/** Loads what a configuration file exports. */
async function loadConfig(file: string): Promise<unknown> {
  const path = absolute(file, host.workingDirectory());
  if (!host.exists(path)) throw new CommandError("noInput", `${file} does not exist`);
  try {
    if (path.endsWith(".json")) return JSON.parse(host.readText(path));
    const module = await host.loadModule(path);
    if ("default" in module) return module.default;
  } catch (cause) {
    const { code, message } = (cause ?? {}) as { code?: string; message?: string };
    const cure = code === "ERR_UNKNOWN_FILE_EXTENSION"
      ? "; this version of Node cannot load TypeScript: name it .js or .json, or run sam with bunx --bun, or with Deno"
      : "";
    throw new CommandError(
      "config",
      `${file} cannot be loaded: ${message ?? String(cause)}${cure}`,
      { cause },
    );
  }
  throw new CommandError(
    "config",
    `${file} exports no default: write export default { programs: … }`,
  );
}
