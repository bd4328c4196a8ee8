/** The requests and answers on a control socket. Each is one line of JSON. */
import type { SamErrorCode } from "../../errors.ts";
import type { ExitReason } from "../command_line/exit.ts";

export type Request =
  | { readonly ask: "status" }
  | { readonly ask: "events"; readonly follow: boolean }
  | { readonly ask: "restart" | "reload" | "stop"; readonly program?: string }
  | { readonly ask: "signal"; readonly program?: string; readonly signal: string };

/**
 * The answer of a server: the result of the request, or an error. The answer to `events` is one line for each event, and then a
 * line with `ok`. The client, not the server, closes the connection, because a close by the server could discard the last events.
 */
export interface Answer {
  readonly ok?: unknown;
  readonly error?: {
    readonly code: SamErrorCode;
    readonly message: string;
    /** The exit code of the command. Left out if it follows from `code`. */
    readonly reason?: ExitReason;
  };
}

/** The answer to `reload`, in `ok`. */
export interface ReloadAnswer {
  /** The names of the programs and instances that were reloaded. */
  readonly reloaded: readonly string[];
  /** The report about the first one that was not reloaded; null if all were. */
  readonly failure: readonly string[] | null;
  /** The changes of the programs, if the configuration was read again. */
  readonly changes?: {
    /** The configuration file. */
    readonly file: string;
    readonly started: readonly string[];
    readonly stopped: readonly string[];
  };
}
