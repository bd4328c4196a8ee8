/** The requests and answers on a control socket, each a line of JSON. */
import type { SamErrorCode } from "../../errors.ts";

/** A request to a server. */
export type Request =
  | { readonly ask: "status" }
  | { readonly ask: "events"; readonly follow: boolean }
  | { readonly ask: "restart" | "stop"; readonly program?: string }
  | { readonly ask: "signal"; readonly program?: string; readonly signal: string };

/**
 * The answer of a server: the result of the request, or an error. Events come as they are, and `ok` after the last one. The
 * client closes the connection then. If the server closed it, events that are still on their way would be lost.
 */
export interface Answer {
  readonly ok?: unknown;
  readonly error?: { readonly code: SamErrorCode; readonly message: string };
}
