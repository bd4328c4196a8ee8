/** C memory, for the structs and strings that C functions take. */
import { SamError } from "../errors.ts";
import type { Native } from "./c_library.ts";

/** A block of C memory of fixed size. */
export interface Memory {
  readonly address: bigint;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  free(): void;
}

/** Allocates `size` bytes of C memory, filled with zeros. Throws NO_MEMORY if there are none. */
export function allocate(native: Native, size: number): Memory {
  const libc = native.open("libc.so.6", {
    calloc: { parameters: ["u64", "u64"], result: "u64" },
    free: { parameters: ["u64"], result: "void" },
  });
  const address = libc.functions.calloc(1n, BigInt(size)) as bigint;
  if (address === 0n) throw new SamError("NO_MEMORY", `cannot allocate ${size} bytes of memory`);
  const memory = native.view(address, size);
  return {
    address,
    view: new DataView(memory),
    bytes: new Uint8Array(memory),
    free() {
      libc.functions.free(address);
      libc.close();
    },
  };
}
