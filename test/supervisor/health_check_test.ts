// Health checks of the server: a check process that SIGKILL does not end, which needs a fake runtime, and an early stop.
import { assert, assertEquals } from "@std/assert";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { supervise } from "../../mod.ts";
import { Checker } from "../../src/supervisor/health_check.ts";
import type { CheckedCheck } from "../../src/api/supervise_options.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import type { Exit } from "../../src/runtime/runtime.ts";
import { test } from "../support/harness.ts";
import { eventually, processTest } from "../support/processes.ts";

test("a check command that cannot be killed has failed, and no other check runs beside it", async () => {
  const ends: ((exit: Exit) => void)[] = [];
  let begun = 0;
  let hangs = false;
  const runtime = {
    ...await loadRuntime(),
    kill() {},
    spawn() {
      begun++;
      const exited = hangs
        ? new Promise<Exit>((resolve) => ends.push(resolve))
        : Promise.resolve({ code: 0, signal: null });
      return Promise.resolve({
        pid: 7,
        exited,
        stream: null,
        outputs: [],
        kill() {},
        release() {},
      });
    },
  };
  const check: CheckedCheck = {
    kind: "command",
    target: "probe",
    period: 10,
    timeout: 20,
    failureThreshold: 3,
  };
  const failures: string[] = [];
  let healthy = 0;
  const problems: string[] = [];
  const checker = new Checker(runtime, check, 0, {
    changed: (isHealthy, detail) => void (isHealthy ? healthy++ : problems.push(detail)),
    failed: (reason, detail) => void failures.push(`${reason}: ${detail}`),
  });
  checker.begin(1);
  await eventually("a healthy answer", () => healthy > 0);
  hangs = true;
  await eventually("the failure", () => failures.length > 0);
  const killed = "probe took longer than 20 ms and still runs after SIGKILL";
  assertEquals(problems, [killed, killed, killed]);
  assertEquals(failures, [`unhealthy: ${killed}, 3 times in a row`]);
  assertEquals(ends.length, 1);
  hangs = false;
  for (const end of ends) end({ code: null, signal: "SIGKILL" });
  const before = begun;
  checker.begin(1);
  await eventually("the next check", () => healthy > 1);
  assert(begun > before);
  hangs = true;
  await eventually("a check that does not end", () => ends.length > 1);
  await eventually("its failure", () => failures.length > 1);
  hangs = false;
  checker.begin(1);
  const found = problems.length;
  await eventually("a healthy answer of the next instance", () => healthy > 2);
  assertEquals(problems.length, found);
  checker.end();
  for (const end of ends) end({ code: null, signal: "SIGKILL" });
});

processTest(
  "stopping a checked program at any moment of its start leaves no process behind",
  async () => {
    let started = 0;
    for (let moment = 0; started < 3; moment++) {
      let watchers = 0;
      const quorum = {
        watch() {
          watchers++;
          return () => void watchers--;
        },
      };
      const supervisor = supervise({ command: "sleep", args: ["60"] }, {
        recoveryPolicy: "quit",
        quorum,
        check: { command: "true" },
      });
      for (let turn = 0; turn < moment; turn++) await null;
      void supervisor.stop();
      void supervisor.stop(); // killed at once
      const { signal } = await supervisor.finished;
      if (signal !== null) started++; // a process had started, and was killed
      for (let turn = 0; turn < 50; turn++) await null;
      assertEquals(watchers, 0, `stopped after ${moment} turns`);
    }
  },
);

test("a check by HTTP names its process only where other processes share the socket", async () => {
  const seen: unknown[] = [];
  const server = createServer(({ headers }, response) => {
    seen.push(headers["sam-check"]);
    response.end();
  }).listen(0, "127.0.0.1");
  try {
    await eventually("the port", () => server.address() !== null);
    const { port } = server.address() as AddressInfo;
    const check: CheckedCheck = {
      kind: "http",
      target: `http://127.0.0.1:${port}/`,
      period: 60_000,
      timeout: 10_000,
      failureThreshold: 3,
    };
    const checker = new Checker(await loadRuntime(), check, 0, { changed() {}, failed() {} });
    checker.begin(4711);
    await eventually("the first check", () => seen.length === 1);
    checker.begin(4711, { sharesSockets: true, checkPortOf: () => undefined });
    await eventually("the second check", () => seen.length === 2);
    checker.end();
    assertEquals(seen, [undefined, "4711"]);
  } finally {
    server.close();
  }
});
