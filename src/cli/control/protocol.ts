/** The requests and answers on a control socket, each a line of JSON. */
import type { SamErrorCode } from "../../errors.ts";

/** What a server is asked. */
export type Request =
  | { readonly ask: "status" }
  | { readonly ask: "events"; readonly follow: boolean }
  | { readonly ask: "restart" | "stop"; readonly program?: string }
  | { readonly ask: "signal"; readonly program?: string; readonly signal: string };

/**
 * What a server answers: a request that it has carried out, or why not. Events come as they are, and `ok` after the last of
 * them: whoever has read it closes the link, for a server that did so would throw away what is still on its way.
 */
export interface Answer {
  readonly ok?: unknown;
  readonly error?: { readonly code: SamErrorCode; readonly message: string };
}
