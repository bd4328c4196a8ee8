/** Builds the programs of a fleet from their settings. */
import { corosyncClusterMap, corosyncQuorum } from "../../corosync/mod.ts";
import { SamError } from "../../errors.ts";
import type { FleetProgram } from "../../supervisor/fleet_program.ts";
import { methodsOf, type SamOptions } from "../../api/options.ts";
import {
  canPreload,
  type CheckedProgram,
  checkProgram,
  type Program,
  restartsItself,
  runtimeOf,
} from "../../api/program.ts";
import type { RuntimeName } from "../../runtime/runtime.ts";
import { checkSuperviseOptions, type SuperviseOptions } from "../../api/supervise_options.ts";
import { checkMethods, integerFrom, invalid } from "../../api/validate.ts";
import { watchAdvice, wrapperOf } from "../../api/wrappers.ts";
import { CommandError } from "../command_line/exit.ts";
import { flagOf, optionFlags } from "../command_line/flags.ts";
import type { Settings } from "../command_line/settings.ts";
import { argumentsOfTask } from "./deno_task.ts";
import { detectProgram, type Files } from "./detect_program.ts";

export interface BuildContext {
  /** The directory at which relative paths start. */
  readonly cwd: string;
  /** True if `cwd` is not the working directory of this process. */
  readonly elsewhere?: boolean;
  readonly runtime: RuntimeName;
  /** True if the runtime is a version of Node that cannot load TypeScript. */
  readonly withoutTypes?: boolean;
  readonly files: Files;
  /** The number of cores that this process may use. */
  readonly cores: number;
}

const preloadTimeInterval = 5000;
const preloadStartupTimeout = 60_000;

/** A program as the user named it, without its settings. */
export interface ProgramSource {
  readonly name: string;
  readonly program: string;
  /** The place in the configuration file, with which messages begin. Undefined for the command line. */
  readonly source?: string;
  readonly args: readonly string[];
  readonly after: readonly string[];
}

/** Builds a program. Throws `INVALID_PARAM` with the flag, variable or key in its message. */
export function buildProgram(
  given: ProgramSource,
  settings: Settings,
  context: BuildContext,
): FleetProgram {
  const cwd = settings.value("cwd") as string | undefined;
  const directory = cwd === undefined ? context.cwd : absolute(cwd, context.cwd);
  const task = argumentsOfTask(given.program, given.args, directory, context.files);
  const named = {
    ...given,
    args: task ?? given.args,
    program: fileOf(given, directory, context.files),
  };
  const found = detectProgram(named.program, directory, context.files);
  const runtime = settings.value("runtime", found.runtime ?? context.runtime) as RuntimeName;
  const isModule = found.isModule || settings.has("runtime");
  if (isModule) checkExists(named, found.isModule, directory, context.files);
  const isTyped = isModule && runtime === "node" && /\.[cm]?tsx?$/.test(named.program);
  const hasFlags = settings.has("runtimeFlags") || found.flags !== undefined;
  if (context.withoutTypes && isTyped && !hasFlags) throw withoutTypes(named);
  const flags = settings.value("runtimeFlags", found.flags) as readonly string[] | undefined;
  const target = isModule
    ? { runtime, restarts: restartsItself(flags ?? []) }
    : runtimeOf(named.program, named.args);
  const restarts = target?.restarts ?? false;
  const wrapper = target
    ? undefined
    : wrapperOf(named.program, named.args, context.files.firstLine(pathOf(named, directory)));
  const hasSpare = settings.value("standby", 0) !== 0; // below a wrapper, it waits only in register()
  const canWatch = target
    ? !restarts && canPreload(target.runtime)
    : wrapper !== undefined && !hasSpare && canPreload("node");
  const preload = settings.value("preload", canWatch) as boolean;
  if (preload && restarts) {
    const source = settings.source("preload");
    throw mistake(
      `${source}: cannot watch the event loop of ${named.program} with --watch or --hot`,
      source,
    );
  }
  const common = {
    args: named.args,
    preload,
    ...((cwd !== undefined || context.elsewhere) && { cwd: directory }),
    ...variablesOf(settings, context),
    ...(settings.has("stdio") && { stdio: settings.value("stdio") as "inherit" }),
  };
  const program: Program = isModule
    ? { ...common, module: named.program, runtime: { name: runtime, ...(flags && { flags }) } }
    : { ...common, command: named.program };
  checkKinds(settings);
  const capturesStack = settings.value("captureStack", true) === true &&
    settings.value("observe", false) !== true;
  const checked = checkProgram(program, capturesStack);
  const { instances, minReady } = checkBySource(() => scaleOf(settings, context.cores));
  const limits = checkBySource(() => limitsOf(settings));
  return {
    instances,
    minReady,
    limits,
    name: named.name,
    after: named.after,
    program: checked,
    given: program,
    advice: checked.restarts ? watchAdvice : wrapper?.advice,
    options: checkBySource(() =>
      checkSuperviseOptions(
        optionsOf(settings, checked, isModule && !restarts),
        checked,
        (key) => settings.source(key),
      )
    ),
  };
}

