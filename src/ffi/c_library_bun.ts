/** Access to C libraries on Bun, through `bun:ffi`. */
import { SamError } from "../errors.ts";
import { process } from "../runtime/node_api.ts";
import type {
  Functions,
  Native,
  NativeFunction,
  NativeSignature,
  NativeType,
} from "./c_library.ts";

interface BunFfi {
  dlopen(
    file: string,
    symbols: Readonly<
      Record<string, { readonly args: readonly string[]; readonly returns: string }>
    >,
  ): { readonly symbols: Record<string, NativeFunction>; close(): void };
  readonly JSCallback: new (
    called: unknown,
    signature: { readonly args: readonly string[]; readonly returns: string },
  ) => { readonly ptr: number; close(): void };
  toArrayBuffer(address: number, offset: number, bytes: number): ArrayBuffer;
}

/** Loads `bun:ffi`. Rejects with NOT_SUPPORTED outside Linux. */
export async function bunNative(): Promise<Native> {
  if (process.platform !== "linux") {
    throw new SamError(
      "NOT_SUPPORTED",
      `cannot call C libraries on ${process.platform}: use Linux`,
    );
  }
  const name = "bun:ffi"; // not a literal, because other runtimes and bundlers cannot resolve it
  const ffi = await import(name) as BunFfi;
  return {
    open(file, functions) {
      const symbols = Object.entries<NativeSignature>(functions).map((
        [name, { parameters, result }],
      ) => [
        name,
        { args: parameters.map((type) => type === "buffer" ? "ptr" : type), returns: result },
      ]);
      const library = ffi.dlopen(file ?? "libc.so.6", Object.fromEntries(symbols));
      return {
        functions: library.symbols as Functions<typeof functions>,
        close: () => library.close(),
      };
    },
    callback(parameters, called) {
      // Bun passes small 64-bit values to a callback as numbers.
      const toBigInt = (value: number | bigint, type: NativeType | undefined) =>
        type === "u64" ? BigInt(value) : value;
      const callback = new ffi.JSCallback(
        (...args: (number | bigint)[]) =>
          called(...args.map((value, at) => toBigInt(value, parameters[at]))),
        { args: parameters, returns: "void" },
      );
      return { address: BigInt(callback.ptr), close: () => callback.close() };
    },
    view: (address, bytes) => ffi.toArrayBuffer(Number(address), 0, bytes),
  };
}
