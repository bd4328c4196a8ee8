/** Inspector flags for Node and Deno programs. */
import { quietInspectorFlag } from "./launch.ts";
import type { RuntimeName } from "./runtime.ts";

/** The user's flags, from the command line and from `NODE_OPTIONS`. */
function allFlags(given: readonly string[]): readonly string[] {
  const { Deno, process } = globalThis as unknown as {
    readonly Deno?: unknown;
    readonly process: { readonly env: Record<string, string | undefined> };
  };
  // In Deno, access to `process` loads the Node layer, and may require a permission.
  const options = Deno === undefined ? process.env["NODE_OPTIONS"]?.split(/\s+/) ?? [] : [];
  return [...given, ...options];
}

/**
 * The flags for a program whose stack the server captures through the inspector. They keep the inspector from printing
 * its port to the program's standard error. `open` makes Deno open the inspector from the start, because it cannot be
 * opened later.
 *
 * If the user opens the inspector with `--inspect`, no flags are added, so that it prints its port as usual. If the
 * user sets `--inspect-publish-uid`, that choice stays.
 */
export function inspectorFlags(
  runtime: RuntimeName | undefined,
  given: readonly string[],
  open: boolean,
): readonly string[] {
  const flags = allFlags(given);
  if (flags.some((flag) => /^--inspect(-brk|-wait)?(=|$)/.test(flag))) return [];
  const isChosen = flags.some((flag) => /^--inspect-publish-uid(=|$)/.test(flag));
  const quiet = isChosen ? [] : [quietInspectorFlag];
  if (runtime === "node") return quiet;
  return runtime === "deno" && open ? ["--inspect=127.0.0.1:0", ...quiet] : [];
}
