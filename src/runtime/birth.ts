/**
 * What must be known from the first moment of the process: how it was linked to a server, and where it was started.
 * Read when the library is imported, because the program may change it a line later; the link leaves the environment
 * with that, so that nothing the program starts inherits it.
 */

/** The variable that tells an active process how to reach its server. */
export const linkVariable = "SAM_LINK";

/** How this process came into the world. */
export interface Birth {
  /** The value of SAM_LINK; undefined when nobody supervises this process. */
  readonly link: string | undefined;
  /** Why the environment could not be read, or undefined. */
  readonly denied: unknown;
  /** The working directory at the start. */
  readonly cwd: string | undefined;
}

interface DenoGlobal {
  readonly cwd: () => string;
  readonly env: { get(name: string): string | undefined; delete(name: string): void };
  readonly permissions: {
    querySync(what: { name: "env"; variable: string }): { readonly state: string };
  };
}
interface ProcessGlobal {
  readonly env: Record<string, string | undefined>;
  cwd(): string;
}

function read(): Birth {
  // Not `process` in Deno: touching it loads the Node layer.
  const { Deno, process } = globalThis as unknown as { Deno?: DenoGlobal; process: ProcessGlobal };
  const inWorker = "WorkerGlobalScope" in globalThis;
  if (Deno === undefined) {
    const link = process.env[linkVariable];
    delete process.env[linkVariable];
    return { link, denied: undefined, cwd: attempt(() => process.cwd()) };
  }
  const cwd = attempt(() => Deno.cwd());
  try {
    // A program that merely imports the library must not be asked for a permission on the terminal.
    if (Deno.permissions.querySync({ name: "env", variable: linkVariable }).state !== "granted") {
      return { link: undefined, denied: true, cwd };
    }
    const link = Deno.env.get(linkVariable);
    if (link !== undefined && !inWorker) Deno.env.delete(linkVariable);
    return { link, denied: undefined, cwd };
  } catch (error) {
    return { link: undefined, denied: error, cwd };
  }
}

function attempt<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch {
    return undefined;
  }
}

/** How this process came into the world. */
export const birth: Birth = read();
