/**
 * The one error class of the library, and its codes.
 * @module
 */

/**
 * Why a call failed. The names are those of Corosync's `cs_error_t`, without `CS_ERR_`.
 *
 * | code | when |
 * | --- | --- |
 * | `BAD_HANDLE` | the call is not allowed in this state |
 * | `INVALID_PARAM` | an argument is wrong |
 * | `LIBRARY` | the operating system or the runtime failed, or the peer is gone |
 * | `TRY_AGAIN` | temporarily unavailable; the same call may work later |
 * | `TIMEOUT` | no answer from the server within the limit |
 * | `ACCESS` | permission denied: a Deno permission, a socket's owner or mode |
 * | `INTERRUPT` | ended by an AbortSignal, or by a recovery that is under way |
 * | `NOT_SUPPORTED` | this runtime or platform cannot do it |
 * | `MESSAGE_ERROR` | a peer with the wrong token, another protocol version, or a malformed frame |
 * | `NO_MEMORY` | an allocation failed |
 * | `TOO_BIG` | data over the configured maximum |
 */
export type SamErrorCode =
  | "BAD_HANDLE"
  | "INVALID_PARAM"
  | "LIBRARY"
  | "TRY_AGAIN"
  | "TIMEOUT"
  | "ACCESS"
  | "INTERRUPT"
  | "NOT_SUPPORTED"
  | "MESSAGE_ERROR"
  | "NO_MEMORY"
  | "TOO_BIG";

/**
 * What every call of this library throws or rejects with: `code` for programs, `message` for people (what happened, to
 * what, and what to do), `cause` where another error is behind it.
 *
 * ```ts
 * import { SamError } from "@x/sam";
 *
 * const error = new SamError("TOO_BIG", "70 bytes stored, 64 allowed: raise maxDataSize");
 * if (error.code !== "TOO_BIG") throw new Error("unreachable");
 * ```
 */
export class SamError extends Error {
  /** Why the call failed. */
  readonly code: SamErrorCode;

  /** Makes an error of the given code. */
  constructor(code: SamErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "SamError";
    this.code = code;
  }
}
