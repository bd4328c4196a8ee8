/**
 * The error class of the library, and its codes.
 * @module
 */

/**
 * The reason for a failed call. The names are those of Corosync's `cs_error_t`, without the prefix `CS_ERR_`.
 *
 * | code | when |
 * | --- | --- |
 * | `BAD_HANDLE` | the call is not allowed in this state |
 * | `INVALID_PARAM` | an argument or an option is wrong |
 * | `LIBRARY` | the operating system or the runtime failed, or the server has ended |
 * | `TRY_AGAIN` | temporarily unavailable; the same call may work later |
 * | `TIMEOUT` | the server did not answer in time |
 * | `ACCESS` | permission denied, by Deno or by the operating system |
 * | `INTERRUPT` | the call was ended early, or the instance is about to be ended |
 * | `NOT_SUPPORTED` | this runtime or platform cannot do it |
 * | `MESSAGE_ERROR` | the other side sent a wrong token, another protocol version, or a malformed frame |
 * | `NO_MEMORY` | an allocation failed |
 * | `TOO_BIG` | the data or the note is larger than its limit |
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
 * The error class of this library. A call that fails throws a `SamError` or rejects with one.
 *
 * Programs test `code`. People read `message`: what happened, to what, and what to do. `cause` is the error behind it, if any.
 *
 * ```ts
 * import { SamError, supervise } from "@x/sam";
 *
 * try {
 *   supervise({ command: "" }, { recoveryPolicy: "quit" });
 * } catch (error) {
 *   if (error instanceof SamError && error.code === "INVALID_PARAM") console.log(error.message);
 * }
 * ```
 */
export class SamError extends Error {
  /** The reason for the failure. */
  readonly code: SamErrorCode;

  /** Creates an error with a code and a message. */
  constructor(code: SamErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "SamError";
    this.code = code;
  }
}
