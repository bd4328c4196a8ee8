/**
 * Calls into C libraries, as far as all runtimes can make them: functions of numbers, callbacks, and raw memory. An address,
 * a handle and a `size_t` are "u64"; structs are memory that the caller lays out. One module per runtime implements it.
 */

/** A type of C: "u64" is a bigint here, "buffer" the address of a Uint8Array during a call, the others are numbers. */
export type NativeType = "i32" | "u32" | "u64" | "buffer" | "void";

/** What a function takes and gives. */
export interface NativeSignature {
  readonly parameters: readonly NativeType[];
  readonly result: NativeType;
  /** It may block, or call back: a runtime without a thread for it (Deno) makes the call on one of its own. */
  readonly blocks?: true;
}

type Value = number | bigint;

/** A function of a C library; one that `blocks` may give its result later. */
export type NativeFunction = (...args: readonly (Value | Uint8Array)[]) => Value | Promise<Value>;

/** The functions of an open library, by the names that were asked for. */
export type Functions<Asked> = Readonly<Record<keyof Asked, NativeFunction>>;

/** An open library. */
export interface NativeLibrary<Asked> {
  readonly functions: Functions<Asked>;
  /** Gives the library back; nothing of it may be called any more. */
  close(): void;
}

/** A function of ours that C calls. */
export interface NativeCallback {
  readonly address: bigint;
  /** Gives it back; C must not call it any more. */
  close(): void;
}

/** What a runtime can do with C. */
export interface Native {
  /**
   * Opens a library by its name, or with null the C library itself. Throws what the runtime throws where it, or a function, is
   * missing, and NOT_SUPPORTED for a named library outside of Linux.
   */
  open<Asked extends Readonly<Record<string, NativeSignature>>>(
    file: string | null,
    functions: Asked,
  ): NativeLibrary<Asked>;
  /** Makes a callback. Memory that its arguments point to is to be read before it returns. */
  callback(parameters: readonly NativeType[], called: (...args: Value[]) => void): NativeCallback;
  /** The memory at an address, as it is and changes. It must not be freed while this is used. */
  view(address: bigint, bytes: number): ArrayBuffer;
}
