// libsam's own tests, ported: quorum and cluster map. Both are in memory, so the server is this process.
import { setTimeout as sleep } from "node:timers/promises";
import { assert, assertEquals } from "@std/assert";
import { type MemoryClusterMap, memoryClusterMap, memoryQuorum } from "../../src/testing/mod.ts";
import { eventually, processTest, transports } from "../support/processes.ts";

const key = (name: string) => `resources.process.${process.pid}.${name}`;

/** A cluster map whose writes take `ms` milliseconds, or never finish if undefined. */
function slowMap(ms?: number): MemoryClusterMap {
  const map = memoryClusterMap();
  return {
    ...map,
    async set(key, value) {
      await (ms === undefined ? new Promise(() => {}) : sleep(ms));
      await map.set(key, value);
    },
  };
}

for (const transport of transports) {
  processTest(
    `libsam cluster map, ${transport}: each instance finds all keys set when register() resolves`,
    async (stage) => {
      const clusterMap = slowMap(100);
      const options = { timeInterval: 2000, recoveryPolicy: "restart", transport } as const;
      const program = stage.supervise("libsam/cluster_map", { ...options, clusterMap });
      const keys = ["recovery", "poll_period", "state"];
      const values = () => keys.map((name) => clusterMap.entries.get(key(name)));
      await stage.line("ready to start 1");
      assertEquals(values(), ["restart", 2000n, "stopped"]);
      stage.go("to start 1");
      await stage.line("started");
      void program.supervisor.restart();
      await stage.line("ready to start 2");
      assertEquals(values(), ["restart", 2000n, "stopped"]);
    },
  );

  processTest(
    `libsam cluster map, ${transport}: a map that never answers delays only the first register()`,
    async (stage) => {
      const options = { timeInterval: 2000, recoveryPolicy: "restart", transport } as const;
      const program = stage.supervise("libsam/cluster_map", { ...options, clusterMap: slowMap() });
      await stage.line("ready to start 1");
      const waitedMs = Date.now() - program.all("register")[0]!.at;
      assert(waitedMs > 900, `register() was answered after ${waitedMs} ms`);
      void program.supervisor.restart();
      await stage.line("ready to start 2");
      assertEquals(program.all("problem"), []);
    },
  );

  processTest(
    `libsam quorum, ${transport}: the end of an instance that waits for quorum is a recovery, and so is the loss of quorum`,
    async (stage) => {
      const quorum = memoryQuorum(false);
      const program = stage.supervise("libsam/quorum", {
        timeInterval: 2000,
        recoveryPolicy: "restart",
        transport,
        quorum,
        restart: { maxDelay: 0 },
      });
      await stage.line("ends while it waits");
      await program.event("waiting", 2);
      quorum.quorate = true;
      await stage.line("started");
      quorum.quorate = false;
      const { code, reason } = await program.finished();
      assertEquals([code, reason], [0, "exit"]);
      assertEquals(stage.lines("registered").map(({ instance }) => instance), [1, 2, 3]);
      assertEquals(stage.lines("started").map(({ instance }) => instance), [2]);
      assertEquals(stage.lines("ends while it waits").map(({ state }) => state), ["registered"]);
      assertEquals(
        program.all("recovery").map(({ instanceId, reason }) => [instanceId, reason]),
        [[1, "exit"], [2, "quorum"]],
      );
    },
  );

  processTest(
    `libsam cluster map, ${transport}, quit: the keys show the state, are deleted after a clean end, and stay as failed after a failure`,
    async (stage) => {
      const clusterMap = memoryClusterMap();
      const state = () => clusterMap.entries.get(key("state"));
      const options = { timeInterval: 300, recoveryPolicy: "quit", transport, clusterMap } as const;
      const walk = stage.supervise("libsam/cluster_map", { ...options, timeInterval: 2000 }, {
        args: ["walk"],
      });
      await stage.line("ready to start 1");
      assertEquals(clusterMap.entries.get(key("recovery")), "quit");
      assertEquals(clusterMap.entries.get(key("poll_period")), 2000n);
      assertEquals(state(), "stopped");
      stage.go("to start 1");
      await stage.line("started");
      await stage.line("ready to start again");
      assertEquals(state(), "stopped");
      const began = performance.now();
      stage.go("to start again");
      await stage.line("ready for the second heartbeat");
      assertEquals(state(), "running");
      const updated = () => clusterMap.entries.get(key("last_updated")) as bigint;
      await sleep(300); // over shm, the server reads heartbeats every 2000 / 16 ms
      const first = updated();
      stage.go("for the second heartbeat");
      await eventually("a later last_updated", () => updated() > first);
      const movedMs = Number(updated() - first) / 1e6;
      assert(movedMs > 150 && movedMs < performance.now() - began, `${movedMs} ms`);
      stage.go("to stop");
      await stage.line("ready to exit");
      assertEquals(state(), "stopped");
      stage.go("to exit");
      assertEquals((await walk.finished()).code, 0);
      assertEquals([...clusterMap.entries], []);

      const hung = stage.supervise("libsam/cluster_map", options, { args: ["hang"] });
      stage.go("to start 1");
      await stage.line("ready to hang");
      await sleep(3 * options.timeInterval);
      assertEquals(state(), "stopped");
      stage.go("to hang");
      assertEquals((await hung.finished()).reason, "quit");
      assertEquals(state(), "failed");
      assertEquals(hung.all("recovery").map(({ reason }) => reason), ["timeout"]);

      const third = stage.supervise("libsam/cluster_map", options, { args: ["mark failed"] });
      await third.event("spawn");
      assertEquals(state(), "failed");
    },
  );

  processTest(
    `libsam cluster map, ${transport}, restart: markFailed() ends the server, and the state stays failed`,
    async (stage) => {
      const clusterMap = memoryClusterMap();
      const state = () => clusterMap.entries.get(key("state"));
      const program = stage.supervise("libsam/cluster_map", {
        timeInterval: 200,
        recoveryPolicy: "restart",
        transport,
        clusterMap,
        restart: { maxDelay: 0 },
      }, { args: ["mark failed"] });
      for (const instance of [1, 2]) {
        await stage.line(`ready to start ${instance}`);
        assertEquals(clusterMap.entries.get(key("recovery")), "restart");
        assertEquals(state(), "stopped");
        stage.go(`to start ${instance}`);
        await eventually("running", () => state() === "running");
        await program.event("recovery", instance);
      }
      await stage.line("ready to mark failed");
      stage.go("to mark failed");
      const { reason, code, signal } = await program.finished();
      assertEquals([reason, code, signal], ["failed", 137, "SIGKILL"]);
      assertEquals(state(), "failed");
      assertEquals(program.all("recovery").map((event) => [event.instanceId, event.reason]), [
        [1, "timeout"],
        [2, "timeout"],
        [3, "failed"],
      ]);
      assertEquals(program.all("warn").filter(({ instanceId }) => instanceId === 3), []);
    },
  );
}
