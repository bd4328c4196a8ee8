/** What a service of Corosync (quorum, cluster map, process groups) is to the loop that runs them all. */
import { SamError, type SamErrorCode } from "../../errors.ts";
import { allocate, type Memory } from "../../ffi/c_memory.ts";
import type {
  Native,
  NativeCallback,
  NativeLibrary,
  NativeSignature,
} from "../../ffi/c_library.ts";

/** One connection to a service of the daemon. All of it runs where calls may block. */
export interface Service {
  /** Connects. Called again after each loss of the daemon. */
  connect(): Promise<void>;
  /** What is readable when `dispatch` has something to do; only between `connect` and `disconnect`. */
  readonly descriptor: number;
  /** Takes what has arrived; throws where the daemon is gone. */
  dispatch(): Promise<void>;
  /** Carries out what the owner asks for; its arguments and the result are what can be posted to a thread. */
  request(name: string, argument: unknown): Promise<unknown>;
  /** Ends what `connect` has begun. */
  disconnect(): Promise<void>;
  /** Gives back all memory and libraries. */
  close(): void;
}

/** What a service is made with. */
export interface ServiceParts {
  readonly native: Native;
  /** Tells the owner of the connection something. */
  readonly emit: (event: unknown) => void;
}

/** Makes a service; throws where its library is missing. */
export type ServiceMaker = (parts: ServiceParts) => Service;

/** A library of Corosync, and what a connection to its service needs. */
export interface LibraryDescription<Call extends string> {
  /** The name of the file. */
  readonly file: string;
  /** All names of its functions begin with this: `cpg` for `cpg_join` and others. */
  readonly prefix: string;
  /** The functions that this service alone uses, without their prefix. */
  readonly calls: Readonly<Record<Call, NativeSignature>>;
  /** Memory for the structs and texts of its calls. It begins at `ownAt`. */
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
/** Where a call puts a number that it returns. */
export const numberAt = 8;
/** Where the memory of a service begins. */
export const ownAt = 16;

/** The part that all services share: the library, its memory, the handle of the connection, and the daemon's events. */
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

  /** Begins a connection by `initializeBy`. */
  abstract connect(): Promise<void>;

  /** Connects by a call whose first parameter is where the handle goes. `begin`: what belongs to the connection, too. */
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

  /** The address of a place in the memory. */
  protected at(offset: number): bigint {
    return this.#memory.address + BigInt(offset);
  }

  /** Makes a callback that lives as long as this service; returns its address. */
  protected callback(...how: Parameters<Native["callback"]>): bigint {
    const callback = this.#native.callback(...how);
    this.#callbacks.push(callback);
    return callback.address;
  }

  /** Calls a function, with the handle before `parameters`. Throws unless it succeeds, or returns one of `also`. */
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

/** The error of a call that returned `status`, a `cs_error_t`. */
function corosyncError(call: string, status: number): SamError {
  return new SamError(codes[status] ?? "LIBRARY", `${call}() failed with cs_error_t ${status}`, {
    cause: status,
  });
}

/** True if an error says that the daemon is gone: the connection is of no use any more. */
export function isGone(error: unknown): boolean {
  return error instanceof SamError && (error.cause === 2 || error.cause === 9);
}

/** All integers of C are as the processor has them: little-endian wherever Corosync and these runtimes meet. */
export const little = true;