/** The most instances of a program. More would be a mistake. */
const maxInstances = 1000;

/** The options of a program that concern instances side by side, and their reload. */
function scaleOf(settings: Settings, cores: number): Pick<FleetProgram, "instances" | "minReady"> {
  const instances = settings.value("instances");
  const isCount = Number.isInteger(instances) && (instances as number) >= 1 &&
    (instances as number) <= maxInstances;
  if (instances !== undefined && instances !== "auto" && !isCount) {
    throw invalid(
      settings.source("instances"),
      instances,
      `an integer from 1 to ${maxInstances}, or "auto"`,
    );
  }
  if (instances !== undefined && instances !== 1 && settings.value("clusterMap")) {
    throw new SamError(
      "INVALID_PARAM",
      `${
        settings.source("instances")
      } cannot be combined with clusterMap: the keys of the cluster map contain the ` +
        "process id of sam. Remove one of the two.",
    );
  }
  const minReady = settings.value("minReady");
  if (minReady !== undefined) integerFrom(0, settings.source("minReady"), minReady);
  return {
    instances: instances === "auto" ? cores : instances as number | undefined,
    minReady: minReady as number | undefined,
  };
}

/** The limits of memory and age of a program; undefined for none. */
function limitsOf(settings: Settings): FleetProgram["limits"] {
  const limit = (key: string, unit: string) => {
    const value = settings.value(key) as number | undefined;
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) return value;
    throw invalid(settings.source(key), value, `an integer of at least 1 (${unit})`);
  };
  const maxMemory = limit("maxMemory", "bytes");
  const maxAge = limit("maxAge", "milliseconds");
  return maxMemory === undefined && maxAge === undefined ? undefined : { maxMemory, maxAge };
}

/** Checks that a module exists. `isDetected` is true if its name or first line shows that it is a module, not only `--runtime`. */
function checkExists(
  { program, source = "" }: ProgramSource,
  isDetected: boolean,
  directory: string,
  files: Files,
): void {
  if (isDetected && /^\w+:/.test(program)) return;
  const path = absolute(program, directory);
  if (files.exists(path)) return;
  const message = isDetected
    ? `${path} does not exist`
    : `${program} does not exist in ${directory}`;
  throw new CommandError("noInput", source + message);
}

/** The option `env` of a program: its variables, and those from its files. */
function variablesOf(settings: Settings, { cwd, files }: BuildContext): Pick<Program, "env"> {
  const env: Record<string, string> = {};
  const source = settings.source("envFile");
  for (const name of settings.value("envFile", []) as readonly string[]) {
    const path = absolute(name, cwd);
    if (!files.exists(path)) throw new CommandError("noInput", `${source}: ${path} does not exist`);
    try {
      Object.assign(env, files.readVariables(path));
    } catch (error) {
      throw mistake(`${source}: cannot read ${path}: ${(error as Error).message}`, source);
    }
  }
  Object.assign(env, settings.value("env", {}));
  return Object.keys(env).length > 0 ? { env } : {};
}

function withoutTypes({ program, source }: ProgramSource): CommandError {
  return new CommandError(
    source === undefined ? "usage" : "config",
    `${
      source ?? ""
    }${program}: this version of Node cannot load TypeScript. Use Node 22.18 or later, add --runtime deno or ` +
      "--runtime bun, or name a loader, as in --runtime-flag=--import=tsx.",
  );
}

