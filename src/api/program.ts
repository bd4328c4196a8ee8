/** The program to supervise: the types for it, its checks, and the command line that starts it. */
import {
  checkObject,
  checkStdio,
  checkText,
  checkTexts,
  checkVariables,
  invalid,
  oneOf,
  withDefault,
} from "./validate.ts";
import type { Command, Files, OwnProcess, RuntimeName, Stdio } from "../runtime/runtime.ts";
import { SamError } from "../errors.ts";

/** The parts of a runtime that are needed to turn a program into a command line. */
export type ProgramRuntime =
  & Pick<OwnProcess, "name" | "executable" | "defaultFlags" | "checkFlags">
  & Pick<Files, "exists">;

/** A JavaScript runtime with its executable and flags. */
export interface RuntimeChoice {
  /** Name of the runtime. */
  readonly name: RuntimeName;
  /** Path of the executable. Default: if `name` is the runtime of this process, its executable; otherwise `name` on PATH. */
  readonly path?: string;
  /**
   * Flags, including permissions. Default: if `name` is the runtime of this process, the flags of this process; otherwise none,
   * and `-A` for Deno.
   */
  readonly flags?: readonly string[];
}

/** Options of every program, whether it is a module or a command. */
export interface ProgramOptions {
  /** Arguments of the program. Default none. */
  readonly args?: readonly string[];
  /** Working directory of the program. Default: that of this process. */
  readonly cwd?: string;
  /** Environment variables of the program, added to those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Standard input, output and error of the program: one value for all, or an array of three. Default `"inherit"`.
   *
   * `"tee"` passes the output on, and stores its last lines as evidence. `stdio: "tee"` stands for
   * `["inherit", "tee", "tee"]`.
   */
  readonly stdio?: Stdio | readonly [Stdio, Stdio, Stdio];
  /**
   * Set to true to watch the event loop of a program that does not use SAM. Default false.
   *
   * A preload module (`--require`, `--import` or `--preload`) registers the process. SAM watches it once the program is loaded.
   * If the program calls `register()` itself, the preload module ends its watch, and the program's own calls count.
   *
   * A command other than `node`, `deno` and `bun` counts as a wrapper, such as `npm start`: NODE_OPTIONS and BUN_OPTIONS load the
   * module into the processes below it. The first of these that listens is watched; if none listens, one that has run for 30 s.
   */
  readonly preload?: boolean;
}

/** A program that is a module, which a JavaScript runtime runs. */
export interface ModuleProgram extends ProgramOptions {
  /** Path (relative to `cwd`), `file:` URL, or other specifier that the runtime can run. */
  readonly module: string | URL;
  /** Runtime of the module. Default: that of this process. */
  readonly runtime?: RuntimeName | RuntimeChoice;
}

/**
 * A program that is a command. It need not use SAM: it is watched from the moment its process exists, and `restart.on` decides
 * which ends are failures. If it calls `register()`, it is watched from `start()` to `stop()`, and `restart.on` has no effect.
 */
export interface CommandProgram extends ProgramOptions {
  /** Path of an executable, or a name that is looked up on PATH. */
  readonly command: string;
}

/**
 * A program for `supervise()`: a module or a command.
 *
 * ```ts
 * import { type Program, supervise } from "@x/sam";
 *
 * const web: Program = { module: "./web.ts", runtime: "deno", env: { PORT: "8000" } };
 * const date: Program = { command: "date", args: ["-u"], env: { LC_ALL: "C" } };
 * await supervise(date, { recoveryPolicy: "quit" }).finished;
 * console.log(web.env);
 * ```
 */
export type Program = ModuleProgram | CommandProgram;

/** A checked program. */
export interface CheckedProgram {
  // Name of the program in messages.
  readonly name: string;
  readonly isCommand: boolean;
  // True if a preload module registers the process.
  readonly preload?: boolean;
  // True if a preload module registers a process below the command, which is a wrapper.
  readonly wrapper?: boolean;
  // True if the runtime restarts the program by itself (`--watch`). SAM does not connect to such a program.
  readonly restarts?: boolean;
  // The runtime of the program, or "own" for that of this process; undefined for a command of no runtime.
  readonly runtime?: RuntimeName | "own" | undefined;
  // Returns the command line. `runtime` is that of this process. `hasSockets`: the program inherits listening sockets.
  command(runtime: ProgramRuntime, hasSockets?: boolean): Promise<Command>;
}

