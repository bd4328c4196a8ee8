/**
 * The two interfaces between SAM and a cluster: quorum, and a map of keys that shows the state of a program. Corosync is
 * one implementation.
 * @module
 */
import type { SamError } from "../errors.ts";

/** A source that reports whether the cluster is quorate. With Corosync, this is libquorum. */
export interface QuorumSource {
  /**
   * Starts to watch the quorum, and returns a function that ends the watch. Starting and ending may be asynchronous.
   *
   * The source calls `onChange` with the current state as soon as it knows it, and at each change. Until the first call, the
   * cluster counts as not quorate. A source that loses sight of the cluster must call `onChange(false)`. The source calls
   * `onProblem` with the reason why it cannot know the state, once for each reason. After the end of the watch it calls neither.
   *
   * Throws or rejects if waiting would not help. Then every `start()` of the program rejects with that error.
   */
  watch(
    onChange: (quorate: boolean) => void,
    onProblem?: (error: SamError) => void,
  ): (() => void | Promise<void>) | Promise<() => void | Promise<void>>;
}

/** A map of keys that the whole cluster can read. With Corosync, this is libcmap. */
export interface ClusterMap {
  /**
   * Sets a key. A bigint becomes an unsigned 64-bit number.
   *
   * Rejects with TRY_AGAIN while the map is unavailable. The implementation must then remember the key, and write it and all
   * other keys when the map is available again.
   */
  set(key: string, value: string | bigint): void | Promise<void>;
  /** Deletes a key. A missing key is not an error. */
  delete(key: string): void | Promise<void>;
  /**
   * Returns the time for timestamps in the map, in nanoseconds. It must come from the clock that readers of the map use.
   * Default: the clock of this process.
   */
  now?(): bigint | Promise<bigint>;
  /** Closes the map when supervision is over. Keys that were set remain. A later `set` opens the map again. */
  close?(): void | Promise<void>;
}
