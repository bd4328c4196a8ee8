/** How this Deno program was started, which Deno itself does not tell in full. */
import { SamError } from "../errors.ts";
import { launch } from "./launch.ts";
import { absolute, allowed, demand, grantedAll } from "./deno_permissions.ts";

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

/** The inspector at a port that is free. */
const anyInspector = "--inspect=127.0.0.1:0";

let words: Promise<readonly string[]> | undefined;

/**
 * The command line of this process. Deno does not tell its flags, and /proc is closed to restricted programs, so a
 * shell is asked, which needs no more than `--allow-run`.
 */
export function ownWords(): Promise<readonly string[]> {
  return words ??= (async () => {
    if (Deno.build.standalone) return [Deno.execPath(), ...Deno.args];
    const text = await commandLine();
    const found = text.split("\0").slice(0, -1);
    if (found.length > 1 && found[1] !== "") {
      // With --watch, which is the server's to do, no instance would ever end.
      const script = scriptAt(found);
      if (found.slice(1, script + 1).includes("-")) {
        throw new SamError(
          "NOT_SUPPORTED",
          "a program from standard input cannot be run again: put it into a file",
        );
      }
      return found.filter((word, at) => at > script || !/^--watch/.test(word));
    }
    throw new SamError(
      "NOT_SUPPORTED",
      found.length > 1
        ? "process.title has overwritten the command line of this program: set it after register()"
        : "this system does not tell the command line of a process (no /proc), so a program cannot become its own server: run it with `sam run`, or call supervise() in another program",
    );
  })();
}

let line: Promise<string> | undefined;

/** The command line of this process, each word with a NUL after it; empty where the system does not tell it. */
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
  const what = "read the command line of this program, to run it again with the same permissions";
  demand(what, [["run", "sh", "deno,sh"]]);
  return await allowed(async () => {
    const shell = new Deno.Command("sh", { args: ["-c", "cat /proc/$PPID/cmdline"] });
    return new TextDecoder().decode((await shell.output()).stdout);
  }, what);
}

/** The flags that a module gets where the user names none: ours. */
export async function moduleFlags(): Promise<readonly string[]> {
  if (Deno.build.standalone) return ["run"];
  // On macOS, and where /proc is not mounted: all permissions are what a program gets from Node and Bun, too.
  if (await commandLine() === "") {
    if (grantedAll()) return ["run", "-A"];
    throw new SamError(
      "NOT_SUPPORTED",
      `this system does not tell the flags of this program (no /proc): say which the program gets, as in { module, runtime: { name: "deno", flags: ["--allow-net"] } }`,
    );
  }
  return flagsOf(await ownWords()).map((flag) =>
    // Our inspector has its port already.
    /^--inspect(=|$)/.test(flag) ? anyInspector : absolute(flag, launch.cwd)
  );
}

/** Where the module stands on a command line that begins with the executable; its length where there is none. */
function scriptAt(line: readonly string[]): number {
  // Deno tells the arguments of the program that it runs; other subcommands have more words behind their flags.
  if (line[1] === "run" || !subcommands.includes(line[1]!)) {
    return line.length - 1 - Deno.args.length;
  }
  const at = line.findIndex((word, at) =>
    at > 0 && !word.startsWith("-") && !(at === 1 && subcommands.includes(word)) &&
    !valued.includes(line[at - 1] ?? "")
  );
  return at < 0 ? line.length : at;
}

/** The flags of a Deno command line that hold for any module: those of `deno run`, of other subcommands some. */
function flagsOf(line: readonly string[]): readonly string[] {
  const flags = line.slice(1, scriptAt(line));
  if (flags[0] === "run") return flags;
  if (!subcommands.includes(flags[0] ?? "")) return ["run", ...flags];
  return [
    "run",
    ...flags.filter((word, at) => shared.test(word) || sharedValued.includes(flags[at - 1] ?? "")),
  ];
}

const subcommands = ["run", "serve", "test", "bench", "eval", "repl", "task"];
/** Flags whose value is a word of its own, for `deno run` and others. */
const sharedValued = ["-c", "--config", "--import-map", "--cert"];
const valued = [
  ...sharedValued,
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
/** Flags that `deno test` and the like share with `deno run`: permissions, configuration, where modules come from. */
const shared =
  /^(-[APRWNESI]+(=.*)?|-c|-q|--(allow|deny|ignore)-.*|--(permission-set|no-prompt|quiet|config|no-config|import-map|cert|no-lock|no-check|cached-only|no-remote|no-npm|node-modules-dir|vendor|env-file|unstable|v8-flags)([=-].*)?)$/s;