const common = ["args", "cwd", "env", "stdio", "preload"];

/** Checks a program. Throws INVALID_PARAM. With `captureStack`, its command line opens the inspector if a stack trace needs it. */
export function checkProgram(program: unknown, captureStack = true): CheckedProgram {
  const isCommand = typeof program === "object" && program !== null && "command" in program;
  const given = checkObject(
    "program",
    program,
    isCommand ? ["command", ...common] : ["module", "runtime", ...common],
  );
  const args = checkTexts("program.args", withDefault(given["args"], []));
  const cwd = given["cwd"] === undefined ? undefined : checkText("program.cwd", given["cwd"]);
  const rest = {
    args,
    cwd,
    env: checkVariables("program.env", withDefault(given["env"], {})),
    stdio: checkStdio(withDefault(given["stdio"], "inherit")),
  };
  const preload = oneOf("program.preload", withDefault(given["preload"], false), [true, false]);
  if (isCommand) {
    const file = checkText("program.command", given["command"]);
    const found = commandLine(file, args);
    const restarts = found !== undefined && restartsItself(found.flags);
    const wrapper = preload && found === undefined;
    if (preload) checkPreload(found);
    return {
      name: file,
      isCommand,
      preload: preload && !wrapper,
      wrapper,
      restarts,
      runtime: found?.runtime,
      async command(_runtime, hasSockets) {
        const line = preload && found
          ? await preloadedCommand(found, args, captureStack, hasSockets)
          : [...args];
        const runtime = found?.runtime;
        const { env } = rest;
        const more = wrapper ? await wrapperVariables(env, captureStack) : {};
        const all = { ...rest, env: { ...env, ...more } };
        return { file, flags: [], ...all, args: line, runtime, restartsItself: restarts };
      },
    };
  }
  const module = modulePath(given["module"]);
  const choice = checkRuntime(given["runtime"]);
  const restarts = restartsItself(choice.flags ?? []);
  if (preload && restarts) throw watchError();
  return {
    name: module,
    isCommand: restarts,
    preload,
    restarts,
    runtime: choice.name ?? "own",
    async command(runtime, hasSockets) {
      const name = choice.name ?? runtime.name;
      if (
        !isSpecifier(module) &&
        !runtime.exists(isAbsolute(module) || !cwd ? module : `${cwd}/${module}`)
      ) {
        throw new SamError(
          "INVALID_PARAM",
          `module ${module} does not exist${cwd ? ` in ${cwd}` : ""}: check program.module`,
        );
      }
      const flags = await flagsFor(name, choice.flags, cwd, runtime);
      return {
        file: choice.path ?? (name === runtime.name ? runtime.executable : name),
        flags: [
          ...flags,
          ...captureStack && !restarts ? await inspectorFlags(name, flags, preload) : [],
          ...preload ? preloadFlags(name, { hasSockets }) : [],
        ],
        module,
        runtime: name,
        restartsItself: restarts,
        ...rest,
      };
    },
  };
}

const scriptExtension = import.meta.url.endsWith(".ts") ? "ts" : "js";
/** The module that is loaded before a program. rollup.config.js puts it beside this file in the npm package. */
const preloadModule = new URL(`../active/preload.${scriptExtension}`, import.meta.url);
/** The CommonJS file with which Node loads that module. */
const nodePreload = new URL(`../active/preload_node.c${scriptExtension}`, import.meta.url);
/** The CommonJS file that Node and Bun load below a wrapper. */
const wrappedPreload = new URL(`../active/preload_wrapped.c${scriptExtension}`, import.meta.url);

/** The command line of a JavaScript runtime. */
interface CommandLine {
  readonly runtime: RuntimeName;
  /** Index among the arguments at which further flags can be inserted. */
  readonly flagsAt: number;
  /** Flags of the runtime. */
  readonly flags: readonly string[];
  /** File of the program; undefined if the program is not in a file. */
  readonly file: string | undefined;
}

