/**
 * Access to C libraries on Deno, through `Deno.dlopen`. Needs `--allow-ffi`. Blocking functions run on threads of Deno.
 */
import { SamError } from "../errors.ts";
import type { Functions, Native, NativeFunction, NativeSignature } from "./c_library.ts";

interface DenoFfi {
  readonly build: { readonly os: string };
  readonly permissions: { querySync(what: { name: "ffi" }): { readonly state: string } };
  dlopen(file: string, symbols: object): {
    readonly symbols: Record<string, NativeFunction>;
    close(): void;
  };
  readonly UnsafePointer: {
    create(address: bigint): object | null;
    value(pointer: object | null): bigint;
  };
  readonly UnsafePointerView: { getArrayBuffer(pointer: object, bytes: number): ArrayBuffer };
  readonly UnsafeCallback: new (definition: object, called: unknown) => {
    readonly pointer: object;
    close(): void;
  };
}

/** Returns the access to C libraries. Throws NOT_SUPPORTED outside Linux, and ACCESS without `--allow-ffi`. */
export function denoNative(): Native {
  const { Deno } = globalThis as unknown as { Deno: DenoFfi };
  if (Deno.build.os !== "linux") {
    throw new SamError("NOT_SUPPORTED", `cannot call C libraries on ${Deno.build.os}: use Linux`);
  }
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    throw new SamError("ACCESS", "cannot call C libraries: run Deno with --allow-ffi");
  }
  return {
    open(file, functions) {
      const symbols = Object.entries<NativeSignature>(functions).map(
        ([name, { blocks = false, ...signature }]) => [name, { ...signature, nonblocking: blocks }],
      );
      const library = Deno.dlopen(file ?? "libc.so.6", Object.fromEntries(symbols));
      return {
        functions: library.symbols as Functions<typeof functions>,
        close: () => library.close(),
      };
    },
    callback(parameters, called) {
      // C calls this from the thread of a blocking call. That thread waits until the event loop has run `called`.
      const callback = new Deno.UnsafeCallback({ parameters, result: "void" }, called);
      return {
        address: Deno.UnsafePointer.value(callback.pointer),
        close: () => callback.close(),
      };
    },
    view: (address, bytes) =>
      Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(address)!, bytes),
  };
}
