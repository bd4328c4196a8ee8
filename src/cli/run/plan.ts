/** The plan of `sam run`: its programs, from the command line, the environment and the configuration file. */
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
import { expandInstances } from "../../supervisor/fleet_program.ts";
import { checkConfig, type CheckedConfig, checkName } from "./check_config.ts";
import { absolute, type BuildContext, buildProgram } from "./programs.ts";

/** The configuration files that `sam run` looks for without `--config`. */
const configFiles = ["sam.config.ts", "sam.config.js", "sam.config.mjs", "sam.config.json"];

/** The flags that are short for a value of `--log`. */
const logFlags: Readonly<Record<string, string>> = { "--json": "json", "--quiet": "none" };

/**
 * Reads the plan from the words of the command line, the environment and the configuration file. `again` is the configuration
 * file if it was read before.
 */
export async function readPlan(words: readonly string[], again?: string): Promise<CheckedConfig> {
  const { given, operands } = parseWords(words, runOptions, true);
  const last = (flag: string) => given.findLast(([name]) => name === flag)?.[1];
  const name = readFlag("--name", last("--name"), checkName);
  const metrics = readFlag("--metrics", last("--metrics"), addressOf);
  const settings = () => {
    const settings = new Settings();
    for (const [flag, text] of given) {
      const row = flags.find((row) => flagOf(row) === flag);
      const log = logFlags[flag];
      if (row) settings.add(row.key, parseValue(flag, row, text), flag);
      else if (log && parseText(flag, "switch", text) === true) settings.add("log", log, flag);
    }
    for (const row of flags) {
      const text = host.variable(variableOf(row));
      if (text !== undefined) settings.add(row.key, readVariable(row, text), variableOf(row));
    }
    return settings;
  };
  const runtime = await defaultRuntime();
  const context: BuildContext = {
    cwd: host.workingDirectory(),
    runtime,
    withoutTypes: host.withoutTypes(),
    files: host,
    cores: host.cores(),
  };
  const file = again ?? readFlag("--config", last("--config"), (_source, text) => text) ??
    (operands.length > 0 ? undefined : configFiles.find(host.exists));
  if (file !== undefined) {
    const slash = file.lastIndexOf("/");
    const fileContext = slash < 0 ? context : {
      ...context,
      cwd: absolute(file.slice(0, slash) || "/", host.workingDirectory()),
      elsewhere: true,
    };
    const content = await loadConfig(file, again !== undefined);
    const config = checkConfig(file, content, operands, settings, fileContext);
    return {
      ...config,
      file,
      programs: expandInstances(config.programs),
      name: name ?? config.name,
      metrics: metrics ?? config.metrics,
    };
  }
  const [program, ...args] = operands;
  if (program === undefined) {
    throw new CommandError(
      "usage",
      `no program to run. Name one (sam run web.js), or create ${
        configFiles[0]
      }. See sam run --help.`,
    );
  }
  const path = program === "." ? host.workingDirectory() : program;
  const baseName = path.replace(/\/+$/, "").replace(/^.*\//, "").replace(/\.[cm]?[jt]sx?$/, "");
  return {
    name,
    metrics,
    strategy: "one_for_one",
    programs: expandInstances([
      buildProgram(
        { name: name ?? (baseName || "program"), program, args, after: [] },
        settings(),
        context,
      ),
    ]),
  };
}

/** The value of a flag, or of its environment variable if the flag is not given. */
function readFlag<T>(
  flag: string,
  text: string | undefined,
  parse: (source: string, text: string) => T,
): T | undefined {
  if (text !== undefined) return parse(flag, text);
  const variable = variableOfFlag(flag);
  const value = host.variable(variable);
  return value === undefined ? undefined : asConfiguration(() => parse(variable, value));
}

/** The value of an environment variable. Throws a configuration error, with exit code 78, and not a usage error. */
function readVariable(row: Flag, text: string): unknown {
  return asConfiguration(() => parseValue(variableOf(row), row, text));
}

/** The value of a flag or a variable. The path of a file with variables starts at the working directory, as for Node itself. */
function parseValue(source: string, { key, kind }: Flag, text: string): unknown {
  return parseText(
    source,
    kind,
    key === "envFile" ? absolute(text, host.workingDirectory()) : text,
  );
}

function asConfiguration<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new CommandError("config", (error as Error).message);
  }
}

/**
 * The runtime of a module if nothing names another one. Under `bunx` and `bun run`, it is Bun, although `sam` itself runs on Node
 * because of its first line.
 */
async function defaultRuntime(): Promise<RuntimeName> {
  const byBun = host.variable("npm_config_user_agent")?.startsWith("bun/");
  return byBun ? "bun" : (await loadRuntime()).name;
}

/** Loads the default export of a configuration file. */
async function loadConfig(file: string, again: boolean): Promise<unknown> {
  const path = absolute(file, host.workingDirectory());
  if (!host.exists(path)) {
    throw new CommandError("noInput", `the configuration file ${file} does not exist`);
  }
  try {
    if (path.endsWith(".json")) return JSON.parse(host.readText(path));
    const module = await host.loadModule(path, again);
    if ("default" in module) return module.default;
  } catch (cause) {
    const { code, message } = (cause ?? {}) as { code?: string; message?: string };
    const advice = code === "ERR_UNKNOWN_FILE_EXTENSION"
      ? ". This version of Node cannot load TypeScript: rename the file to .js or .json, or run sam with Deno or bunx --bun."
      : "";
    throw new CommandError(
      "config",
      `cannot load ${file}: ${message ?? String(cause)}${advice}`,
      { cause },
    );
  }
  throw new CommandError(
    "config",
    `${file} has no default export. Write export default { programs: … }.`,
  );
}
