/** The command lines of JavaScript runtimes: which program they run, and where flags can be inserted. */
import type { RuntimeName } from "../runtime/runtime.ts";

/** The command line of a JavaScript runtime. */
export interface CommandLine {
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
export function commandLine(command: string, args: readonly string[]): CommandLine | undefined {
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
