// The cluster in memory passes the checks that are for every cluster.
import {
  clusterMapConformance,
  memoryClusterMap,
  memoryQuorum,
  quorumConformance,
} from "../src/testing.ts";
import { test } from "./support/harness.ts";

const quorum = memoryQuorum();
const map = memoryClusterMap();
const checks = [
  ...quorumConformance(quorum, { set: (quorate) => void (quorum.quorate = quorate) }),
  ...clusterMapConformance(map, { read: (key) => map.entries.get(key) }),
];
for (const { name, run } of checks) test(`in memory: ${name}`, run);
