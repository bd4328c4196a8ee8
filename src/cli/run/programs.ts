/** From settings to a program of a fleet: finds out what PROGRAM is, and checks each option under the name that its user knows. */
import { corosyncClusterMap, corosyncQuorum } from "../../corosync/mod.ts";
import { SamError } from "../../errors.ts";
import type { FleetProgram } from "../../supervisor/fleet.ts";
import { methodsOf, type SamOptions } from "../../api/options.ts";
import {
  canPreload,
  checkProgram,
  type Program,
  restartsItself,
  runtimeOf,
} from "../../api/program.ts";
import type { RuntimeName } from "../../runtime/runtime.ts";
import { checkSuperviseOptions, type SuperviseOptions } from "../../api/supervise_options.ts";
import { checkMethods } from "../../api/validate.ts";
import { CommandError } from "../command_line/exit.ts";
import { flagOf, optionFlags } from "../command_line/flags.ts";
import type { Settings } from "../command_line/settings.ts";
import { type Files, which } from "./which.ts";
import { insteadOfWatch, insteadOfWrapper } from "./wrappers.ts";

/** Where a program is built. */
export interface Surroundings {
  /** The directory of relative paths. */
  readonly cwd: string;
  /** True if `cwd` is not the working directory of this process. */
  readonly elsewhere?: boolean;
  readonly runtime: RuntimeName;
  /** True if the runtime is a version of Node that cannot load TypeScript. */
  readonly withoutTypes?: boolean;
  readonly files: Files;
}

const preloadTimeInterval = 5000;
const preloadStartupTimeout = 60_000;

/** What the user says about a program, besides its settings. */
export interface ProgramWords {
  readonly name: string;
  readonly program: string;
  /** The place where `program` was named, to begin a message with. Default none: the command line. */
  readonly source?: string;
  readonly args: readonly string[];
  readonly after: readonly string[];
}

/** Builds a program; throws an INVALID_PARAM that names the flag, the variable or the key. */
export function buildProgram(
  given: ProgramWords,
  settings: Settings,
  around: Surroundings,
): FleetProgram {
  const cwd = settings.value("cwd") as string | undefined;
  const directory = cwd === undefined ? around.cwd : absolute(cwd, around.cwd);
  const words = { ...given, program: fileOf(given, directory, around.files) };
  const found = which(words.program, directory, around.files);
  const runtime = settings.value("runtime", found.runtime ?? around.runtime) as RuntimeName;
  const isModule = found.isModule || settings.has("runtime");
  if (isModule) checkExists(words, found.isModule, directory, around.files);
  const isTyped = isModule && runtime === "node" && /\.[cm]?tsx?$/.test(words.program);
  const hasFlags = settings.has("runtimeFlags") || found.flags !== undefined;
  if (around.withoutTypes && isTyped && !hasFlags) throw withoutTypes(words);
  const flags = settings.value("runtimeFlags", found.flags) as readonly string[] | undefined;
  const restarts = isModule && restartsItself(flags ?? []);
  const target = !isModule ? runtimeOf(words.program, words.args) : restarts ? undefined : runtime;
  const preload = settings.value("preload", target !== undefined && canPreload(target)) as boolean;
  if (preload && target === undefined) {
    throw mistake(
      `${
        settings.source("preload")
      }: ${words.program} is no module, and none of the commands node, deno run and bun FILE without --watch or --hot`,
      settings.source("preload"),
    );
  }
  const common = {
    args: words.args,
    preload,
    ...((cwd !== undefined || around.elsewhere) && { cwd: directory }),
    ...(settings.has("env") && { env: settings.value("env") as Readonly<Record<string, string>> }),
    ...(settings.has("stdio") && { stdio: settings.value("stdio") as "inherit" }),
  };
  const program: Program = isModule
    ? { ...common, module: words.program, runtime: { name: runtime, ...(flags && { flags }) } }
    : { ...common, command: words.program };
  checkKinds(settings);
  const capturesStack = settings.value("captureStack", true) === true &&
    settings.value("observe", false) !== true;
  const checked = checkProgram(program, capturesStack);
  const isPlain = !isModule && target === undefined;
  return {
    name: words.name,
    after: words.after,
    program: checked,
    instead: checked.restarts
      ? insteadOfWatch
      : isPlain
      ? insteadOfWrapper(words.program, words.args)
      : undefined,
    options: checkBySource(() =>
      checkSuperviseOptions(
        optionsOf(settings, preload, isModule && !restarts),
        checked,
        (key) => settings.source(key),
      )
    ),
  };
}

