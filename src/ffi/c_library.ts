/**
 * Calls of C libraries, limited to what all runtimes support: functions of numbers, callbacks, and raw memory.
 * Addresses, handles and `size_t` are "u64". The caller lays out structs in memory itself. One module per runtime
 * implements this interface.
 */

/**
 * A C type. "u64" is a bigint in JavaScript, "buffer" is the address of a Uint8Array for the duration of a call, and
 * the others are numbers.
 */
export type NativeType = "i32" | "u32" | "u64" | "buffer" | "void";

/** The types of a function's parameters and result. */
export interface NativeSignature {
  readonly parameters: readonly NativeType[];
  readonly result: NativeType;
  /**
   * True if the function may block or call back. On Deno, such a call runs on another thread.
   */
  readonly blocks?: true;
}

type Value = number | bigint;

/** A function of a C library. A function that `blocks` may return a promise. */
export type NativeFunction = (...args: readonly (Value | Uint8Array)[]) => Value | Promise<Value>;

/** The requested functions of an open library, by name. */
export type Functions<Requested> = Readonly<Record<keyof Requested, NativeFunction>>;

/** An open C library. */
export interface NativeLibrary<Requested> {
  readonly functions: Functions<Requested>;
  /** Closes the library. Its functions must not be called afterwards. */
  close(): void;
}

/** A JavaScript function that C can call. */
export interface NativeCallback {
  readonly address: bigint;
  /** Frees the callback. C must not call it afterwards. */
  close(): void;
}

/** A runtime's access to C libraries. */
export interface Native {
  /**
   * Opens a library by its file name; null opens the C library itself. If the library or a function is missing, the
   * runtime's own error is thrown. A file name throws NOT_SUPPORTED outside Linux.
   */
  open<Requested extends Readonly<Record<string, NativeSignature>>>(
    file: string | null,
    functions: Requested,
  ): NativeLibrary<Requested>;
  /** Creates a callback. Memory that its arguments point to is valid only until the callback returns. */
  callback(parameters: readonly NativeType[], called: (...args: Value[]) => void): NativeCallback;
  /** Returns the memory at an address, without a copy. It must not be freed while the buffer is in use. */
  view(address: bigint, bytes: number): ArrayBuffer;
}
