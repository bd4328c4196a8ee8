// What an application has loaded and holds before it says its first line.

/** Imports the module, if there is one, and fills so many MiB of memory; the caller keeps them in use. */
export async function occupied(mib: number, module: string | undefined): Promise<Uint8Array> {
  if (module !== undefined) await import(module);
  return new Uint8Array(mib * 2 ** 20).fill(1); // not 0: those pages would not exist
}