/** Checks that a module exists. `isFound`: it is one by its name or its first line, and not only by `--runtime`. */
function checkExists(
  { program, source = "" }: ProgramWords,
  isFound: boolean,
  directory: string,
  files: Files,
): void {
  if (isFound && /^\w+:/.test(program)) return;
  const path = absolute(program, directory);
  if (files.exists(path)) return;
  const what = isFound ? `${path} does not exist` : `${program} does not exist in ${directory}`;
  throw new CommandError("noInput", source + what);
}

function withoutTypes({ program, source }: ProgramWords): CommandError {
  return new CommandError(
    source === undefined ? "usage" : "config",
    `${
      source ?? ""
    }${program}: this version of Node cannot load TypeScript: add --runtime deno or --runtime bun, take Node ` +
      "22.18 or later, or name what loads it, as in --runtime-flag=--import=tsx",
  );
}

/** PROGRAM; for a directory, the file that it stands for. */
function fileOf({ program, source = "" }: ProgramWords, directory: string, files: Files): string {
  if (!/^\.\.?$|\//.test(program) || /^\w+:/.test(program)) return program;
  const main = files.mainOf(absolute(program, directory));
  if (main === "") {
    const what = `${source}${program}`;
    throw new CommandError(
      "noInput",
      `${what} is a directory without a program: name a file, or write "main" into its package.json`,
    );
  }
  return main ?? program;
}

/** A path, made absolute. */
export function absolute(path: string, directory: string): string {
  return path.startsWith("/") ? path : `${directory}/${path}`;
}

/** The options, with the defaults of the command line. */
function optionsOf(settings: Settings, preload: boolean, isModule: boolean): SuperviseOptions {
  const options: Record<string, unknown> = {};
  for (const key of settings.keys()) {
    if (!optionKeys.includes(key)) continue;
    const [outer, inner] = key.split(".") as [string, string?];
    const value = optionOf(settings, key);
    options[outer] = inner === undefined ? value : { ...options[outer] as object, [inner]: value };
  }
  const restart = settings.value("restart", "on-failure");
  const watched = preload || isModule;
  return {
    timeInterval: watched ? preloadTimeInterval : 0,
    recoveryPolicy: restart === "never" ? "quit" : "restart",
    log: "text",
    startupTimeout: preload || options["check"] ? preloadStartupTimeout : 0,
    ...options as Partial<SamOptions>,
    restart: { on: restart === "always" ? "always" : "failure", ...options["restart"] as object },
  };
}

const optionKeys: readonly string[] = optionFlags.map(({ key }) => key);

/** Options that are objects, and switches on a command line. */
const switches = { quorum: corosyncQuorum, clusterMap: corosyncClusterMap } as const;

/** The value of an option. */
function optionOf(settings: Settings, key: string): unknown {
  const value = settings.value(key);
  if (key !== "quorum" && key !== "clusterMap") return value;
  if (typeof value === "boolean") return value ? switches[key]() : undefined;
  return checkMethods(settings.source(key), value, methodsOf[key], "true, false, or ");
}

const kinds = ["check.http", "check.tcp", "check.command"];

/** Refuses two kinds of check, and parts of a check without a kind. */
function checkKinds(settings: Settings): void {
  const given = kinds.filter((kind) => settings.has(kind));
  if (given.length > 1) {
    const [one, another] = given.map((kind) => settings.source(kind)) as [string, string];
    throw mistake(
      `${one} and ${another} exclude each other: leave one of them out`,
      one,
      another,
    );
  }
  const more = [...settings.keys()].find((key) => key.startsWith("check."));
  if (given.length === 0 && more !== undefined) {
    const needed = kinds.map((key) => flagOf({ key })).join(", ");
    const source = settings.source(more);
    throw mistake(`${source} needs a check: one of ${needed}`, source);
  }
}

/** Runs `check`. Its errors begin with the flag, the variable or the key that is wrong. */
function checkBySource<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof SamError) || error.code !== "INVALID_PARAM") throw error;
    throw mistake(error.message, error.message);
  }
}

/** The error for a mistake in `sources`: of the command line if one is a flag, else of the configuration. */
function mistake(message: string, ...sources: readonly string[]): CommandError {
  const inFlag = sources.some((source) => source.startsWith("--"));
  return new CommandError(inFlag ? "usage" : "config", message);
}
