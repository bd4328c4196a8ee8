/** Finds out what PROGRAM is: a module and its runtime, or a command. */
import type { RuntimeName } from "../../runtime/runtime.ts";

/** The parts of the file system that are needed here. */
export interface Files {
  exists(path: string): boolean;
  /** The first line of a file; empty where it cannot be read. */
  firstLine(path: string): string;
  /** The main file of a directory; empty if it has none, undefined if `path` is no directory. */
  mainOf(path: string): string | undefined;
}

/** What PROGRAM is. */
export interface Which {
  /** True for a module, false for a command. */
  readonly isModule: boolean;
  /** The runtime of the module; undefined if nothing names one. */
  readonly runtime?: RuntimeName;
  /** The flags of its first line. */
  readonly flags?: readonly string[];
}

/**
 * Files that show which runtime a module is for. The nearest directory that has one of them counts. A package.json does not
 * count: all three runtimes read it, and a package of a workspace has its lock file in a directory above.
 */
const beside: readonly (readonly [RuntimeName, readonly string[]])[] = [
  ["bun", ["bun.lock", "bun.lockb"]],
  ["deno", ["deno.lock"]],
  ["node", ["package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"]],
  ["bun", ["bunfig.toml"]],
  ["deno", ["deno.json", "deno.jsonc"]],
];

/** Finds out what PROGRAM is, with `cwd` as the working directory. */
export function which(program: string, cwd: string, files: Files): Which {
  if (/^(jsr|npm|https?):/.test(program)) return { isModule: true, runtime: "deno" };
  const path = program.startsWith("/") ? program : `${cwd}/${program}`;
  const isScript = /\.[cm]?[jt]sx?$/.test(program);
  if (!isScript && !(program.includes("/") && files.exists(path))) return { isModule: false };
  const named = byFirstLine(files.firstLine(path));
  if (named) return { isModule: true, ...named };
  if (!isScript) return { isModule: false };
  const found = byNeighbours(path, files);
  return { isModule: true, ...(found && { runtime: found }) };
}

/** The runtime and its flags in a first line like `#!/usr/bin/env -S deno run --allow-net` or `#!/usr/local/bin/node`. */
function byFirstLine(line: string): Pick<Which, "runtime" | "flags"> | undefined {
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

function byNeighbours(path: string, files: Files): RuntimeName | undefined {
  for (let at = path.lastIndexOf("/"); at >= 0; at = path.lastIndexOf("/", at - 1)) {
    const directory = path.slice(0, at);
    const found = beside.find(([, names]) =>
      names.some((name) => files.exists(`${directory}/${name}`))
    );
    if (found) return found[0];
    if (at === 0) break;
  }
  return undefined;
}
