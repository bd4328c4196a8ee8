// Cases in which libsam fails and SAM must not: the end of an instance, and the detection of its failure.
import { setTimeout as sleep } from "node:timers/promises";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { processTest, transports } from "../support/processes.ts";

processTest("an end by a signal is exit code 128 + n, and an exit code stays", async (stage) => {
  const cases = [
    ["started", "SIGKILL", 137],
    ["started", "SIGABRT", 134],
    ["started", "SIGTERM", 143],
    ["started", "exit 3", 3],
    ["started", "exit 0", 0],
    ["before start", "SIGKILL", 137],
    ["before start", "exit 3", 3],
    ["after stop", "SIGKILL", 137],
    ["after finalize", "exit 4", 4],
  ] as const;
  const seen = [];
  for (const [when, how] of cases) {
    const { code, signal } = await stage.run("faults/end", { args: [when, how] }).exited;
    seen.push([when, how, code ?? signal]);
  }
  assertEquals(seen, cases.map((each) => [...each]));
});

processTest(
  "a crash loop meets growing delays, then the restart limit: the server ends with the status of the last instance",
  async (stage) => {
    const program = stage.run("faults/end", { args: ["started", "exit 7", "restart"] });
    assertEquals(await program.exited, { code: 7, signal: null });
    assertEquals(stage.lines("registered").map(({ instance }) => instance), [1, 2, 3, 4]);
    const stderr = program.stderr();
    assertMatch(stderr, /instance 1 \(pid \d+\) ended with exit code 7; instance 2 starts now\n/);
    for (const [instance, least, most] of [[2, 80, 120], [3, 160, 200]] as const) {
      const line = new RegExp(
        `instance ${instance} \\(pid \\d+\\) ended with exit code 7; instance ${
          instance + 1
        } starts in (\\d+) ms`,
      );
      const delay = Number(line.exec(stderr)?.[1]);
      assert(delay >= least && delay <= most, stderr);
    }
    assert(stderr.includes("reached its restart limit"), stderr);
  },
);

processTest("a crash loop of exits with 0 does not look like success", async (stage) => {
  const program = stage.supervise("faults/end", {
    timeInterval: 0,
    recoveryPolicy: "restart",
    restart: { intensity: 2, maxDelay: 0 },
  }, { args: ["started", "exit 0"] });
  const { code, reason } = await program.finished();
  assertEquals([code, reason], [1, "restart-limit"]);
  assertEquals(program.all("recovery").map(({ delay }) => delay), [0, 0, null]);
});

for (const transport of transports) {
  processTest(
    `an endless loop is detected although there is a health check, ${transport}`,
    async (stage) => {
      const program = stage.supervise("faults/hang", {
        timeInterval: 250,
        recoveryPolicy: "restart",
        transport,
      }, { args: ["loop"] });
      assertEquals((await program.finished()).reason, "exit");
      assertEquals(program.all("recovery").map(({ reason }) => reason), ["timeout"]);
    },
  );

  processTest(
    `setWarnSignal() and data.store() every 20 ms do not count as heartbeats, ${transport}`,
    async (stage) => {
      const program = stage.supervise("faults/hang", {
        timeInterval: 250,
        recoveryPolicy: "restart",
        transport,
      }, { args: ["talk"] });
      assertEquals((await program.finished()).reason, "exit");
      assertEquals(program.all("recovery").map(({ reason }) => reason), ["timeout"]);
      assert(stage.lines("talked").length > 2);
    },
  );
}

processTest(
  "a health check that never answers is unhealthy, and one that throws says why",
  async (stage) => {
    for (
      const [behavior, detail] of [[
        "pending check",
        "the health check did not answer within 250 ms",
      ], ["throwing check", "no disk"]]
    ) {
      const program = stage.supervise("faults/hang", {
        timeInterval: 250,
        recoveryPolicy: "restart",
      }, { args: [behavior!] });
      assertEquals((await program.finished()).reason, "exit");
      const [recovery] = program.all("recovery");
      assertEquals(recovery!.reason, "unhealthy");
      assert(recovery!.evidence.detail.includes(detail!), recovery!.evidence.detail);
    }
  },
);

processTest(
  "a second recovery has a warning, too, and a heartbeat after the warning does not cancel the recovery",
  async (stage) => {
    const program = stage.supervise("faults/warned", {
      timeInterval: 200,
      recoveryPolicy: "restart",
    });
    assertEquals((await program.finished()).code, 0);
    assertEquals(stage.lines("warned").map(({ instance }) => instance), [1, 2]);
    assertEquals(
      stage.lines("aborted").map(({ instance, code }) => [instance, code]),
      [[1, "INTERRUPT"], [2, "INTERRUPT"]],
    );
    assertEquals(program.all("kill").map(({ instanceId }) => instanceId), [1, 2]);
    assertEquals(
      program.all("recovery").map(({ reason, evidence }) => [reason, evidence.signal]),
      [["timeout", "SIGKILL"], ["timeout", "SIGKILL"]],
    );
  },
);

processTest(
  "an interval timer before register() does not disturb the server",
  async (stage) => {
    const program = stage.run("faults/hang", { args: ["timer before register"] });
    assertEquals(await program.exited, { code: 0, signal: null });
    assertEquals(stage.lines("registered").map(({ instance }) => instance), [1, 2]);
  },
);

processTest(
  "a time interval of 1, 2 or 3 ms works, and the server stays mostly idle",
  async (stage) => {
    for (const timeInterval of [1, 2, 3]) {
      const program = stage.supervise("faults/tiny", {
        timeInterval,
        recoveryPolicy: "restart",
        restart: { intensity: Infinity, initialDelay: 100, maxDelay: 100 },
      });
      await program.event("start");
      const began = process.cpuUsage();
      const beganAt = performance.now();
      await sleep(400);
      const used = process.cpuUsage(began);
      const share = (used.user + used.system) / 1000 / (performance.now() - beganAt);
      assert(share < 0.8, `T = ${timeInterval}: ${Math.round(100 * share)} % of a processor`);
      await program.supervisor.stop();
    }
  },
);
