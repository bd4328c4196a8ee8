// The workers of a primary process of node:cluster that calls SAM itself. test/cli/cluster_test.ts has those below a preload.

import { assertEquals, assertMatch } from "@std/assert";
import { spawn } from "node:child_process";
import { encodeClient } from "../../src/core/wire.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { Workers } from "../../src/supervisor/instance/workers.ts";
import type { Link } from "../../transports/transport.ts";
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
      assertEquals((await stage.line("refused"))["code"], "NOT_SUPPORTED");
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

/** The workers of an instance with the process id of this process. One connects at once, and registers with `pid`. */
async function admitted(pid: number): Promise<{ inputs: string[]; workers: Workers }> {
  const inputs: string[] = [];
  const key = "0".repeat(48);
  const member = {
    ...{ pid: null, state: "announced", lastHeartbeat: null, deadline: undefined },
    ...{ responseDueAt: Infinity, doubtAt: Infinity },
  };
  const link: Link = {
    heartbeat() {},
    send() {},
    hold() {},
    close() {},
    receive(sink) {
      sink?.frame(encodeClient({ type: "hello", version: 1, id: 1, pid, notice: "" }));
    },
  };
  const workers = new Workers({
    runtime: await loadRuntime(),
    timeInterval: 1000,
    pid: () => process.pid,
    open: () => Promise.resolve({ accept: (onLink) => onLink(link), close() {} }),
    find: () => member,
    feed: (_key, { type }) => void inputs.push(type),
    fallback: () => {},
    problem: () => {},
  });
  workers.carryOut(key, { type: "admit" });
  await eventually("the message", () => inputs.includes("message"));
  return { inputs, workers };
}

processTest("a process that is not below the instance is no worker, even with a key", async () => {
  const child = spawn("sleep", ["60"]);
  try {
    const own = await admitted(child.pid!);
    assertEquals(own.inputs, ["message"]);
    own.workers.close();
    for (const pid of [process.ppid, process.pid, 1]) {
      const stranger = await admitted(pid);
      assertEquals(stranger.inputs, ["linkEnd", "message"]);
      stranger.workers.close();
    }
  } finally {
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
  }
});

processTest("if workers cannot be admitted, the log says so once", async () => {
  const told: string[] = [];
  const ended: string[] = [];
  const workers = new Workers({
    runtime: await loadRuntime(),
    timeInterval: 1000,
    pid: () => process.pid,
    open: () => undefined,
    find: () => ({
      ...{ pid: null, state: "announced", lastHeartbeat: null, deadline: undefined },
      ...{ responseDueAt: Infinity, doubtAt: Infinity },
    }),
    feed: (key) => void ended.push(key),
    fallback: (detail) => void told.push(detail),
    problem: () => {},
  });
  for (const key of ["a", "b"]) workers.carryOut(key, { type: "admit" });
  await eventually("the end of both", () => ended.length === 2);
  assertEquals(told, [
    "SAM does not watch the workers of node:cluster: the transport cannot admit them",
  ]);
  workers.close();
});
