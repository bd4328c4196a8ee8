/** The type of `Sam`, with which a program registers, sends heartbeats and stores data. */
import type { Signal } from "../core/signals.ts";
import type { InheritedSocket } from "../runtime/launch.ts";

export type { InheritedSocket } from "../runtime/launch.ts";

/**
 * A function that SAM calls once per time interval to learn whether the program is healthy.
 *
 * The program is unhealthy if the function returns (or resolves to) `false` or a number other than 0, throws, rejects, or
 * does not answer within the time interval. Every other answer is healthy, `undefined` included.
 */
export type HealthCheck = () => unknown;

/**
 * The state of a `Sam`.
 *
 * - `initialized`: `register()` has not resolved yet.
 * - `registered`: this process is an instance of the program, and is not watched.
 * - `started`: SAM watches this process.
 * - `finalized`: SAM does not watch this process any more, and every call fails.
 */
export type SamState = "initialized" | "registered" | "started" | "finalized";

/** Options of `start()`. */
export interface StartOptions {
  /** Aborts `start()`, which then rejects with INTERRUPT. Useful where `start()` may wait for quorum. Default none. */
  readonly signal?: AbortSignal | undefined;
}

/** Bytes that the server stores for the instances of a program. They survive restarts, but not the end of the server. */
export interface SamData {
  /** Number of stored bytes. Throws BAD_HANDLE after `finalize()`. Source: `sam_data_getsize(3)`. */
  readonly size: number;
  /**
   * Stores a copy of `bytes` in place of the previous data. `null` deletes the data.
   *
   * Resolves when the server has the data: a crash right after that does not lose it. `store()` before `register()` sets the
   * initial data of the first instance. Every later instance starts with the data of the instance before it, and such a
   * `store()` has no effect there.
   *
   * Rejects with BAD_HANDLE after `finalize()`, INVALID_PARAM if `bytes` is not a `Uint8Array` or is detached, TOO_BIG above the
   * option `maxDataSize`, NO_MEMORY, TIMEOUT or LIBRARY (as described at `Sam`). Source: `sam_data_store(3)`.
   */
  store(bytes: Uint8Array | null): Promise<void>;
  /**
   * Returns a copy of the stored bytes. Throws BAD_HANDLE after `finalize()`, or NO_MEMORY.
   * Source: `sam_data_restore(3)`.
   */
  restore(): Uint8Array;
}

/**
 * The connection of a program to its SAM server. `initialize()` creates it.
 *
 * A call that the current state does not allow throws or rejects with BAD_HANDLE. A call that needs an answer from the server
 * rejects with TIMEOUT after 10 seconds without one (except `start()` while it waits for quorum, and `register()` in a spare),
 * and with LIBRARY if the server has ended.
 */
