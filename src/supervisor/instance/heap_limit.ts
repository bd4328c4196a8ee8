/** Finds out whether a program ended because its heap reached V8's limit. */
import type { Command, Exit } from "../../runtime/runtime.ts";

const outOfMemory = "JavaScript heap out of memory";

/** The signal by which each runtime ends at the limit. Bun's heap has no limit of its own. */
const signals: Readonly<Record<string, string>> = { node: "SIGABRT", deno: "SIGTRAP" };

/** The text about an end at the heap limit; undefined for another end. `output`: the last lines of the program's output. */
export function heapDetail(
  { runtime, file, stdio }: Command,
  { signal }: Exit,
  output: readonly string[] = [],
): string | undefined {
  if (signal !== "SIGABRT" && signal !== "SIGTRAP") return undefined;
  // Node writes "JavaScript heap out of memory", Deno "Fatal JavaScript out of memory".
  if (output.some((line) => /JavaScript (heap )?out of memory/.test(line))) return outOfMemory;
  const name = runtime ?? file.slice(file.lastIndexOf("/") + 1);
  if (stdio[2] === "tee" || signals[name] !== signal) return undefined;
  return `probably ${outOfMemory}: see the program's standard error, or set stdio to "tee" to have it in the report`;
}
