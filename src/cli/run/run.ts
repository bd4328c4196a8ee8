/** `sam run`: supervises a program, or those of a configuration file, and ends as they end. */
import { Fleet, type FleetProgram } from "../../supervisor/fleet.ts";
import type { SamError } from "../../errors.ts";
import { twinOf } from "../../runtime/procfs.ts";
import { loadRuntime, type RuntimeName } from "../../runtime/runtime.ts";
import * as host from "../host/host.ts";
import { Lines, logger } from "../../supervisor/log.ts";
import { notifierOf, onEnding } from "../../supervisor/own_process/serve_self.ts";
import { type Address, addressOf } from "../command_line/address.ts";
import { checkConfig, type CheckedConfig, nameOf } from "./config.ts";
import { openControl } from "../serve/control.ts";
import { CommandError, exitCodeOfSpawn } from "../command_line/exit.ts";
import {
  flagOf,
  optionFlags,
  parseText,
  programFlags,
  Settings,
  variableOf,
  variableOfFlag,
} from "../command_line/flags.ts";
import { Journal } from "../serve/journal.ts";
import { buildProgram, type Surroundings } from "./programs.ts";
import { type Option, parseWords } from "../command_line/words.ts";

const rows = [...programFlags, ...optionFlags];

/** The options of `sam run`. */
export const runOptions: readonly Option[] = [
  { flag: "--name", takesValue: true },
  { flag: "--config", short: "-c", takesValue: true },
  { flag: "--metrics", takesValue: true },
  { flag: "--json", takesValue: false },
  { flag: "--quiet", short: "-q", takesValue: false },
  ...rows.map((row) => ({ flag: flagOf(row), takesValue: row.kind !== "switch" })),
];

/** The files that `sam run` looks for where it is told none. */
const configFiles = ["sam.config.ts", "sam.config.js", "sam.config.mjs", "sam.config.json"];

/** Words for what the option `log` has. */
const logFlags: Readonly<Record<string, string>> = { "--json": "json", "--quiet": "none" };

/** Runs until all has ended; resolves to the exit code. */
export async function run(words: readonly string[]): Promise<number> {
  const plan = await planOf(words);
  const runtime = await loadRuntime();
  await runtime.yieldInspector?.([]);
  const lines = new Lines(runtime);
  const several = plan.programs.length > 1;
  const loggers = new Map(plan.programs.map(({ name, options }) => {
    return [name, logger(options.log, name, several ? `${name}: ` : "", lines.write)];
  }));
  const warn = (name: string, detail: string | undefined, instanceId = 1) => {
    const at = Date.now();
    if (detail) loggers.get(name)!({ type: "fallback", side: "server", detail, at, instanceId });
  };
  for (const each of plan.programs) warn(each.name, unwatched(each));
  /** Programs for which processes that are not watched are still to be looked for. */
  const unseen = new Set(plan.programs.filter(isPreloaded).map(({ name }) => name));
  let spawnError: SamError | undefined;
  const made = plan.programs.length === 1 ? plan.programs[0]!.name : "sam";
  const control = await openControl(runtime, plan.name, made, lines.write);
  const http = plan.metrics &&
    await openEndpoints(plan.metrics, plan, lines.write).catch(async (error) => {
      await control?.close();
      throw error;
    });
  const notifier = await notifierOf(runtime, {
    programs: () =>
      plan.programs.map(({ name, options: { settings } }) => ({
        name,
        settings,
        status: fleet.status(name),
      })),
    isReady: () => fleet.allReady,
  }, (error) => lines.write(`sam: systemd cannot be told: ${(error as Error).message}`));
  const fleet = new Fleet(plan.programs, plan.strategy);
  fleet.subscribe((name, event) => {
    notifier?.hear(name, event);
    if (event.type === "finish" && event.status.reason === "spawn") spawnError = event.status.error;
    loggers.get(name)!(event);
    if (event.type !== "start" || !unseen.delete(name)) return;
    runtime.schedule(
      () => {
        const { pid } = fleet.supervisor(name).status;
        const twin = pid === null ? undefined : twinOf(runtime, pid);
        if (twin !== undefined) warn(name, unwatchedChild(pid!, twin), event.instanceId);
      },
      childrenAfterMs,
      false,
    );
  });
  runtime.takeOver((error) => lines.write(`sam: a problem of sam's own: ${String(error)}`));
  onEnding(runtime, (signal, delivered) => {
    notifier?.stopping();
    fleet.stop(signal, delivered);
  });
  host.onNpmEnd(() => {
    // A second stop kills the programs. They got the first one together with npm: the terminal was closed, say.
    if (fleet.isStopping) return;
    lines.write("sam: npm, which started sam, has ended: the programs are stopped");
    fleet.stop("SIGTERM");
  });
  const { strategy } = plan;
  const journal = new Journal(runtime, fleet, {
    name: control?.name ?? made,
    strategy,
    url: http?.url,
  });
  http?.serve(runtime, fleet, journal);
  control?.serve(fleet, journal);
  const code = await fleet.finished;
  await control?.close();
  http?.close();
  await notifier?.close();
  await lines.written();
  return spawnError === undefined ? code : exitCodeOfSpawn(spawnError);
}

