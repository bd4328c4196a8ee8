/** The states, inputs and effects of the state machine of the active process. */
import type { SamErrorCode } from "../../errors.ts";
import type { ClientMessage, ServerMessage } from "../wire.ts";
import type { Signal } from "../signals.ts";

/** Where the active process is. Most forms in -ing stand between a call and its answer. */
export type ClientState =
  | "initialized"
  /** `register()` has made this process the server of its program. */
  | "serving"
  /** `register()` connects to the server. */
  | "connecting"
  | "registering"
  | "registered"
  | "starting"
  | "started"
  | "stopping"
  | "finalizing"
  | "finalized";

/** The calls of `Sam` that depend on the state. */
export type ClientCall =
  | "register"
  | "setHealthCheck"
  | "start"
  | "stop"
  | "heartbeat"
  | "setWarnSignal"
  | "data.size"
  | "data.store"
  | "data.restore"
  | "note"
  | "markFailed"
  | "finalize";

/** What happens to the active process. The `id` of a call is the caller's: it comes back in `resolve` or `reject`. */
export type ClientInput =
  /** `register()` begins: by connecting to the server, or by becoming it. */
  | { readonly type: "connect" | "serve" }
  /** `register()` has failed before there was a link. */
  | { readonly type: "registerFailed" }
  /** `register()` has connected. */
  | {
    readonly type: "register";
    readonly id: number;
    readonly pid: number;
    readonly notice: string;
    /** True if the link keeps data without a message. */
    readonly keeps?: boolean;
    /** The last id that a preload has used on the link. */
    readonly lastId?: number;
  }
  | { readonly type: "start" | "stop" | "finalize" | "markFailed"; readonly id: number }
  /** Ends the `start` of this id early. */
  | { readonly type: "interruptStart"; readonly id: number }
  | { readonly type: "setWarnSignal"; readonly id: number; readonly signal: Signal }
  | { readonly type: "store"; readonly id: number; readonly bytes: Uint8Array }
  /** The answers to `keep`: the link has the bytes of this call, or had no room for them. */
  | { readonly type: "kept" | "unkept"; readonly id: number }
  | { readonly type: "note"; readonly text: string }
  | { readonly type: "useHealthCheck"; readonly on: boolean }
  | { readonly type: "checked"; readonly healthy: boolean; readonly detail: string }
  | { readonly type: "message"; readonly message: ServerMessage }
  | { readonly type: "linkEnd"; readonly detail: string }
  /** The program takes the link from its preload, whose part ends here. */
  | { readonly type: "handOver" }
  | { readonly type: "tick" };

/** What the shell must do. */
export type ClientEffect =
  | { readonly type: "send"; readonly message: ClientMessage }
  | { readonly type: "resolve"; readonly id: number }
  | {
    readonly type: "reject";
    readonly id: number;
    readonly code: SamErrorCode;
    readonly message: string;
  }
  /** Leave the bytes with the link, and answer at once, with `kept` or `unkept`. */
  | { readonly type: "keep"; readonly id: number; readonly bytes: Uint8Array }
  /** Tell the server how the stack of this process can be captured while its event loop is blocked. */
  | { readonly type: "tellStackAccess" }
  /** Confirm the event loop to the server. */
  | { readonly type: "confirm" }
  /** Call the health check. */
  | { readonly type: "check" }
  /** Abort the signal of the program: a recovery is planned, or the server is gone. */
  | { readonly type: "abort"; readonly code: SamErrorCode; readonly message: string }
  | { readonly type: "disconnect" }
  /** End the process: the server is gone, and the process must not outlive it. */
  | { readonly type: "exit" };

/** The options of the program, in force until the server's `welcome`. */
export interface ClientSettings {
  readonly timeInterval: number;
  readonly maxDataSize: number;
}

/** The options in force. After `register()`, they are the server's. */
export type ClientOptions =
  & ClientSettings
  & Omit<
    ServerMessage & { readonly type: "welcome" },
    "type" | "version" | "id" | "instanceId" | "first" | "warnSignal" | "dataSize"
  >;
