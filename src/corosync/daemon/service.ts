/** The interface of Corosync's services (quorum, cluster map, process groups) for the loop, and the code they share. */
import { SamError, type SamErrorCode } from "../../errors.ts";
import { allocate, type Memory } from "../../ffi/c_memory.ts";
import type {
  Native,
  NativeCallback,
  NativeLibrary,
  NativeSignature,
} from "../../ffi/c_library.ts";

/** One connection to a service of the daemon. It runs where calls may block. */
export interface Service {
  /** Connects. The loop calls it again after each loss of the daemon. */
  connect(): Promise<void>;
  /** A file descriptor that is readable when `dispatch` has work. Valid between `connect` and `disconnect`. */
  readonly descriptor: number;
  /** Handles the events that have arrived. Throws if the daemon is gone. */
  dispatch(): Promise<void>;
  /** Carries out a request of the owner. Its argument and result must be values that can be posted to a thread. */
  request(name: string, argument: unknown): Promise<unknown>;
  /** Ends the connection. */
  disconnect(): Promise<void>;
  /** Frees all memory and libraries. */
  close(): void;
}

/** The arguments of a `ServiceMaker`. */
export interface ServiceParts {
  readonly native: Native;
  /** Sends an event to the owner of the connection. */
  readonly emit: (event: unknown) => void;
}

/** Makes a service. Throws if its library is missing. */
export type ServiceMaker = (parts: ServiceParts) => Service;

/** A library of Corosync, with the functions and the memory that its service needs. */
export interface LibraryDescription<Call extends string> {
  /** The name of the library file. */
  readonly file: string;
  /** The prefix of its functions: `cpg` for `cpg_join`. */
  readonly prefix: string;
  /** The functions that only this service uses, without their prefix. */
  readonly calls: Readonly<Record<Call, NativeSignature>>;
  /** Bytes of memory for the structs and texts of its calls, from `ownAt` on. */
  readonly ownBytes: number;
}

/** The functions that the libraries of all services have. */
const commonCalls = {
  finalize: { parameters: ["u64"], result: "i32", blocks: true },
  fd_get: { parameters: ["u64", "u64"], result: "i32" },
  dispatch: { parameters: ["u64", "i32"], result: "i32", blocks: true },
} as const satisfies Readonly<Record<string, NativeSignature>>;

/** `CS_OK` */
const csOk = 1;
/** `CS_ERR_NOT_EXIST` */
export const csNotExist = 12;
/** `CS_DISPATCH_ALL` */
const dispatchAll = 2;
const handleAt = 0;
/** The offset at which a call writes a number that it returns. */
export const numberAt = 8;
/** The offset of the memory that belongs to the service. */
export const ownAt = 16;

/** The base of all services: holds the library, its memory and the handle of the connection, and dispatches events. */
export abstract class LibraryService<Call extends string> implements Service {
  descriptor = -1;
  protected readonly view: DataView;
  protected readonly bytes: Uint8Array;
  readonly #native: Native;
  readonly #prefix: string;
  readonly #library: NativeLibrary<Readonly<Record<string, NativeSignature>>>;
  readonly #memory: Memory;
  readonly #callbacks: NativeCallback[] = [];
  #handle = 0n;

  constructor(native: Native, { file, prefix, calls, ownBytes }: LibraryDescription<Call>) {
    this.#native = native;
    this.#prefix = `${prefix}_`;
    const named = Object.entries<NativeSignature>({ ...commonCalls, ...calls })
      .map(([name, signature]) => [this.#prefix + name, signature]);
    this.#library = native.open(file, Object.fromEntries(named));
    this.#memory = allocate(native, ownAt + ownBytes);
    this.view = this.#memory.view;
    this.bytes = this.#memory.bytes;
  }

  abstract request(name: string, argument: unknown): Promise<unknown>;

  abstract connect(): Promise<void>;

  /** Connects by a call whose first parameter is the address for the handle. `begin` does the rest of the connection. */
  protected async initializeBy(
    call: Call,
    parameters: readonly (number | bigint)[],
    begin: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    await this.#checked(call, [this.at(handleAt), ...parameters]);
    this.#handle = this.view.getBigUint64(handleAt, little);
    try {
      await this.#checked("fd_get", [this.#handle, this.at(numberAt)]);
      this.descriptor = this.view.getInt32(numberAt, little);
      await begin();
    } catch (error) {
      await this.disconnect();
      throw error;
    }
  }

  async dispatch(): Promise<void> {
    await this.#checked("dispatch", [this.#handle, dispatchAll]);
  }

  async disconnect(): Promise<void> {
    await this.#run("finalize", [this.#handle]);
  }

  close(): void {
    for (const callback of this.#callbacks) callback.close();
    this.#memory.free();
    this.#library.close();
  }

  /** Returns the address of an offset in the memory. */
  protected at(offset: number): bigint {
    return this.#memory.address + BigInt(offset);
  }

  /** Makes a callback that lives as long as this service. Returns its address. */
  protected callback(...how: Parameters<Native["callback"]>): bigint {
    const callback = this.#native.callback(...how);
    this.#callbacks.push(callback);
    return callback.address;
  }

  /** Calls a function with the handle and `parameters`. Throws unless it returns `CS_OK` or one of `also`. */
  protected call(
    name: Call,
    parameters: readonly (number | bigint)[],
    ...also: readonly number[]
  ): Promise<number> {
    return this.#checked(name, [this.#handle, ...parameters], also);
  }

  async #checked(
    name: string,
    parameters: readonly (number | bigint)[],
    also: readonly number[] = [],
  ): Promise<number> {
    const status = await this.#run(name, parameters);
    if (status === csOk || also.includes(status)) return status;
    throw corosyncError(this.#prefix + name, status);
  }

  async #run(name: string, parameters: readonly (number | bigint)[]): Promise<number> {
    return await this.#library.functions[this.#prefix + name]!(...parameters) as number;
  }
}

const codes: Readonly<Record<number, SamErrorCode>> = {
  5: "TIMEOUT",
  6: "TRY_AGAIN",
  7: "INVALID_PARAM",
  8: "NO_MEMORY",
  9: "BAD_HANDLE",
  11: "ACCESS",
  16: "INTERRUPT",
  19: "NOT_SUPPORTED",
  22: "MESSAGE_ERROR",
  26: "TOO_BIG",
  100: "ACCESS",
};

/** Returns the error for a call that returned `status`, a `cs_error_t`. */
function corosyncError(call: string, status: number): SamError {
  return new SamError(codes[status] ?? "LIBRARY", `${call}() failed with cs_error_t ${status}`, {
    cause: status,
  });
}

/** True if an error says that the daemon is gone, so that the connection is useless. */
export function isGone(error: unknown): boolean {
  return error instanceof SamError && (error.cause === 2 || error.cause === 9);
}

/** The byte order of integers in C. It is little-endian on every platform on which both Corosync and these runtimes run. */
export const little = true;
