/** What goes into the state machine of the active process, and what comes out. */
import type { SamErrorCode } from "../../errors.ts";
import type { ClientMessage, ServerMessage } from "../wire.ts";
import type { Signal } from "../signals.ts";

/** Where the active process is. The forms in -ing stand between a call and its answer. */
export type ClientState =
  | "initialized"
  | "registering"
  | "registered"
  | "starting"
  | "started"
  | "stopping"
  | "finalizing"
  | "finalized";

/** What the active process is told. The `id` of a call is the caller's; it comes back in `resolve` or `reject`. */
export type ClientInput =
  | {
    readonly type: "register";
    readonly id: number;
    readonly pid: number;
    readonly notice: string;
    /** Whether the link keeps data without a message. */
    readonly keeps?: boolean;
    /** The last id that was used on the link, where a preload had it before. */
    readonly lastId?: number;
  }
  | { readonly type: "start" | "stop" | "finalize" | "markFailed"; readonly id: number }
  /** The `start` of this id is called off. */
  | { readonly type: "interruptStart"; readonly id: number }
  | { readonly type: "setWarnSignal"; readonly id: number; readonly signal: Signal }
  | { readonly type: "store"; readonly id: number; readonly bytes: Uint8Array }
  /** There was no room for what was to be kept: from now on, data go by messages. */
  | { readonly type: "unkept"; readonly id: number; readonly bytes: Uint8Array }
  | { readonly type: "useHealthCheck"; readonly on: boolean }
  | { readonly type: "checked"; readonly healthy: boolean; readonly detail: string }
  | { readonly type: "message"; readonly message: ServerMessage }
  | { readonly type: "linkEnd"; readonly detail: string }
  | { readonly type: "tick" };

/** What must be done. */
export type ClientEffect =
  | { readonly type: "send"; readonly message: ClientMessage }
  | { readonly type: "resolve"; readonly id: number }
  | {
    readonly type: "reject";
    readonly id: number;
    readonly code: SamErrorCode;
    readonly message: string;
  }
  /** Leave the bytes with the server; then set `data` and resolve the call, or say that they are unkept. */
  | { readonly type: "keep"; readonly id: number; readonly bytes: Uint8Array }
  /** Confirm the event loop to the server. */
  | { readonly type: "confirm" }
  /** Call the health check. */
  | { readonly type: "check" }
  /** A recovery is planned, or the server is gone. */
  | { readonly type: "abort"; readonly code: SamErrorCode; readonly message: string }
  | { readonly type: "disconnect" }
  /** The server is gone, and the process is not to outlive it. */
  | { readonly type: "exit" };

/** What the program asked for, in force until the server's `welcome`. */
export interface ClientSettings {
  readonly timeInterval: number;
  readonly maxDataSize: number;
}