/** The runtime that a command starts, and if it restarts the program itself; undefined for every other command. */
export function runtimeOf(
  command: string,
  args: readonly string[],
): { readonly runtime: RuntimeName; readonly restarts: boolean } | undefined {
  const found = commandLine(command, args);
  return found && { runtime: found.runtime, restarts: restartsItself(found.flags) };
}

/** The command line of `node`, `deno run` or `bun` that runs a program itself; undefined for every other command. */
function commandLine(command: string, args: readonly string[]): CommandLine | undefined {
  const runtime = command.slice(command.lastIndexOf("/") + 1);
  let flagsAt = 0;
  let at: number;
  if (runtime === "node") {
    at = firstWord(args, 0, nodeValued, isNodeScript);
    if (isNodeScript.test(args[at] ?? "")) return undefined;
  } else if (runtime === "deno") {
    if (args[0] !== "run") return undefined;
    flagsAt = 1;
    at = firstWord(args, 1, denoValued, /^$/);
  } else if (runtime === "bun") {
    at = firstWord(args, 0, bunValued, isCode);
    if (args[at] === "run") {
      flagsAt = at + 1;
      at = firstWord(args, flagsAt, bunValued, isCode);
    }
    const program = args[at] ?? "";
    if (!isFile.test(program) && !isCode.test(program)) return undefined;
  } else return undefined;
  const flags = args.slice(0, at);
  const isText = args[at] === "-" || flags.some((flag) => isCode.test(flag));
  return { runtime, flagsAt, flags, file: isText ? undefined : args[at] };
}

/** True if one of the runtime's flags restarts the program when a file changes. */
export function restartsItself(flags: readonly string[]): boolean {
  return flags.some((flag) => /^--(watch|hot)(=|-path|-hmr|$)/.test(flag));
}

/** Any other word is a command of Bun, or a script of package.json, which runs in another process. */
const isFile = /^\.|\/|\.[cm]?[jt]sx?$/;
const isCode = /^(-[ep]+|--eval|--print)(=|$)/;
/** Flags of Bun whose value may be the next word. */
const bunValued =
  /^(-[rdlF]|--(preload|require|import|cwd|port|env-file|define|loader|filter|shell|install|tsconfig-override))$/;
/** A script of package.json runs in another process, which does not get the flags. */
const isNodeScript = /^--run(=|$)/;
/** Flags of Node whose value may be the next word. */
const nodeValued =
  /^(-[rC]|--(require|import|conditions|(experimental-)?loader|title|(inspect|debug)-port|disable-warning|watch-(path|kill-signal)|test-(name-pattern|reporter(-destination)?)|(report|diagnostic|cpu-prof|heap-prof)-(dir(ectory)?|filename|name|signal)|stack-trace-limit|env-file(-if-exists)?))$/;
/** Flags of `deno run` whose value may be the next word. */
const denoValued =
  /^(-[cL]|--(config|import-map|cert|lock|location|seed|preload|import|require|conditions|ext|log-level|inspect-publish-uid))$/;

/**
 * Index of the first argument from `at` on that is neither a flag nor the value of a flag. Flags that match `counts` are returned
 * as well. `valued` matches the flags whose value may be the next argument.
 */
function firstWord(args: readonly string[], at: number, valued: RegExp, counts: RegExp): number {
  while (args[at]?.startsWith("-") && !counts.test(args[at]!)) {
    at += valued.test(args[at]!) ? 2 : 1;
  }
  return at;
}

/** True if a runtime can load the preload module. Node and Bun cannot load modules from the network. */
export function canPreload(runtime: RuntimeName): boolean {
  return preloadModule.protocol === "file:" || runtime === "deno";
}

/** The flags of the program's inspector. The import is dynamic because the start of an active process loads this file. */
async function inspectorFlags(
  ...given: readonly [name: RuntimeName, flags: readonly string[], open: boolean]
): Promise<readonly string[]> {
  return (await import("../runtime/inspector_flags.ts")).inspectorFlags(...given);
}

