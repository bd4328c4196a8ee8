/** Access to C libraries on Node, through `node:ffi` (Node 26) or else the npm package `koffi`. */
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

/** The stack size for koffi. Corosync's libraries put a buffer of 1 MiB on the stack, which is koffi's default size. */
const stackBytes = 4 << 20;

/** Loaded only once, because koffi rejects settings after it has opened a library. */
let found: Native | undefined;

/** Loads `node:ffi` or koffi. Throws NOT_SUPPORTED if both are missing. */
export function nodeNative(): Native {
  return found ??= nodeFfi() ?? koffi();
}

function requireLinux(file: string | null): void {
  if (file === null || process.platform === "linux") return;
  throw new SamError("NOT_SUPPORTED", `cannot call C libraries on ${process.platform}: use Linux`);
}

function nodeFfi(): Native | undefined {
  // `node:ffi` prints a warning that it is experimental. Suppressed, because the user did not choose it and cannot act
  // on it.
  const warn = process.emitWarning;
  process.emitWarning = () => {};
  try {
    const ffi = process.getBuiltinModule("node:ffi") as NodeFfi | undefined;
    return ffi && wrapNodeFfi(ffi);
  } catch {
    return undefined;
  } finally {
    process.emitWarning = warn;
  }
}

function wrapNodeFfi(ffi: NodeFfi): Native {
  const { lib } = ffi.dlopen(null, {}); // callbacks must belong to a library; this is the program itself
  return {
    open(file, functions) {
      requireLinux(file);
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
      "cannot call C libraries: this version of Node needs the package koffi. Run npm install koffi, or use Node 26.",
      { cause },
    );
  }
  let isStackLarge = true;
  try {
    koffi.config({ sync_stack_size: stackBytes });
  } catch {
    // The application has already opened a library, so koffi's settings are fixed. They suffice for libc.
    isStackLarge = false;
  }
  const types = (all: readonly NativeType[]) => all.map((type) => koffiTypes[type]);
  // koffi returns 64-bit values as numbers if they fit.
  const toBigInt = (value: number | bigint, type: NativeType) =>
    type === "u64" ? BigInt(value) : value;
  return {
    open(file, functions) {
      requireLinux(file);
      if (!isStackLarge && file !== null && !file.startsWith("libc.")) {
        throw new SamError(
          "LIBRARY",
          `cannot use ${file}: it needs a larger stack than koffi provides. Call koffi.config({ sync_stack_size: ${stackBytes} }) before koffi opens its first library.`,
        );
      }
      const library = koffi.load(file);
      const entries = Object.entries<NativeSignature>(functions).map(
        ([name, { parameters, result }]) => {
          const call = library.func(name, koffiTypes[result], types(parameters));
          return [
            name,
            (...args: readonly (number | bigint | Uint8Array)[]) => toBigInt(call(...args), result),
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
          called(...args.map((value, at) => toBigInt(value, parameters[at]!))),
        type,
      );
      return { address: BigInt(address), close: () => koffi.unregister(address) };
    },
    view: (address, bytes) => koffi.view(address, bytes),
  };
}
