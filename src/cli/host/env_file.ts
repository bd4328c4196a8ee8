/** Environment variables from files, in the format of `node --env-file`. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { parseEnv } from "node:util";

/** The names of the variables with which this process was started. Node and Bun add those of files to `process.env`. */
function ownVariables(): ReadonlySet<string> {
  try {
    const pairs = readFileSync("/proc/self/environ", "utf8").split("\0");
    return new Set(pairs.map((pair) => pair.slice(0, pair.indexOf("="))));
  } catch {
    return new Set(Object.keys(process.env));
  }
}

/** Reads a file, without the variables with which this process was started. Throws the error of the system. */
export function readVariables(path: string): Readonly<Record<string, string>> {
  const text = readFileSync(path, "utf8").replace(/^\uFEFF/, "");
  const own = ownVariables();
  const found = Object.entries(parseEnv(text) as Record<string, string>);
  return Object.fromEntries(found.filter(([name]) => !own.has(name)));
}

/**
 * Removes the variables that Node has read from the files of `sam run --env-file`: it looks for this flag in all words of its
 * command line, also in those after the script. They are for the program, and not for `sam`.
 */
export function removeVariablesOfFiles(words: readonly string[]): void {
  const flag = /^--env-file(?:=(.*))?$/s;
  if (process.execArgv.some((word) => flag.test(word))) return; // the user wants them in `sam`
  for (const [at, word] of words.entries()) {
    const [match, path = words[at + 1]] = flag.exec(word) ?? [];
    if (match === undefined || path === undefined) continue;
    try {
      for (const name of Object.keys(readVariables(path))) delete process.env[name];
    } catch {
      // `sam` reports it when it reads the file for the program
    }
  }
}
