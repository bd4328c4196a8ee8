/** `Sam`: the handle by which a program registers, says that it is healthy, and keeps data. */
import type { Signal } from "../core/signals.ts";

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
