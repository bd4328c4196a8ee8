/** Memory of C, for structs and strings that its functions take. */
import { SamError } from "../errors.ts";
import type { Native } from "./c_library.ts";

/** Memory of C, of fixed size. */
export interface Memory {
  readonly address: bigint;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  free(): void;
}

/** Gets memory. */
export function allocate(native: Native, size: number): Memory {
  const libc = native.open("libc.so.6", {
    calloc: { parameters: ["u64", "u64"], result: "u64" },
    free: { parameters: ["u64"], result: "void" },
  });
  const address = libc.functions.calloc(1n, BigInt(size)) as bigint;
  if (address === 0n) throw new SamError("NO_MEMORY", `no memory for ${size} bytes`);
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
