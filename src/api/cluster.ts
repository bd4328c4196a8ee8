/**
 * What SAM asks of a cluster: whether it is quorate, and a map to publish the state of a process in. Two small
 * interfaces, so that Corosync is one implementation among others.
 * @module
 */
import type { SamError } from "../errors.ts";

/** Says whether the cluster is quorate (Corosync: libquorum). */
export interface QuorumSource {
  /**
   * Begins to watch. `onChange` is called with the present state as soon as it is known, and at each change; while nothing was
   * said, and when nothing can be known any more, the cluster counts as not quorate. `onProblem` is told why it cannot be
   * known, once for each reason. Returns, or resolves to, the end of the watch, after which neither is called. Throws, or
   * rejects, where waiting would not help; then every `start()` rejects with that error.
   */
  watch(
    onChange: (quorate: boolean) => void,
    onProblem?: (error: SamError) => void,
  ): (() => void | Promise<void>) | Promise<() => void | Promise<void>>;
}

/** A map of keys that the whole cluster can read (Corosync: libcmap). */
export interface ClusterMap {
  /**
   * Sets a key; a bigint is an unsigned 64-bit number, anything else a text. Rejects with TRY_AGAIN where the map is away for
   * now: it remembers the key, and has it when it is back, as it has all others.
   */
  set(key: string, value: string | bigint): void | Promise<void>;
  /** Deletes a key; one that is missing is no error. */
  delete(key: string): void | Promise<void>;
  /** The time in nanoseconds by which those who read the map tell how old a time in it is; default this process's own. */
  now?(): bigint | Promise<bigint>;
  /** Supervision is over. What was set stays; a later `set` opens the map again. */
  close?(): void | Promise<void>;
}
