/** Tells the end of a program whose heap reached V8's limit from others by the same signal. */
import type { Command, Exit } from "../../runtime/runtime.ts";

const outOfMemory = "JavaScript heap out of memory";

/** How a runtime ends then; Bun's heap has no limit of its own. */
const endings: Readonly<Record<string, string>> = { node: "SIGABRT", deno: "SIGTRAP" };

/** Says, for people, that a program ended at the limit of its heap; undefined for other ends. `output`: its last lines. */
export function heapDetail(
  { runtime, file, stdio }: Command,
  { signal }: Exit,
  output: readonly string[] = [],
): string | undefined {
  if (signal !== "SIGABRT" && signal !== "SIGTRAP") return undefined;
  // Node says "JavaScript heap out of memory", Deno "Fatal JavaScript out of memory".
  if (output.some((line) => /JavaScript (heap )?out of memory/.test(line))) return outOfMemory;
  const name = runtime ?? file.slice(file.lastIndexOf("/") + 1);
  if (stdio[2] === "tee" || endings[name] !== signal) return undefined;
  return `probably ${outOfMemory}: its standard error says, which stdio "tee" would show here`;
}
