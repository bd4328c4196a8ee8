// SAM's support for Corosync passes the conformance checks of quorum sources and cluster maps.
import { corosyncClusterMap, corosyncQuorum } from "../../src/corosync/mod.ts";
import { clusterMapConformance, quorumConformance } from "../../src/testing/mod.ts";
import { clusterTest } from "../support/corosync.ts";

clusterTest("corosync passes the conformance checks of quorum sources", async (_stage, node) => {
  const checks = quorumConformance(corosyncQuorum(), {
    set: (quorate) => node.setQuorate(quorate),
  });
  for (const { run } of checks) await run();
});

clusterTest("corosync passes the conformance checks of cluster maps", async (_stage, node) => {
  const checks = clusterMapConformance(corosyncClusterMap(), {
    read: (key) => node.read(key),
    async restart() {
      await node.kill();
      await node.start();
    },
  });
  for (const { run } of checks) await run();
});
