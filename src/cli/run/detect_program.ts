/** Detects if PROGRAM is a module or a command, and which runtime a module needs. */
import type { RuntimeName } from "../../runtime/runtime.ts";

/** The access to the file system that the detection needs. */
export interface Files {
  exists(path: string): boolean;
  /** The first line of a file. Empty if the file cannot be read. */
  firstLine(path: string): string;
  /** The main file of a directory. Empty if it has none, undefined if `path` is not a directory. */
  mainOf(path: string): string | undefined;
  /** The content of a text file. Throws if it cannot be read. */
  readText(path: string): string;
  /** The environment variables in a file that the environment of `sam` does not have. Throws if the file cannot be read. */
  readVariables(path: string): Readonly<Record<string, string>>;
}

export interface DetectedProgram {
  /** True for a module, false for a command. */
  readonly isModule: boolean;
  /** The runtime of the module. Undefined if neither its first line nor a file beside it names one. */
  readonly runtime?: RuntimeName;
  /** The runtime flags from the first line of the module. */
  readonly flags?: readonly string[];
}

/**
 * Files that reveal the runtime of a module. The nearest directory that has one of them decides. `package.json` is not in the
 * list: all three runtimes read it, and a package of a workspace has its lock file in a parent directory.
 */
const runtimeFiles: readonly (readonly [RuntimeName, readonly string[]])[] = [
  ["bun", ["bun.lock", "bun.lockb"]],
  ["deno", ["deno.lock"]],
  ["node", ["package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"]],
  ["bun", ["bunfig.toml"]],
  ["deno", ["deno.json", "deno.jsonc"]],
];

/** Detects the kind and the runtime of PROGRAM. A relative path starts at `cwd`. */
export function detectProgram(program: string, cwd: string, files: Files): DetectedProgram {
  if (/^(jsr|npm|https?):/.test(program)) return { isModule: true, runtime: "deno" };
  const path = program.startsWith("/") ? program : `${cwd}/${program}`;
  const isScript = /\.[cm]?[jt]sx?$/.test(program);
  if (!isScript && !(program.includes("/") && files.exists(path))) return { isModule: false };
  const named = detectByFirstLine(files.firstLine(path));
  if (named) return { isModule: true, ...named };
  if (!isScript) return { isModule: false };
  const found = detectByFiles(path, files);
  return { isModule: true, ...(found && { runtime: found }) };
}

/** Reads the runtime and its flags from a first line such as `#!/usr/bin/env -S deno run --allow-net` or `#!/usr/local/bin/node`. */
function detectByFirstLine(line: string): Pick<DetectedProgram, "runtime" | "flags"> | undefined {
  if (!line.startsWith("#!")) return undefined;
  const words = line.slice(2).trim().split(/\s+/);
  if (/(^|\/)env$/.test(words[0]!)) {
    do words.shift(); while (words[0]?.startsWith("-") || words[0]?.includes("="));
  }
  const name = words[0]?.slice(words[0].lastIndexOf("/") + 1);
  if (name !== "node" && name !== "deno" && name !== "bun") return undefined;
  const flags = words.slice(1).filter((word) => !(name === "bun" && word === "run"));
  return { runtime: name, ...(flags.length > 0 && { flags }) };
}

function detectByFiles(path: string, files: Files): RuntimeName | undefined {
  for (let at = path.lastIndexOf("/"); at >= 0; at = path.lastIndexOf("/", at - 1)) {
    const directory = path.slice(0, at);
    const found = runtimeFiles.find(([, names]) =>
      names.some((name) => files.exists(`${directory}/${name}`))
    );
    if (found) return found[0];
    if (at === 0) break;
  }
  return undefined;
}
