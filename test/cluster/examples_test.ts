// Runs the examples that need a cluster, and the command in docs/how-to/cluster.md, with a real Corosync.
import { assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { corosyncClusterMap } from "../../src/corosync/mod.ts";
import { clusterTest, tool } from "../support/corosync.ts";
import { examples, runExample } from "../support/example.ts";
import { eventually } from "../support/processes.ts";
import { documentation, newest } from "../support/runtimes.ts";

for (const example of examples.filter(({ kind }) => kind === "cluster")) {
  const name = `the example ${example.name} of ${example.file} serves`;
  clusterTest(name, () => runExample(example), { leg: newest });
}

clusterTest("the command in docs/how-to/cluster.md shows the keys of a process", async (stage) => {
  const explanation = readFileSync(join(documentation, "cluster.md"), "utf8");
  const howTo = readFileSync(join(documentation, "how-to/cluster.md"), "utf8");
  const blocks = [...howTo.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, block]) => block!.trim());
  assertEquals(blocks.length, 1);
  const plan = { timeInterval: 0, recoveryPolicy: "quit", steps: ["start", "exit"] };
  stage.supervise("corosync/program", {
    timeInterval: 0,
    recoveryPolicy: "quit",
    clusterMap: corosyncClusterMap(),
  }, { args: [JSON.stringify(plan)] });
  stage.go("1.1 start");
  await eventually("all keys of the table", async () => {
    const shown = await tool("sh", "-c", blocks[0]!);
    const keys = [...shown.matchAll(/^resources\.process\.(\d+)\.(\w+) \((\w+)\) = (.*)$/gm)]
      .map(([, pid, name, type]) => `${Number(pid) === process.pid} ${name} ${type}`);
    const documented = [...explanation.matchAll(/^\| `(\w+)` +\| (\w+) +\|/gm)]
      .map(([, name, type]) => `true ${name} ${type}`);
    return shown.includes("state (str) = running") &&
      keys.sort().join() === documented.sort().join();
  });
}, { leg: "node26" });
