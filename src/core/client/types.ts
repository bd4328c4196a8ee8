/** The states, inputs and effects of the state machine of the active process. */
import type { SamErrorCode } from "../../errors.ts";
import type { ClientMessage, ServerMessage } from "../wire.ts";
import type { Signal } from "../signals.ts";

/** The state of the active process. `registering`, `starting`, `stopping` and `finalizing` last from the call to its answer. */
export type ClientState =
  | "initialized"
  /** `register()` has turned this process into the server of its program. */
  | "serving"
  /** `register()` is connecting to the server. */
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

/** An input of the active process. The caller chooses the `id` of a call, and gets it back in `resolve` or `reject`. */
export type ClientInput =
  /** `register()` begins to connect to the server, or to become the server. */
  | { readonly type: "connect" | "serve" }
  /** `register()` has failed before there was a link. */
  | { readonly type: "registerFailed" }
  /** `register()` has connected. */
  | {
    readonly type: "register";
    readonly id: number;
    readonly pid: number;
    readonly notice: string;
    /** True if the link can store data without a message. */
    readonly linkStoresData?: boolean;
    /** Id of the last request that a preload has made on the link. */
    readonly lastId?: number;
  }
  | { readonly type: "start" | "stop" | "finalize" | "markFailed"; readonly id: number }
  /** Ends the `start` of this id early. */
  | { readonly type: "interruptStart"; readonly id: number }
  | { readonly type: "setWarnSignal"; readonly id: number; readonly signal: Signal }
  | { readonly type: "store"; readonly id: number; readonly bytes: Uint8Array }
  /** The answers to `storeInLink`: the link has stored the bytes of this call, or had no room for them. */
  | { readonly type: "storedInLink" | "notStoredInLink"; readonly id: number }
  | { readonly type: "note"; readonly text: string }
  | { readonly type: "useHealthCheck"; readonly on: boolean }
  | { readonly type: "checked"; readonly healthy: boolean; readonly detail: string }
  | { readonly type: "message"; readonly message: ServerMessage }
  | { readonly type: "linkEnd"; readonly detail: string }
  /** The program takes over the link. This state machine, which is the preload's, is finished. */
  | { readonly type: "handOver" }
  | { readonly type: "tick" };

/** An effect: an action that active_process.ts carries out. */
export type ClientEffect =
  | { readonly type: "send"; readonly message: ClientMessage }
  | { readonly type: "resolve"; readonly id: number }
  | {
    readonly type: "reject";
    readonly id: number;
    readonly code: SamErrorCode;
    readonly message: string;
  }
  /** Store the bytes in the link, and answer at once with `storedInLink` or `notStoredInLink`. */
  | { readonly type: "storeInLink"; readonly id: number; readonly bytes: Uint8Array }
  /** Send the server a message that says how the stack of this process can be captured while its event loop is blocked. */
  | { readonly type: "sendStackAccess" }
  /** Send an event-loop heartbeat. */
  | { readonly type: "confirm" }
  /** Call the health check. */
  | { readonly type: "check" }
  /**
   * Abort `Sam.signal`: the instance is about to be ended, or the server has ended. If `drain` names a signal, the process must
   * finish its requests and then send itself that signal.
   */
  | {
    readonly type: "abort";
    readonly code: SamErrorCode;
    readonly message: string;
    readonly drain: string;
  }
  /** Accept connections: this replacement takes over. */
  | { readonly type: "accept" }
  | { readonly type: "disconnect" }
  /** End the process: the server has ended, and the process must not outlive it. */
  | { readonly type: "exit" };

/** The options that the program passed to `initialize()`. They apply until `register()` is answered. */
export interface ClientSettings {
  readonly timeInterval: number;
  readonly maxDataSize: number;
}

/** The options that the server sends in its answer to `register()`. They apply from then on. */
export type ClientOptions =
  & ClientSettings
  & Omit<
    ServerMessage & { readonly type: "welcome" },
    "type" | "version" | "id" | "instanceId" | "first" | "warnSignal" | "dataSize"
  >;
