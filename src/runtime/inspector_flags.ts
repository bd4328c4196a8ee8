/** Which flags of a Node or Deno program have to do with its inspector. */
import { silentInspector } from "./launch.ts";
import type { RuntimeName } from "./runtime.ts";

/** The flags of the user, by the command line or by `NODE_OPTIONS`. */
function allFlags(given: readonly string[]): readonly string[] {
  const { Deno, process } = globalThis as unknown as {
    readonly Deno?: unknown;
    readonly process: { readonly env: Record<string, string | undefined> };
  };
  // A look at `process` makes Deno load its Node layer, and may ask for a permission.
  const options = Deno === undefined ? process.env["NODE_OPTIONS"]?.split(/\s+/) ?? [] : [];
  return [...given, ...options];
}

/**
 * The flags for a program whose stack is to be taken through its inspector. The inspector then does not announce its port
 * on the program's standard error. With `open`, Deno has it open from the start, because it cannot be opened later.
 *
 * There are none where the user opens the inspector and reads what it says. Where the inspector is announced is the user's choice.
 */
export function inspectorFlags(
  runtime: RuntimeName | undefined,
  given: readonly string[],
  open: boolean,
): readonly string[] {
  const flags = allFlags(given);
  if (flags.some((flag) => /^--inspect(-brk|-wait)?(=|$)/.test(flag))) return [];
  const isChosen = flags.some((flag) => /^--inspect-publish-uid(=|$)/.test(flag));
  const silent = isChosen ? [] : [silentInspector];
  if (runtime === "node") return silent;
  return runtime === "deno" && open ? ["--inspect=127.0.0.1:0", ...silent] : [];
}
