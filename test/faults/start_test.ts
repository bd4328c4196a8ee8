// Instances that never start, or end soon: backoff, restart limit and its log line, and a start that succeeds at last.
import { assert, assertEquals } from "@std/assert";
import { processTest } from "../support/processes.ts";

processTest(
  "a program that always ends at once meets growing delays, then the restart limit; the log says how it last ended",
  async (stage) => {
    const server = stage.run("faults/program", {
      args: ["unix", "dies at once"],
      env: { SAM_TEST_OPTIONS: JSON.stringify({ restart: { intensity: 3, maxDelay: 150 } }) },
    });
    assertEquals(await server.exited, { code: 7, signal: null });
    assertEquals(stage.lines("started").map(({ instance }) => instance), [1, 2, 3, 4]);
    assert(
      /sam: the program reached its restart limit.*its last instance, number 4, ended with exit code 7\n/
        .test(
          server.stderr(),
        ),
      server.stderr(),
    );
  },
);

processTest(
  "a program that crashes from time to time: the delays grow, vary and have a maximum, and the restart limit holds",
  async (stage) => {
    const watched = stage.supervise("faults/program", {
      timeInterval: 0,
      recoveryPolicy: "restart",
      restart: { intensity: 4, maxDelay: 150 },
    }, { args: ["unix", "dies later", "150"] });
    const { code, signal, reason } = await watched.finished();
    assertEquals([code, signal, reason], [137, "SIGKILL", "restart-limit"]);
    const delays = watched.all("recovery").map(({ delay }) => delay);
    assertEquals([delays[0], delays[4], delays.length], [0, null, 5]);
    for (const delay of delays.slice(1, 4)) assert(delay! >= 80 && delay! <= 150, `${delays}`);
    assert(new Set(delays).size > 3, `no jitter: ${delays}`);
    const [failed] = watched.all("failed");
    assertEquals([failed!.reason, failed!.evidence.signal], ["signal", "SIGKILL"]);
  },
);

processTest(
  "a program that never calls start() is recovered with the reason startup",
  async (stage) => {
    const watched = stage.supervise("faults/program", {
      timeInterval: 0,
      recoveryPolicy: "restart",
      startupTimeout: 1500,
      stopTimeout: 200,
      restart: { intensity: 1, maxDelay: 0 },
    }, { args: ["unix", "never starts"] });
    assertEquals((await watched.finished()).reason, "restart-limit");
    assertEquals(watched.all("recovery").map(({ reason }) => reason), ["startup", "startup"]);
  },
);

processTest("a replacement that fails five times before start(), then succeeds", async (stage) => {
  const watched = stage.supervise("faults/program", {
    timeInterval: 0,
    recoveryPolicy: "restart",
    restart: { intensity: 10, maxDelay: 20 },
  }, { args: ["unix", "fails first"] });
  await stage.line("started", 2);
  assertEquals(stage.lines("started").map(({ instance }) => instance), [1, 7]);
  assertEquals(
    watched.all("recovery").map(({ reason }) => reason),
    ["signal", ...Array(5).fill("startup")],
  );
  assertEquals(stage.lines("registered").at(-1)!["data"], [1]);
});