/** The flags that load the preload module. `isFile` is false for a program in the command line itself (`node -e`). */
function preloadFlags(
  runtime: RuntimeName,
  { isFile = true, hasSockets = false }: {
    readonly isFile?: boolean | undefined;
    readonly hasSockets?: boolean | undefined;
  } = {},
): readonly string[] {
  if (!canPreload(runtime)) {
    throw new SamError(
      "NOT_SUPPORTED",
      `${runtime} cannot load ${preloadModule} before the program: install @x/sam from npm, or leave out program.preload`,
    );
  }
  switch (runtime) {
    case "node":
      // --require can delay a program in a file until it is registered, but not `node -e`. For that, --import does no harm.
      return isFile
        ? ["--require", decodeURIComponent(nodePreload.pathname)]
        : ["--import", preloadModule.href];
    case "deno":
      // Deno.serve with `reusePort` needs the second flag.
      return ["--preload", preloadModule.href, ...hasSockets ? ["--unstable-net"] : []];
    case "bun":
      return ["--preload", decodeURIComponent(preloadModule.pathname)];
  }
}

function watchError(): SamError {
  return invalid("program.preload", true, "false with the flag --watch or --hot");
}

function checkPreload(line: CommandLine | undefined): void {
  if (line !== undefined && restartsItself(line.flags)) throw watchError();
  preloadFlags(line?.runtime ?? "node");
}

/** The variables that load the preload module below a wrapper. The imports are dynamic, as that of `inspectorFlags`. */
async function wrapperVariables(
  own: Readonly<Record<string, string>>,
  captureStack: boolean,
): Promise<Readonly<Record<string, string>>> {
  const [{ preloadVariables }, { scripts }] = await Promise.all([
    import("../runtime/wrapper_environment.ts"),
    import("./wrappers.ts"),
  ]);
  const path = decodeURIComponent(wrappedPreload.pathname);
  return preloadVariables({ path, scripts, own, captureStack });
}

/** The arguments of a runtime's command line, with the flags of the preload module. */
async function preloadedCommand(
  { runtime, flagsAt: at, flags, file }: CommandLine,
  args: readonly string[],
  captureStack: boolean,
  hasSockets: boolean | undefined,
): Promise<readonly string[]> {
  const inspect = captureStack ? await inspectorFlags(runtime, flags, true) : [];
  const more = [...inspect, ...preloadFlags(runtime, { isFile: file !== undefined, hasSockets })];
  return [...args.slice(0, at), ...more, ...args.slice(at)];
}

async function flagsFor(
  name: RuntimeName,
  given: readonly string[] | undefined,
  cwd: string | undefined,
  runtime: ProgramRuntime,
): Promise<readonly string[]> {
  if (given === undefined) {
    if (name === runtime.name) return await runtime.defaultFlags();
    // Node and Bun have all permissions, so -A gives a Deno program no more permissions than this process has.
    return name !== "deno" ? [] : runtime.name === "deno" ? [] : ["run", "-A"];
  }
  if (name !== "deno") return given;
  runtime.checkFlags?.(given, cwd);
  return given[0] === "run" ? given : ["run", ...given];
}

function modulePath(value: unknown): string {
  const module = value instanceof URL ? value.href : checkText("program.module", value);
  if (!module.startsWith("file:")) return module.startsWith("-") ? `./${module}` : module; // or it would be a flag
  try {
    return checkText("program.module", decodeURIComponent(new URL(module).pathname));
  } catch {
    throw invalid("program.module", module, "a path, or a URL");
  }
}

/** True for specifiers such as `jsr:`, `npm:` and `https:`, which the runtime resolves. */
function isSpecifier(module: string): boolean {
  return /^[a-z][a-z0-9+.-]+:/.test(module);
}

function isAbsolute(path: string): boolean {
  return path.startsWith("/");
}

function checkRuntime(value: unknown): Partial<RuntimeChoice> {
  const names = ["node", "deno", "bun"] as const;
  if (value === undefined) return {};
  if (typeof value === "string") return { name: oneOf("program.runtime", value, names) };
  const given = checkObject("program.runtime", value, ["name", "path", "flags"]);
  return {
    name: oneOf("program.runtime.name", given["name"], names),
    ...(given["path"] !== undefined && { path: checkText("program.runtime.path", given["path"]) }),
    ...(given["flags"] !== undefined &&
      { flags: checkTexts("program.runtime.flags", given["flags"]) }),
  };
}
