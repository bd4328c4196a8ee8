// Signals to the server, signals from a terminal, and a program that is stopped by SIGSTOP.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually, processTest, transports } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

/** Longer than the half second in which signals count as one. */
const apartMs = 700;

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const) {
  processTest(
    `${signal} to the server: the program gets it once, and the server ends with its exit code`,
    async (stage) => {
      const server = stage.run("faults/program");
      const { pid } = await stage.line("started");
      server.kill(signal);
      assertEquals(await server.exited, { code: 5, signal: null }, server.stderr());
      assertEquals(stage.lines("signal").map((line) => [line.pid, line["signal"]]), [
        [pid, signal],
      ]);
      assertEquals(stage.lines("registered").length, 1);
    },
  );

  processTest(
    `a second ${signal} to the server kills a program that does not end`,
    async (stage) => {
      const server = stage.run("faults/program", {
        args: ["unix", "deaf"],
        env: { SAM_TEST_OPTIONS: JSON.stringify({ stopTimeout: 600_000 }) },
      });
      await stage.line("started");
      server.kill(signal);
      await stage.line("signal");
      await sleep(apartMs);
      server.kill(signal);
      assertEquals(await server.exited, { code: 137, signal: null }, server.stderr());
      assertEquals(stage.lines("signal").map((line) => line["signal"]), [signal]);
      assertEquals(stage.lines("registered").length, 1);
    },
  );
}

processTest(
  "Ctrl-C in a terminal reaches the server and the program, which ends in order and gets the signal once",
  async (stage) => {
    const run = stage.runInTerminal("faults/program", { args: ["unix", "waits"] });
    await stage.line("started");
    run.keys("\x03");
    assertEquals(await run.exited, 5, run.output);
    assertEquals(stage.lines("signal").map(({ signal, instance }) => [signal, instance]), [
      ["SIGINT", 1],
    ]);
    assertEquals(stage.lines("registered").length, 1);
  },
);

processTest(
  "Ctrl-C in a terminal ends a program that does not listen for it, and no instance follows",
  async (stage) => {
    const run = stage.runInTerminal("faults/program", { args: ["unix", "blocks"] });
    await stage.line("started");
    run.keys("\x03");
    assertEquals(await run.exited, 130, run.output);
    assertEquals(stage.lines("registered").length, 1);
  },
);

processTest(
  "a program that is stopped by SIGSTOP is warned, killed and replaced",
  async (stage) => {
    const watched = stage.supervise("faults/program", {
      timeInterval: 300,
      recoveryPolicy: "restart",
    }, { args: ["unix", "checked"] });
    const { pid } = await stage.line("started");
    process.kill(pid, "SIGSTOP");
    const { reason, evidence } = await watched.event("recovery", 1);
    assertEquals([reason, evidence.signal, evidence.processState?.state], [
      "timeout",
      "SIGKILL",
      "stopped",
    ]);
    const ofFirst = watched.events.filter(({ instanceId }) => instanceId === 1);
    const order = ["warn", "kill", "exit", "recovery"];
    assertEquals(ofFirst.map(({ type }) => type).filter((type) => order.includes(type)), order);
    await stage.line("started", 2);
    await eventually("the second instance", () => watched.supervisor.status.instanceId === 2);
    assert(watched.supervisor.status.pid !== pid);
  },
);

// Node resets the signal handlers that nohup set before any code of the program runs.
processTest(
  "under nohup the end of a terminal does not end supervision",
  async (stage) => {
    const server = stage.run("faults/program", { within: ["nohup"] });
    const { pid } = await stage.line("started");
    server.kill("SIGHUP");
    process.kill(pid, "SIGKILL");
    const next = await stage.line("started", 2);
    server.kill("SIGTERM");
    assertEquals(await server.exited, { code: 5, signal: null }, server.stderr());
    assertEquals(stage.lines("signal").map((line) => [line.pid, line["signal"]]), [
      [next.pid, "SIGTERM"],
    ]);
  },
  { skip: currentRuntime.startsWith("node") && "Node does not know that it was started by nohup" },
);

/** `process.kill` has no names for real-time signals. */
function sendNumber(number: number, pid: number): void {
  spawnSync("sh", ["-c", `kill -${number} ${pid}`]);
}

for (const transport of transports) {
  processTest(
    `a program over ${transport} that ends by a real-time signal is replaced`,
    async (stage) => {
      const server = stage.run("faults/program", { args: [transport] });
      const first = await stage.line("started");
      sendNumber(34, first.pid);
      const second = await stage.line("started", 2);
      assertMatch(server.stderr(), /instance 1 \(pid \d+\) ended by SIG34; instance 2 starts/);
      assert(second.pid !== first.pid);
    },
  );
}

processTest(
  "if a program ends by a real-time signal, its server ends with 128 + the signal's number",
  async (stage) => {
    const server = stage.run("faults/program", {
      env: { SAM_TEST_OPTIONS: JSON.stringify({ recoveryPolicy: "quit" }) },
    });
    sendNumber(64, (await stage.line("started")).pid);
    assertEquals(await server.exited, { code: 192, signal: null }, server.stderr());
  },
);
