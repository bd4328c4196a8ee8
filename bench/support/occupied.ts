// The module and the memory that a program loads before its first line.

/** Imports `module`, if it is given, and fills `mib` MiB of memory. The caller must keep the result in use. */
export async function occupied(mib: number, module: string | undefined): Promise<Uint8Array> {
  if (module !== undefined) await import(module);
  return new Uint8Array(mib * 2 ** 20).fill(1); // the kernel allocates no memory for pages of zeros
}
