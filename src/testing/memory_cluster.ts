/** A quorum source and a cluster map in memory, for tests. */
import type { ClusterMap, QuorumSource } from "../api/cluster.ts";

/** A quorum source whose state the test sets. */
export interface MemoryQuorum extends QuorumSource {
  /** True if the cluster is quorate. Setting it reports the change to all watches. */
  quorate: boolean;
}

/**
 * Makes a quorum source whose state the test sets. `quorate` is the first state. Default true.
 *
 * ```ts
 * import { memoryQuorum } from "@x/sam/testing";
 *
 * const quorum = memoryQuorum(false);
 * quorum.quorate = true; // every waiting start() resolves
 * ```
 */
export function memoryQuorum(quorate = true): MemoryQuorum {
  const watchers = new Set<(quorate: boolean) => void>();
  let now = quorate;
  return {
    get quorate() {
      return now;
    },
    set quorate(value) {
      if (value === now) return;
      now = value;
      for (const onChange of watchers) onChange(value);
    },
    watch(onChange) {
      const watcher = (quorate: boolean) => onChange(quorate);
      watchers.add(watcher);
      onChange(now);
      return () => void watchers.delete(watcher);
    },
  };
}

/** A cluster map whose keys the test reads. */
export interface MemoryClusterMap extends ClusterMap {
  /** The present keys and values. */
  readonly entries: ReadonlyMap<string, string | bigint>;
}

/**
 * Makes a cluster map whose keys the test reads.
 *
 * ```ts
 * import { memoryClusterMap } from "@x/sam/testing";
 *
 * const map = memoryClusterMap();
 * await map.set("resources.process.1.state", "running");
 * if (map.entries.size !== 1) throw new Error("unreachable");
 * ```
 */
export function memoryClusterMap(): MemoryClusterMap {
  const entries = new Map<string, string | bigint>();
  return {
    entries,
    set: (key, value) => void entries.set(key, value),
    delete: (key) => void entries.delete(key),
  };
}
