// The workers of a primary process of node:cluster that calls SAM itself. test/cli/cluster_test.ts has those below a preload.

import { assertEquals, assertMatch } from "@std/assert";
import { eventually, lives, processTest, transports } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

const leg = ["node20", "node26", "bun"] as const;

for (const transport of transports) {
  processTest(
    `a worker of a program that registers itself is watched, except over a pipe, ${transport}`,
    async (stage) => {
      const watched = stage.supervise("supervisor/workers", {
        timeInterval: 1000,
        recoveryPolicy: "restart",
        transport,
      });
      const { supervisor } = watched;
      const { pid, worker } = await stage.line("worker");
      if (transport === "pipe") {
        // The transport has no directory in which the worker could find its socket.
        assertEquals(supervisor.status.members, []);
        return;
      }
      await eventually("the watch", () => supervisor.status.members[0]?.heartbeatAge != null);
      assertEquals(supervisor.status.members.map((member) => member.pid), [worker]);
      process.kill(pid, "SIGUSR2");
      const event = await watched.event("member");
      assertEquals([event.pid, event.evidence.signal], [worker, "SIGKILL"]);
      assertMatch(
        event.evidence.stack ?? event.evidence.noStack!,
        /workers\.[jt]s|Bun cannot|stack/,
      );
      assertEquals((await stage.line("died"))["signal"], "SIGKILL");
      assertEquals(lives(worker), false);
      const next = await stage.line("worker", 2);
      assertEquals(next.pid, pid);
      await eventually("the next worker", () => supervisor.status.members.length === 1);
      assertEquals(supervisor.status.instanceId, 1);
    },
    { leg, skip: currentRuntime === "deno" ? "SAM does not watch the workers of Deno" : false },
  );
}