/** Says that nobody watches the event loop of a program, where its user may expect that; undefined otherwise. */
function unwatched({ program, options, instead }: FleetProgram): string | undefined {
  const { timeInterval } = options.settings;
  const { name, isCommand, preload, restarts } = program;
  if (!isCommand || preload || options.check !== undefined) return undefined;
  if (timeInterval === 0 && instead === undefined) return undefined;
  const unless = restarts ? "" : ", unless the program below it calls register()";
  const interval = timeInterval > 0 &&
    `, and the time interval of ${timeInterval} ms has no effect${unless}`;
  return `only the end of ${name} is watched, not the event loop of the program that it runs${
    interval || ""
  }: ` +
    `${instead ?? "name that program itself (sam run server.js)"}, or add a check`;
}

/** A process that a program starts at its own start, to do the work, is there so long after that. */
const childrenAfterMs = 1500;

/** True if SAM watches the event loop of one process, and nobody watches another one. */
function isPreloaded({ program, options }: FleetProgram): boolean {
  return program.preload === true && options.check === undefined;
}

function unwatchedChild(pid: number, child: number): string {
  return `process ${pid} has started process ${child} of the same runtime, whose event loop is not watched: if that one ` +
    "does the work, run its program by itself, or add a check (--check-http)";
}

/** Listens before anything is started: what cannot be served is found out at once. */
async function openEndpoints(
  address: Address,
  { programs }: CheckedConfig,
  writeLine: (line: string) => void,
) {
  const { Endpoints } = await import("../serve/http.ts");
  const endpoints = await Endpoints.open(address);
  const { url } = endpoints;
  const logs = new Set(programs.map(({ options }) => options.log));
  if (logs.has("json")) writeLine(JSON.stringify({ type: "listening", at: Date.now(), url }));
  if (logs.has("text")) writeLine(`sam: the status page is at ${url}`);
  return endpoints;
}

async function planOf(words: readonly string[]): Promise<CheckedConfig> {
  const { given, operands } = parseWords(words, runOptions, true);
  const last = (flag: string) => given.findLast(([name]) => name === flag)?.[1];
  const name = either("--name", last("--name"), nameOf);
  const asked = either("--metrics", last("--metrics"), addressOf);
  const settings = () => {
    const settings = new Settings();
    for (const [flag, text] of given) {
      const row = rows.find((row) => flagOf(row) === flag);
      const log = logFlags[flag];
      if (row) settings.add(row.key, parseText(flag, row.kind, text), flag);
      else if (log && parseText(flag, "switch", text) === true) settings.add("log", log, flag);
    }
    for (const row of rows) {
      const text = host.variable(variableOf(row));
      if (text !== undefined) settings.add(row.key, inVariable(row, text), variableOf(row));
    }
    return settings;
  };
  const runtime = await meantRuntime();
  const around: Surroundings = {
    cwd: host.workingDirectory(),
    runtime,
    withoutTypes: host.withoutTypes(),
    files: host,
  };
  const file = either("--config", last("--config"), (_source, text) => text) ??
    (operands.length > 0 ? undefined : configFiles.find(host.exists));
  if (file !== undefined) {
    const slash = file.lastIndexOf("/");
    const own = slash < 0
      ? around
      : { ...around, cwd: absolute(file.slice(0, slash) || "/"), elsewhere: true };
    const config = checkConfig(file, await load(file), operands, settings, own);
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

/** What a flag says, or its variable. */
function either<T>(
  flag: string,
  text: string | undefined,
  parse: (source: string, text: string) => T,
): T | undefined {
  if (text !== undefined) return parse(flag, text);
  const variable = variableOfFlag(flag);
  const said = host.variable(variable);
  return said === undefined ? undefined : inSurroundings(() => parse(variable, said));
}

/** The value of an environment variable, whose mistakes are the surroundings', not the command line's. */
function inVariable(row: (typeof rows)[number], text: string): unknown {
  return inSurroundings(() => parseText(variableOf(row), row.kind, text));
}

function inSurroundings<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new CommandError("config", (error as Error).message);
  }
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${host.workingDirectory()}/${path}`;
}

/** The runtime of what nothing else says of; `bunx` and `bun run` run `sam` itself, by its first line, on Node. */
async function meantRuntime(): Promise<RuntimeName> {
  const byBun = host.variable("npm_config_user_agent")?.startsWith("bun/");
  return byBun ? "bun" : (await loadRuntime()).name;
}

/** What a configuration file exports. */
async function load(file: string): Promise<unknown> {
  const path = absolute(file);
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
