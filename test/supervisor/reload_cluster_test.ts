// Reloads of programs that must not run twice because of a cluster: with quorum, and with a cluster map.
import { assert, assertEquals } from "@std/assert";
import { memoryClusterMap, memoryQuorum } from "../../src/testing/mod.ts";
import { checkProgram } from "../../src/api/program.ts";
import { checkSuperviseOptions, type SuperviseOptions } from "../../src/api/supervise_options.ts";
import { Fleet } from "../../src/supervisor/fleet.ts";
import type { FleetProgram } from "../../src/supervisor/fleet_program.ts";
import { eventually, lives, processTest, type Stage } from "../support/processes.ts";

/** A program that registers, and says what it does. `version` is in its environment. */
function clustered(
  stage: Stage,
  cluster: Pick<SuperviseOptions, "quorum" | "clusterMap">,
  version: string,
): FleetProgram {
  const how = { args: ["unix", "stays"], env: { VERSION: version } };
  const given = stage.program("supervisor/standby", how);
  const program = checkProgram(given);
  const options = checkSuperviseOptions(
    { timeInterval: 20_000, recoveryPolicy: "restart", restart: { maxDelay: 0 }, ...cluster },
    program,
  );
  return { name: "web", program, given, options, after: [], minReady: 50 };
}

/** Runs a fleet of one program, and ends it after the test. */
async function withFleet(
  program: FleetProgram,
  use: (fleet: Fleet, order: readonly string[]) => Promise<void>,
): Promise<void> {
  const order: string[] = [];
  const fleet = new Fleet([program], "one_for_one");
  fleet.subscribe((_name, { type, instanceId }) => {
    if (["start", "exit", "reloaded", "waiting"].includes(type)) {
      order.push(`${type} ${instanceId}`);
    }
  });
  try {
    await eventually("the first instance", () => fleet.status("web").state === "started");
    await use(fleet, order);
  } finally {
    fleet.stop(null);
    await fleet.finished;
  }
}

for (const changes of [false, true]) {
  processTest(
    `with quorum, a reload ${
      changes ? "with other options " : ""
    }promotes a spare, which starts once the cluster is quorate`,
    async (stage) => {
      const quorum = memoryQuorum();
      const program = clustered(stage, { quorum }, "1");
      await withFleet(program, async (fleet, order) => {
        const old = fleet.status("web").pid!;
        fleet.subscribe((_name, event) => {
          if (event.type === "exit" && event.instanceId === 1) quorum.quorate = false;
        });
        const reload = changes
          ? fleet.change([clustered(stage, { quorum }, "2")])
          : fleet.reloadProgram("web");
        await eventually("the wait for quorum", () => fleet.status("web").state === "waiting");
        assert(!lives(old));
        quorum.quorate = true;
        const { reloaded, failed } = await reload;
        assertEquals([reloaded, failed], [["web"], null]);
        assertEquals(order, ["start 1", "exit 1", "waiting 2", "start 2", "reloaded 2"]);
        assertEquals((await stage.line("registered", 2)).data, [1]);
        quorum.quorate = false; // the new supervision watches quorum
        await eventually("a recovery", () => order.includes("exit 2"));
        quorum.quorate = true;
      });
    },
  );

  processTest(
    `with a cluster map, a reload ${
      changes ? "with other options " : ""
    }leaves the keys of the new instance in the map`,
    async (stage) => {
      const clusterMap = memoryClusterMap();
      const state = () => [...clusterMap.entries].find(([key]) => key.endsWith(".state"))?.[1];
      await withFleet(clustered(stage, { clusterMap }, "1"), async (fleet, order) => {
        await eventually("the first state", () => state() === "running");
        const keys = [...clusterMap.entries.keys()].sort();
        const { failed } = changes
          ? await fleet.change([clustered(stage, { clusterMap }, "2")])
          : await fleet.reloadProgram("web");
        assertEquals([failed, order], [null, ["start 1", "exit 1", "start 2", "reloaded 2"]]);
        await eventually("the state of the new instance", () => state() === "running");
        assertEquals([...clusterMap.entries.keys()].sort(), keys);
      });
    },
  );
}
