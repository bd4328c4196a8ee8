/** C libraries for Node: `node:ffi` (Node 26), else the npm package `koffi`. */
import type * as Modules from "node:module";
import { SamError } from "../errors.ts";
import { process } from "../runtime/node_api.ts";
import type { Functions, Native, NativeSignature, NativeType } from "./c_library.ts";

type Function = (...args: readonly (number | bigint | Uint8Array)[]) => number | bigint;

interface NodeSignature {
  readonly arguments: readonly NativeType[];
  readonly return: NativeType;
}

interface NodeFfi {
  dlopen(file: string | null, signatures: Readonly<Record<string, NodeSignature>>): {
    readonly lib: {
      registerCallback(signature: NodeSignature, called: unknown): bigint;
      unregisterCallback(address: bigint): void;
      close(): void;
    };
    readonly functions: Record<string, Function>;
  };
  toArrayBuffer(address: bigint, bytes: number, copy: boolean): ArrayBuffer;
}

interface Koffi {
  config(settings: { sync_stack_size: number }): void;
  load(file: string | null): {
    func(name: string, result: string, parameters: readonly string[]): Function;
    unload(): void;
  };
  proto(result: string, parameters: readonly string[]): object;
  pointer(type: object): object;
  register(called: unknown, type: object): bigint;
  unregister(address: bigint): void;
  view(address: bigint, bytes: number): ArrayBuffer;
}

/** A call of Corosync's libraries puts a buffer of 1 MiB on the stack, which is all that koffi gives unless told. */
const stackBytes = 4 << 20;

/** Found once: koffi takes no settings any more when it has opened a library. */
let found: Native | undefined;

/** What Node can do with C. Throws NOT_SUPPORTED where there is neither `node:ffi` nor koffi. */
export function nodeNative(): Native {
  return found ??= nodeFfi() ?? koffi();
}

function demandLinux(file: string | null): void {
  if (file === null || process.platform === "linux") return;
  throw new SamError("NOT_SUPPORTED", `C libraries are not called on ${process.platform}: Linux`);
}

function nodeFfi(): Native | undefined {
  // The user chose what needs C, not the experiment: no warning about it in every instance.
  const warn = process.emitWarning;
  process.emitWarning = () => {};
  try {
    const ffi = process.getBuiltinModule("node:ffi") as NodeFfi | undefined;
    return ffi && ofNodeFfi(ffi);
  } catch {
    return undefined;
  } finally {
    process.emitWarning = warn;
  }
}

function ofNodeFfi(ffi: NodeFfi): Native {
  const { lib } = ffi.dlopen(null, {}); // callbacks belong to a library: to this program
  return {
    open(file, functions) {
      demandLinux(file);
      const signatures = Object.entries<NativeSignature>(functions)
        .map(([name, { parameters, result }]) => [name, { arguments: parameters, return: result }]);
      const opened = ffi.dlopen(file, Object.fromEntries(signatures));
      return {
        functions: opened.functions as Functions<typeof functions>,
        close: () => opened.lib.close(),
      };
    },
    callback(parameters, called) {
      const address = lib.registerCallback({ arguments: parameters, return: "void" }, called);
      return { address, close: () => lib.unregisterCallback(address) };
    },
    view: (address, bytes) => ffi.toArrayBuffer(address, bytes, false),
  };
}

const koffiTypes: Readonly<Record<NativeType, string>> = {
  i32: "int32_t",
  u32: "uint32_t",
  u64: "uint64_t",
  buffer: "uint8_t *",
  void: "void",
};

function koffi(): Native {
  const { createRequire } = process.getBuiltinModule("node:module") as typeof Modules;
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)("koffi") as Koffi;
  } catch (cause) {
    throw new SamError(
      "NOT_SUPPORTED",
      "this version of Node calls C libraries by the package koffi: npm install koffi, or use Node 26",
      { cause },
    );
  }
  let isRoomy = true;
  try {
    koffi.config({ sync_stack_size: stackBytes });
  } catch {
    isRoomy = false; // the application has opened a library before: its settings hold, and suffice for libc
  }
  const types = (all: readonly NativeType[]) => all.map((type) => koffiTypes[type]);
  // koffi gives a number for a 64-bit value that fits.
  const wide = (value: number | bigint, type: NativeType) => type === "u64" ? BigInt(value) : value;
  return {
    open(file, functions) {
      demandLinux(file);
      if (!isRoomy && file !== null && !file.startsWith("libc.")) {
        throw new SamError(
          "LIBRARY",
          `${file} needs a larger stack than koffi gives: call koffi.config({ sync_stack_size: ${stackBytes} }) before koffi opens the first library`,
        );
      }
      const library = koffi.load(file);
      const entries = Object.entries<NativeSignature>(functions).map(
        ([name, { parameters, result }]) => {
          const call = library.func(name, koffiTypes[result], types(parameters));
          return [
            name,
            (...args: readonly (number | bigint | Uint8Array)[]) => wide(call(...args), result),
          ] as const;
        },
      );
      return {
        functions: Object.fromEntries(entries) as Functions<typeof functions>,
        close: () => library.unload(),
      };
    },
    callback(parameters, called) {
      const type = koffi.pointer(koffi.proto("void", types(parameters)));
      const address = koffi.register(
        (...args: (number | bigint)[]) =>
          called(...args.map((value, at) => wide(value, parameters[at]!))),
        type,
      );
      return { address: BigInt(address), close: () => koffi.unregister(address) };
    },
    view: (address, bytes) => koffi.view(address, bytes),
  };
}
