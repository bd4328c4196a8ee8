/** Which flags of a Node or Deno program have to do with its inspector. */
import { silentInspector } from "./launch.ts";
import type { RuntimeName } from "./runtime.ts";

/** True if the user has the inspector opened, by a flag or by `NODE_OPTIONS`, and reads what it says. */
function isOpenedByUser(flags: readonly string[]): boolean {
  const { Deno, process } = globalThis as unknown as {
    readonly Deno?: unknown;
    readonly process: { readonly env: Record<string, string | undefined> };
  };
  // A look at `process` makes Deno load its Node layer, and may ask for a permission.
  const options = Deno === undefined ? process.env["NODE_OPTIONS"]?.split(/\s+/) ?? [] : [];
  return [...flags, ...options].some((flag) => /^--inspect(-|=|$)/.test(flag));
}

/**
 * The flags for a program whose stack is to be taken through its inspector. The inspector then does not announce its port
 * on the program's standard error. With `open`, Deno has it open from the start, because it cannot be opened later.
 */
export function inspectorFlags(
  runtime: RuntimeName | undefined,
  given: readonly string[],
  open: boolean,
): readonly string[] {
  if (isOpenedByUser(given)) return [];
  if (runtime === "node") return [silentInspector];
  return runtime === "deno" && open ? ["--inspect=127.0.0.1:0", silentInspector] : [];
}
