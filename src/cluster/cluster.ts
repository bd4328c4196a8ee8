/**
 * What SAM asks of a cluster: whether it is quorate, and a map to publish the state of a process in. Two small
 * interfaces, so that Corosync is one implementation among others.
 * @module
 */

/** Says whether the cluster is quorate (Corosync: libquorum). */
export interface QuorumSource {
  /**
   * Begins to watch. `onChange` is called with the present state as soon as it is known, and at each change. Returns, or
   * resolves to, the end of the watch. While nothing was said the cluster counts as not quorate.
   */
  watch(onChange: (quorate: boolean) => void): (() => void) | Promise<() => void>;
}

/** A map of keys that the whole cluster can read (Corosync: libcmap). */
export interface ClusterMap {
  /** Sets a key; a bigint is an unsigned 64-bit number, anything else a text. */
  set(key: string, value: string | bigint): void | Promise<void>;
  /** Deletes a key; one that is missing is no error. */
  delete(key: string): void | Promise<void>;
}
