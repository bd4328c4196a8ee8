export {
  type MemoryClusterMap,
  memoryClusterMap,
  type MemoryQuorum,
  memoryQuorum,
} from "./cluster/memory.ts";
export { type MemoryOptions, memoryTransport } from "../transports/memory.ts";
