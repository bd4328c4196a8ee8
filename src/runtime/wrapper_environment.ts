/** The environment of a wrapper such as `npm start`, by which the processes below it load the preload file. */
import { inspectorFlags } from "./inspector_flags.ts";

/** The environment variable with the settings of the preload file. */
const settingsVariable = "SAM_WRAPPED";

/** The parts of the environment. */
export interface WrapperParts {
  /** Path of the preload file. */
  readonly path: string;
  /** The sources of regular expressions for the scripts that are no program. */
  readonly scripts: { readonly wrappers: string; readonly builds: string };
  /** The variables that the user has set for the program. */
  readonly own: Readonly<Record<string, string>>;
  readonly captureStack: boolean;
}

/**
 * Returns the variables that load the preload file into each process of Node and Bun below a wrapper, in addition to the user's
 * options there. The preload file removes them again.
 */
export function preloadVariables(
  { path, scripts, own, captureStack }: WrapperParts,
): Readonly<Record<string, string>> {
  const given = (name: string) => own[name] ?? inherited(name) ?? "";
  const quiet = captureStack
    ? inspectorFlags("node", given("NODE_OPTIONS").split(/\s+/), false)
    : [];
  const quoted = `"${path.replace(/["\\]/g, "\\$&")}"`;
  const flag = `--preload=${path}`;
  const texts: Readonly<Record<string, string>> = {
    NODE_OPTIONS: ["--require", quoted, ...quiet].join(" "),
    BUN_OPTIONS: /[\s'"]/.test(path) ? `"${flag.replace(/"/g, '\\"')}"` : flag, // in Bun, quotes enclose the whole flag
  };
  const variables = Object.entries(texts).map(([name, text]) =>
    // Bun takes quotes only at the beginning. Node loads the user's modules first, for example Yarn's, which finds all others.
    [
      name,
      (name === "BUN_OPTIONS" ? `${text} ${given(name)}` : `${given(name)} ${text}`).trim(),
    ] as const
  );
  return {
    ...Object.fromEntries(variables),
    [settingsVariable]: JSON.stringify({ ...scripts, texts }),
  };
}

/** A variable in the environment of this process. */
function inherited(name: string): string | undefined {
  const { Deno, process } = globalThis as unknown as {
    readonly Deno?: {
      readonly env: { get(name: string): string | undefined };
      readonly permissions: {
        querySync(what: { name: "env"; variable: string }): { readonly state: string };
      };
    };
    readonly process: { readonly env: Readonly<Record<string, string | undefined>> };
  };
  if (Deno === undefined) return process.env[name];
  // Without the permission, Deno would prompt for it on the terminal.
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}
