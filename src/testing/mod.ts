/**
 * Conformance checks for your own transport, quorum source or cluster map, and implementations of them in memory for tests.
 *
 * ```ts
 * import { memoryTransport, transportConformance } from "@x/sam/testing";
 *
 * for (const check of transportConformance(memoryTransport())) await check.run();
 * ```
 *
 * @module
 */
export type { ConformanceCheck } from "./conformance.ts";
export { transportConformance } from "./transport_conformance.ts";
export type { ConformanceOptions } from "./transport_pair.ts";
export { servePeer } from "./transport_peer.ts";
export {
  clusterMapConformance,
  type ClusterMapConformanceOptions,
  quorumConformance,
  type QuorumConformanceOptions,
} from "./cluster_conformance.ts";
export {
  type MemoryClusterMap,
  memoryClusterMap,
  type MemoryQuorum,
  memoryQuorum,
} from "./memory_cluster.ts";
export {
  type MemoryOptions,
  type MemoryTransport,
  memoryTransport,
} from "../../transports/memory.ts";
export type { ClusterMap, QuorumSource } from "../api/cluster.ts";
export type { ModuleProgram, ProgramOptions, RuntimeChoice } from "../api/program.ts";
export type {
  Child,
  Clock,
  Command,
  Exit,
  Files,
  FileStatus,
  Listener,
  Output,
  OwnProcess,
  PassedSocket,
  Processes,
  RandomFile,
  Runtime,
  RuntimeName,
  Sockets,
  Stdio,
  Stream,
  SystemFiles,
  TemporaryFiles,
} from "../runtime/runtime.ts";
export type {
  Endpoint,
  Link,
  LinkSink,
  StoredData,
  Transport,
  TransportRuntime,
} from "../../transports/transport.ts";
export type { Signal } from "../core/signals.ts";
