/** What a service of Corosync (quorum, cluster map, process groups) is to the loop that runs them all. */
import { SamError, type SamErrorCode } from "../../errors.ts";
import type { Native, NativeFunction } from "../../ffi/load_c_library.ts";

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

/** `CS_OK` */
export const csOk = 1;
/** `CS_ERR_NOT_EXIST` */
export const csNotExist = 12;
/** `CS_DISPATCH_ALL` */
export const dispatchAll = 2;

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
export function corosyncError(call: string, status: number): SamError {
  return new SamError(codes[status] ?? "LIBRARY", `${call}() failed with cs_error_t ${status}`, {
    cause: status,
  });
}

/** Whether an error says that the daemon is gone: the connection is of no use any more. */
export function isGone(error: unknown): boolean {
  return error instanceof SamError && (error.cause === 2 || error.cause === 9);
}

/** Calls a function that returns a `cs_error_t`; throws unless it succeeds, or answers one of `also`. */
export async function checked(
  name: string,
  call: NativeFunction,
  args: readonly (number | bigint)[],
  ...also: readonly number[]
): Promise<number> {
  const status = await call(...args) as number;
  if (status !== csOk && !also.includes(status)) throw corosyncError(name, status);
  return status;
}

/** All integers of C are as the processor has them: little-endian wherever Corosync and these runtimes meet. */
export const little = true;