/** Returns PROGRAM, or the main file if PROGRAM is a directory. */
function fileOf({ program, source = "" }: ProgramSource, directory: string, files: Files): string {
  if (!/^\.\.?$|\//.test(program) || /^\w+:/.test(program)) return program;
  const main = files.mainOf(absolute(program, directory));
  if (main === "") {
    throw new CommandError(
      "noInput",
      `${source}${program} is a directory without a main file. Name a file, or set "main" in its package.json.`,
    );
  }
  return main ?? program;
}

/** The path of a command that is not looked up on PATH; otherwise empty. */
function pathOf({ program }: ProgramSource, directory: string): string {
  return program.includes("/") ? absolute(program, directory) : "";
}

/** Makes a path absolute. */
export function absolute(path: string, directory: string): string {
  return path.startsWith("/") ? path : `${directory}/${path}`;
}

/** The options of a program, completed with the defaults of the command line. */
function optionsOf(
  settings: Settings,
  { preload = false, wrapper = false }: CheckedProgram,
  isModule: boolean,
): SuperviseOptions {
  const options: Record<string, unknown> = {};
  for (const key of settings.keys()) {
    if (!optionKeys.includes(key)) continue;
    const [outer, inner] = key.split(".") as [string, string?];
    const value = optionOf(settings, key);
    options[outer] = inner === undefined ? value : { ...options[outer] as object, [inner]: value };
  }
  const restart = settings.value("restart", "on-failure");
  const watched = preload || wrapper || isModule;
  return {
    timeInterval: watched ? preloadTimeInterval : 0,
    recoveryPolicy: restart === "never" ? "quit" : "restart",
    log: "text",
    startupTimeout: preload || wrapper || options["check"] ? preloadStartupTimeout : 0,
    ...options as Partial<SamOptions>,
    restart: { on: restart === "always" ? "always" : "failure", ...options["restart"] as object },
  };
}

const optionKeys: readonly string[] = optionFlags.map(({ key }) => key);

/** The options that are switches on a command line, but objects in the API. */
const switches = { quorum: corosyncQuorum, clusterMap: corosyncClusterMap } as const;

function optionOf(settings: Settings, key: string): unknown {
  const value = settings.value(key);
  if (key !== "quorum" && key !== "clusterMap") return value;
  if (typeof value === "boolean") return value ? switches[key]() : undefined;
  return checkMethods(settings.source(key), value, methodsOf[key], "true, false, or ");
}

const kinds = ["check.http", "check.tcp", "check.command"];

/** Refuses two kinds of health check, and settings of a health check without a kind. */
function checkKinds(settings: Settings): void {
  const given = kinds.filter((kind) => settings.has(kind));
  if (given.length > 1) {
    const [one, another] = given.map((kind) => settings.source(kind)) as [string, string];
    throw mistake(
      `${one} and ${another} cannot be combined: remove one of them`,
      one,
      another,
    );
  }
  if (settings.has("check.progressAction") && !settings.has("check.progress")) {
    const source = settings.source("check.progressAction");
    throw mistake(`${source} needs ${flagOf({ key: "check.progress" })}`, source);
  }
  const more = [...settings.keys()].find((key) =>
    key.startsWith("check.") && !key.startsWith("check.progress")
  );
  if (given.length === 0 && more !== undefined) {
    const needed = kinds.map((key) => flagOf({ key })).join(", ");
    const source = settings.source(more);
    throw mistake(`${source} needs a health check: add one of ${needed}`, source);
  }
}

/** Runs `check`, and turns its `INVALID_PARAM` into an error with the exit code for that source. */
function checkBySource<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof SamError) || error.code !== "INVALID_PARAM") throw error;
    throw mistake(error.message, error.message);
  }
}

/** Returns a usage error if one of the sources is a flag, else a configuration error. */
function mistake(message: string, ...sources: readonly string[]): CommandError {
  const inFlag = sources.some((source) => source.startsWith("--"));
  return new CommandError(inFlag ? "usage" : "config", message);
}
