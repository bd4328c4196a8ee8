/** The command line of this Deno program. Deno's own API does not return its flags. */
import { SamError } from "../errors.ts";
import { launch } from "./launch.ts";
import { absolute, grantedAll, requirePermissions, withSamErrors } from "./deno_permissions.ts";

interface DenoLike {
  readonly args: readonly string[];
  readonly build: { readonly standalone: boolean };
  readonly Command: new (file: string, options: object) => {
    output(): Promise<{ readonly stdout: Uint8Array }>;
  };
  execPath(): string;
  readTextFileSync(path: string): string;
}
const Deno = (globalThis as unknown as { Deno: DenoLike }).Deno;

/** Opens the inspector on a free port. */
const anyInspector = "--inspect=127.0.0.1:0";

let words: Promise<readonly string[]> | undefined;

/**
 * Resolves to the command line of this process, without `--watch`. Rejects with NOT_SUPPORTED if the program cannot be
 * started again by it.
 */
export function ownCommandLine(): Promise<readonly string[]> {
  return words ??= (async () => {
    if (Deno.build.standalone) return [Deno.execPath(), ...Deno.args];
    const text = await commandLine();
    const found = text.split("\0").slice(0, -1);
    if (found.length > 1 && found[1] !== "") {
      // An instance with --watch would never end, so only the server watches.
      const script = scriptAt(found);
      if (found.slice(1, script + 1).includes("-")) {
        throw new SamError(
          "NOT_SUPPORTED",
          "SAM cannot restart a program that was read from standard input: put it into a file",
        );
      }
      return found.filter((word, at) => at > script || !/^--watch/.test(word));
    }
    throw new SamError(
      "NOT_SUPPORTED",
      found.length > 1
        ? "cannot read the command line of this program, because process.title has overwritten it: set process.title after register()"
        : "this system has no /proc, so a program cannot become its own server: start it with `sam run`, or call supervise() in another program",
    );
  })();
}

let line: Promise<string> | undefined;

/** Resolves to the command line of this process, each word followed by NUL; empty if the system has no /proc. */
function commandLine(): Promise<string> {
  return line ??= readCommandLine();
}

async function readCommandLine(): Promise<string> {
  if (launch.commandLine !== undefined) return launch.commandLine;
  if (grantedAll()) {
    try {
      return Deno.readTextFileSync("/proc/self/cmdline");
    } catch {
      return "";
    }
  }
  // Deno does not let a restricted program read /proc. A shell can, and needs only `--allow-run`.
  const what = "read the command line of this program, to restart it with the same permissions";
  requirePermissions(what, [["run", "sh", "deno,sh"]]);
  return await withSamErrors(async () => {
    const shell = new Deno.Command("sh", { args: ["-c", "cat /proc/$PPID/cmdline"] });
    return new TextDecoder().decode((await shell.output()).stdout);
  }, what);
}

/** Resolves to the flags for a module whose flags the user has not set: the flags of this process. */
export async function moduleFlags(): Promise<readonly string[]> {
  if (Deno.build.standalone) return ["run"];
  // Without /proc (on macOS, for example), the flags are unknown. With `-A`, a program gets no more than on Node and
  // Bun.
  if (await commandLine() === "") {
    if (grantedAll()) return ["run", "-A"];
    throw new SamError(
      "NOT_SUPPORTED",
      `cannot find out the Deno flags of this process, because this system has no /proc: set the flags of the program, as in { module, runtime: { name: "deno", flags: ["--allow-net"] } }`,
    );
  }
  return flagsOf(await ownCommandLine()).map((flag) =>
    // This process's own inspector already uses its port.
    /^--inspect(=|$)/.test(flag) ? anyInspector : absolute(flag, launch.cwd)
  );
}

/** The index of the module on a command line that begins with the executable; the line's length if there is none. */
function scriptAt(line: readonly string[]): number {
  // For `deno run`, `Deno.args` is everything after the module. Other subcommands have further words after their flags.
  if (line[1] === "run" || !subcommands.includes(line[1]!)) {
    return line.length - 1 - Deno.args.length;
  }
  const at = line.findIndex((word, at) =>
    at > 0 && !word.startsWith("-") && !(at === 1 && subcommands.includes(word)) &&
    !flagsWithValue.includes(line[at - 1] ?? "")
  );
  return at < 0 ? line.length : at;
}

/**
 * The flags of a Deno command line that apply to any module: all those of `deno run`, and some of other subcommands.
 */
function flagsOf(line: readonly string[]): readonly string[] {
  const flags = line.slice(1, scriptAt(line));
  if (flags[0] === "run") return flags;
  if (!subcommands.includes(flags[0] ?? "")) return ["run", ...flags];
  return [
    "run",
    ...flags.filter((word, at) =>
      sharedFlags.test(word) || sharedFlagsWithValue.includes(flags[at - 1] ?? "")
    ),
  ];
}

const subcommands = ["run", "serve", "test", "bench", "eval", "repl", "task"];
/** Flags of `deno run` and other subcommands whose value is the next word. */
const sharedFlagsWithValue = ["-c", "--config", "--import-map", "--cert"];
/** All flags whose value is the next word. */
const flagsWithValue = [
  ...sharedFlagsWithValue,
  "--lock",
  "--location",
  "--seed",
  "--preload",
  "--import",
  "--require",
  "--conditions",
  "--ext",
  "-L",
  "--log-level",
  "--min-dep-age",
  "--minimum-dependency-age",
  "--filter",
  "--junit-path",
  "--reporter",
];
/**
 * Flags that `deno test` and other subcommands share with `deno run`: permissions, configuration, module resolution.
 */
const sharedFlags =
  /^(-[APRWNESI]+(=.*)?|-c|-q|--(allow|deny|ignore)-.*|--(permission-set|no-prompt|quiet|config|no-config|import-map|cert|no-lock|no-check|cached-only|no-remote|no-npm|node-modules-dir|vendor|env-file|unstable|v8-flags)([=-].*)?)$/s;
