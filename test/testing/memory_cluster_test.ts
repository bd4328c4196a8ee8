// The quorum source and the cluster map in memory pass the conformance checks.
import {
  clusterMapConformance,
  memoryClusterMap,
  memoryQuorum,
  quorumConformance,
} from "../../src/testing/mod.ts";
import { assertEquals } from "@std/assert";
import { setTimeout as sleep } from "node:timers/promises";
import { ClusterBridge } from "../../src/supervisor/cluster_bridge.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { test } from "../support/harness.ts";

const quorum = memoryQuorum();
const map = memoryClusterMap();
const checks = [
  ...quorumConformance(quorum, { set: (quorate) => void (quorum.quorate = quorate) }),
  ...clusterMapConformance(map, { read: (key) => map.entries.get(key) }),
];
for (const { name, run } of checks) test(`in memory: ${name}`, run);

test("a cluster map that does not answer is closed, and no key is written afterwards", async () => {
  const calls: string[] = [];
  let refuse = (_error: Error) => {};
  const clusterMap = {
    set(key: string) {
      calls.push(`set ${key.split(".").at(-1)}`);
      return new Promise<void>((_, reject) => refuse = reject);
    },
    delete: () => Promise.resolve(),
    close() {
      calls.push("close");
      refuse(new Error("closed"));
      return new Promise<void>(() => {});
    },
  };
  const reports: string[] = [];
  const runtime = await loadRuntime();
  const report = (_: unknown, what: string) => void reports.push(what);
  const cluster = new ClusterBridge({ quorum: undefined, clusterMap, runtime }, report, () => {});
  cluster.map({ state: "running", recovery: "quit" });
  await cluster.end();
  await sleep(100); // a pending key would be written in this time
  assertEquals(calls, ["set recovery", "close"]);
  assertEquals(reports, ["cannot leave the cluster"]);
});
