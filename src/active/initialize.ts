/** `initialize()` and `Sam`: what a program calls to be watched. */
import { isTransportName, loadTransport, type TransportName } from "../../transports/builtin.ts";
import type { Transport } from "../../transports/transport.ts";
import { ActiveProcess } from "./active_process.ts";
import type { Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import { checkOptions, type SamOptions } from "../api/options.ts";
import { birth, linkVariable, type OpenedLink, openedLink } from "../runtime/launch.ts";
import { checkPlatform, loadRuntime } from "../runtime/runtime.ts";

/**
 * Called again and again in the active process. Healthy: it returns, or resolves to, `undefined`, `true`, `0` or anything
 * that is no number and not `false`. Unhealthy: `false`, another number, a throw, a rejection, or no answer within the
 * time interval.
 */
export type HealthCheck = () => unknown;

/** Where a `Sam` is. */
export type SamState = "initialized" | "registered" | "started" | "finalized";

/** How to start. */
export interface StartOptions {
  /** Ends the wait for quorum: `start()` rejects with INTERRUPT. */
  readonly signal?: AbortSignal | undefined;
}

/** Bytes that outlive the instance, kept by the server. */
export interface SamData {
  /** How many bytes are stored. Throws BAD_HANDLE. Source: `sam_data_getsize(3)`. */
  readonly size: number;
  /**
   * Stores a copy of `bytes` in place of what was stored; null deletes. Resolved when the server has them, so that they
   * survive a crash in the next instruction. Before `register()` they are the first instance's.
   * Rejects with BAD_HANDLE, INVALID_PARAM, TOO_BIG, NO_MEMORY, TIMEOUT, LIBRARY. Source: `sam_data_store(3)`.
   */
  store(bytes: Uint8Array | null): Promise<void>;
  /** A copy of what is stored. Throws BAD_HANDLE. Source: `sam_data_restore(3)`. */
  restore(): Uint8Array;
}

/**
 * A program that is, or will be, watched by a SAM server. Made by `initialize`.
 *
 * Every call that is not allowed in the present state throws or rejects with BAD_HANDLE; calls that need the server's
 * answer reject with TIMEOUT when it gives none in 10 seconds, and with LIBRARY when it is gone.
 */
export interface Sam {
  /** Where the program is. */
  readonly state: SamState;
  /** Which instance this process is, from 1; null before `register()` resolved. */
  readonly instanceId: number | null;
  /** Aborted, with the reason, when a recovery is planned or the server is gone: the in-band twin of the warn signal. */
  readonly signal: AbortSignal;
  /** Bytes that outlive the instance. */
  readonly data: SamData;
  /**
   * Becomes the active process. The first process of a program becomes the server instead, runs the program again, and
   * its call never resolves: all code before `register()` runs in the server and in every instance.
   * Resolves to the instance id. Rejects with BAD_HANDLE, LIBRARY, ACCESS, TIMEOUT, MESSAGE_ERROR, NOT_SUPPORTED.
   * Source: `sam_register(3)`.
   */
  register(): Promise<number>;
  /**
   * From now on, silence is a failure. With a quorum source, resolved when the cluster is quorate, however long that takes;
   * `signal` ends the wait, and `start()` may be called again.
   * Rejects with BAD_HANDLE, INVALID_PARAM, INTERRUPT (`signal`, `finalize()`, an orderly stop), and where quorum can never be
   * known ACCESS, LIBRARY, NOT_SUPPORTED. Source: `sam_start(3)`.
   */
  start(options?: StartOptions): Promise<void>;
  /** From now on, the end of this process is an ordinary end. Rejects with BAD_HANDLE. Source: `sam_stop(3)`. */
  stop(): Promise<void>;
  /**
   * "I am healthy now." Synchronous, also in a loop that never yields. Throws BAD_HANDLE (not started; while `stop()` is on its
   * way it is allowed), and LIBRARY when the server is gone; with `serverLost: "continue"` it does nothing then.
   * Source: `sam_hc_send(3)`.
   */
  heartbeat(): void;
  /**
   * Has `check` called about every time interval, and the event loop watched meanwhile; null: back to `heartbeat()`.
   * Throws BAD_HANDLE (not registered, or started) and INVALID_PARAM (no function, a time interval of 0, or null before
   * there was a check). Source: `sam_hc_callback_register(3)`.
   */
  setHealthCheck(check: HealthCheck | null): void;
  /**
   * A breadcrumb: what the program is about to do, at most 1,024 bytes of text. The last one is part of the evidence when this
   * instance is given up or crashes. Synchronous, also in a loop that never yields. Over `shm` it costs about a microsecond
   * and none is lost; over other transports it is a message, and of more than a thousand in a second some are left out.
   * Without a server it does nothing. Throws BAD_HANDLE, INVALID_PARAM, TOO_BIG.
   */
  note(text: string): void;
  /** Changes the signal that warns of a recovery. Rejects with BAD_HANDLE, INVALID_PARAM. Source: `sam_warn_signal_set(3)`. */
  setWarnSignal(signal: Signal): Promise<void>;
  /**
   * Gives up: this process is killed without a warning and not replaced, and the cluster map says `failed`.
   * Rejects with BAD_HANDLE, INVALID_PARAM (no cluster map). Source: `sam_mark_failed(3)`.
   */
  markFailed(): Promise<void>;
  /** Ends the watch for good; the process may go on, unprotected. Rejects with BAD_HANDLE. Source: `sam_finalize(3)`. */
  finalize(): Promise<void>;
  /** Finalizes, where that is still to be done. */
  [Symbol.asyncDispose](): Promise<void>;
}

let initialized = false;

/**
 * The first call of a program that wants to be watched; once per process.
 *
 * ```ts serves
 * import { initialize } from "@x/sam";
 *
 * const sam = await initialize({ timeInterval: 2000, recoveryPolicy: "restart" });
 * const instanceId = await sam.register(); // from here on: the active process
 * sam.setHealthCheck(() => true);
 * await sam.start();
 * console.log(`instance ${instanceId} runs`);
 * ```
 *
 * Rejects with BAD_HANDLE (called before), INVALID_PARAM, NOT_SUPPORTED (a worker thread; neither Linux nor macOS), ACCESS (Deno
 * without `--allow-env=SAM_LINK`). One that fails does not use up the call. Source: `sam_initialize(3)`.
 */
export async function initialize(options: SamOptions): Promise<Sam> {
  if (initialized) {
    throw new SamError("BAD_HANDLE", "initialize() was called before: once per process");
  }
  initialized = true;
  try {
    return await begin(options);
  } catch (error) {
    initialized = false;
    throw error;
  }
}

/**
 * For a preload: registers this process ahead of its program, which takes the link when it registers itself. Undefined
 * where no server started this process; else as `initialize` and `register`.
 */
export async function registerAhead(): Promise<ActiveProcess | undefined> {
  if (birth.link === undefined && !birth.denied) return undefined;
  const sam = await begin({ timeInterval: 0, recoveryPolicy: "restart" }); // the server's win
  await sam.register();
  sam.offer();
  return sam;
}

async function begin(options: SamOptions): Promise<ActiveProcess> {
  checkPlatform();
  const checked = checkOptions(options);
  const address = serverAddress(checked.transport);
  // The active process knows its transport now; a server's is loaded with the server.
  const loading = address && !address.opened ? loadTransport(address.transport) : undefined;
  const runtime = await loadRuntime();
  if (!runtime.isMainThread) {
    throw new SamError(
      "NOT_SUPPORTED",
      "initialize() in a worker thread: call it in the main thread of the program",
    );
  }
  if (birth.denied) {
    throw new SamError(
      "ACCESS",
      `cannot read the environment variable ${linkVariable}: run Deno with --allow-env=${linkVariable}`,
      { cause: birth.denied },
    );
  }
  const transport = await loading;
  const server = address?.opened ??
    (address && transport && { address: address.address, transport });
  return new ActiveProcess(runtime, checked, server);
}

/** How to reach the server that started this process; undefined when there is none. */
function serverAddress(
  own: TransportName | Transport,
):
  | {
    transport: TransportName | Transport;
    address: string;
    opened?: OpenedLink;
  }
  | undefined {
  const opened = openedLink();
  if (opened?.taken) {
    throw new SamError(
      "BAD_HANDLE",
      "another copy of @x/sam in this program has registered it: let all parts of it use one",
    );
  }
  if (opened) return { transport: transportOf(opened.transport, own), address: "", opened };
  if (birth.link === undefined) return undefined;
  const colon = birth.link.indexOf(":");
  const name = birth.link.slice(0, colon);
  const address = birth.link.slice(colon + 1);
  if (colon < 1 || address === "") {
    throw new SamError(
      "INVALID_PARAM",
      `the environment variable ${linkVariable} is "${birth.link}", which no server sets: unset it`,
    );
  }
  return { transport: transportOf(name, own), address };
}

/** The transport of the server, which may be the program's own. */
function transportOf(name: string, own: TransportName | Transport): TransportName | Transport {
  const ownName = typeof own === "string" ? own : own.name;
  if (name === ownName) return own;
  if (typeof own === "string" && isTransportName(name)) return name;
  throw new SamError(
    "INVALID_PARAM",
    `the server uses the transport "${name}", this program brings "${ownName}": pass the transport of the server`,
  );
}