export interface Sam {
  /** The current state. It decides which calls are allowed. */
  readonly state: SamState;
  /** Number of this instance: 1 for the first one, +1 for each later one. Null until `register()` resolves. */
  readonly instanceId: number | null;
  /**
   * Aborts when this instance is about to be ended, or when its server has ended.
   *
   * The reason is a `SamError` with the code INTERRUPT for a recovery, a stop or a restart, and LIBRARY if the server has ended.
   * The signal aborts before or together with the warn signal (by default SIGTERM), and needs no signal handler. But the
   * warn signal ends a process that does not handle it. To finish work first, handle it too.
   */
  readonly signal: AbortSignal;
  /** Bytes that the server stores for this instance and later ones. */
  readonly data: SamData;
  /**
   * Listening sockets that the server holds for the program (option `listen`), for `server.listen({ fd })`. Empty without the
   * option, and in processes that the program starts.
   */
  readonly sockets: readonly InheritedSocket[];
  /**
   * Registers this process as an instance of the program, and resolves to the instance id.
   *
   * The first process of a program becomes the SAM server instead: it starts the program again, and its `register()` never
   * resolves. Therefore all code before `register()` runs in the server and in every instance.
   *
   * Rejects with BAD_HANDLE (already registered), LIBRARY (no connection to the server), ACCESS (a permission is missing),
   * TIMEOUT, MESSAGE_ERROR (no valid answer, for example from another version of SAM), NO_MEMORY (for the stored data),
   * INTERRUPT (`finalize()` was called) or NOT_SUPPORTED (the program cannot be started again). Source: `sam_register(3)`.
   */
  register(): Promise<number>;
  /**
   * Starts the watch: from now on, a missed deadline or the end of this process is a failure.
   *
   * With the option `quorum`, `start()` waits until the cluster is quorate, without a time limit. `signal` ends the wait, and
   * `start()` may then be called again.
   *
   * Rejects with BAD_HANDLE unless registered, INVALID_PARAM if `signal` is not an AbortSignal, and INTERRUPT if `signal`,
   * `finalize()`, or a request to stop or restart the program ended the wait. If the quorum source cannot work here, it rejects
   * with the error of the source, for example ACCESS, LIBRARY or NOT_SUPPORTED. Source: `sam_start(3)`.
   */
  start(options?: StartOptions): Promise<void>;
  /**
   * Stops the watch: from now on, the end of this process is an ordinary exit. Rejects with BAD_HANDLE unless started.
   * Source: `sam_stop(3)`.
   */
  stop(): Promise<void>;
  /**
   * Sends a heartbeat. The call is synchronous, so it also works in a loop that never yields to the event loop.
   *
   * Throws BAD_HANDLE unless started. While `stop()` waits for its answer, the call is still allowed. Throws LIBRARY if the
   * server has ended; with the option `serverLost: "continue"`, the call then does nothing. Source: `sam_hc_send(3)`.
   */
  heartbeat(): void;
  /**
   * Sets the health check, which SAM calls once per time interval. `null` removes it: from then on, the program must call
   * `heartbeat()` itself.
   *
   * While there is a health check, SAM also watches the event loop, and the program need not call `heartbeat()`.
   *
   * Throws BAD_HANDLE before `register()` and while started. Throws INVALID_PARAM if `check` is not a function, if the time
   * interval is 0, or for `null` before any check was set. Source: `sam_hc_callback_register(3)`.
   */
  setHealthCheck(check: HealthCheck | null): void;
  /**
   * Records what the program is about to do: at most 1,024 bytes of text. If this instance fails, its last note is part of
   * the evidence.
   *
   * The call is synchronous, so it also works in a loop that never yields to the event loop. Over the transport `shm`, it takes
   * about a microsecond, and no note is lost. Over other transports, a note is a message, and SAM skips some notes if there are
   * more than a thousand per second. Without a connection to a server, the call does nothing.
   *
   * Throws BAD_HANDLE after `finalize()`, INVALID_PARAM if `text` is not a string, TOO_BIG above 1,024 bytes.
   */
  note(text: string): void;
  /**
   * Sets the signal that warns this instance and later ones before SIGKILL. `"SIGKILL"` leaves out the warning.
   *
   * Rejects with BAD_HANDLE after `finalize()`, and INVALID_PARAM if `signal` is not a signal name.
   * Source: `sam_warn_signal_set(3)`.
   */
  setWarnSignal(signal: Signal): Promise<void>;
  /**
   * Marks the program as failed. The server kills this process without a warning, starts no other, and the cluster map shows
   * `failed`.
   *
   * Rejects with BAD_HANDLE before `register()`, and INVALID_PARAM without the option `clusterMap`. Source: `sam_mark_failed(3)`.
   */
  markFailed(): Promise<void>;
  /**
   * Ends the watch for good. The process may continue, without the protection of SAM, and every later call fails.
   *
   * Rejects with BAD_HANDLE after an earlier `finalize()`. Source: `sam_finalize(3)`.
   */
  finalize(): Promise<void>;
  /** Calls `finalize()`, unless that has been called already. */
  [Symbol.asyncDispose](): Promise<void>;
}
