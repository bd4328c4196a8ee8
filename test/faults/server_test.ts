// Faults between the server and its program: a killed or stalled server, or a link that is held open. libsam fails in these
// cases; SAM must not.
import { setTimeout as sleep } from "node:timers/promises";
import { assert, assertEquals } from "@std/assert";
import { loadRuntime } from "../../src/runtime/load.ts";
import { processState } from "../../src/runtime/procfs.ts";
import { eventually, killQuietly, lives, processTest, transports } from "../support/processes.ts";

for (const transport of transports) {
  processTest(
    `a child process of the program that holds the link open does not delay the restart, ${transport}`,
    async (stage) => {
      const program = stage.supervise("faults/helper", {
        timeInterval: 0,
        recoveryPolicy: "restart",
        killMode: "process",
        transport,
      });
      const { helper } = await stage.line("helper");
      try {
        const exit = await program.event("exit", 1);
        const recovery = await program.event("recovery", 1);
        assert(recovery.at - exit.at < 2000, `${recovery.at - exit.at} ms`);
        await stage.line("registered", 2);
        assert(lives(helper));
        assertEquals((await program.finished()).code, 0);
      } finally {
        killQuietly(helper);
        await eventually("the end of the child process", () => !lives(helper));
      }
    },
  );

  processTest(`a program ends when its server is killed, ${transport}`, async (stage) => {
    const program = stage.run("faults/server_lost", { args: [transport, "ready"] });
    const { pid } = await stage.line("started");
    assert(pid !== program.pid);
    program.kill("SIGKILL");
    assertEquals(await program.exited, { code: null, signal: "SIGKILL" });
    await eventually("the end of the program", () => !lives(pid));
    // On a busy machine, the guard may kill the program before it prints "aborted".
    for (const { code } of stage.lines("aborted")) assertEquals(code, "LIBRARY");
    assertEquals(stage.lines("SIGTERM"), []);
  });

  processTest(
    `with serverLost "continue", a program goes on without its server, ${transport}`,
    async (stage) => {
      const program = stage.run("faults/server_lost", { args: [transport, "ready", "continue"] });
      const { pid } = await stage.line("started");
      program.kill("SIGKILL");
      assertEquals((await stage.line("goes on")).pid, pid);
      assertEquals(stage.lines("heartbeat").map(({ code }) => code), ["none"]);
      await program.exited;
      await eventually("the end of the program", () => !lives(pid));
    },
  );

  processTest(
    `1 MiB stored between heartbeats arrives unchanged, ${transport}`,
    async (stage) => {
      const program = stage.run("faults/data", { args: [transport] });
      assertEquals(await program.exited, { code: 0, signal: null });
      assertEquals(
        stage.lines("restored").map(({ size, wrong }) => [size, wrong]),
        [[1024 * 1024, -1]],
      );
    },
  );

  processTest(
    `heartbeat() does not block while the server is stopped, and no process is killed afterwards, ${transport}`,
    async (stage) => {
      const program = stage.run("faults/stopped_server", { args: [transport] });
      await stage.line("loops");
      program.kill("SIGSTOP");
      let looped;
      try {
        looped = await stage.line("looped");
        assert(looped["longest"] < 500, `${looped["longest"]} ms`);
        assert(looped["beats"] > 1000);
        await sleep(100);
      } finally {
        program.kill("SIGCONT");
      }
      await sleep(850); // two time intervals: the server would kill the program by now
      stage.go("to end");
      assertEquals(await program.exited, { code: 0, signal: null });
      assertEquals(stage.lines("registered").map(({ instance }) => instance), [1]);
    },
  );

  processTest(
    `a program that sends a heartbeat every 2 ms, in a loop that never yields, survives a stall of its server of 0.8 s, ${transport}`,
    async (stage) => {
      const program = stage.run("faults/never_yields", { args: [transport] });
      await stage.line("ready stopped");
      program.kill("SIGSTOP");
      stage.go("stopped");
      await stage.line("stalled").finally(() => program.kill("SIGCONT"));
      assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    },
  );

  processTest(
    `a program that never yields survives a server that stalls until the buffer is full, ${transport}`,
    async (stage) => {
      const program = stage.run("faults/stalled_server", { args: [transport] });
      await stage.line("ready stalled");
      program.kill("SIGSTOP");
      stage.go("stalled");
      await stage.line("full").finally(() => program.kill("SIGCONT"));
      assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
      assertEquals(stage.lines("registered").map(({ instance }) => instance), [1]);
    },
  );
}

processTest(
  "messages that a program sends by process.send() do not fill the server's memory",
  async (stage) => {
    const program = stage.run("faults/sends");
    await stage.line("started");
    const runtime = await loadRuntime();
    const memory = () => processState(runtime, program.pid)!.memoryBytes;
    const before = memory();
    stage.go("send");
    await stage.line("sent");
    const grown = memory() - before;
    stage.go("end");
    assertEquals((await program.exited).code, 0);
    assert(grown < 100e6, `${grown} bytes more, of 200,000,000 that were sent`);
  },
);

processTest(
  "the server passes SIGTERM on, and exits with the exit code of the program",
  async (stage) => {
    const program = stage.run("faults/server_lost", { args: ["unix", "ready"] });
    await stage.line("started");
    program.kill("SIGTERM");
    assertEquals(await program.exited, { code: 5, signal: null }); // the program's SIGTERM handler exits with 5
    assertEquals(stage.lines("SIGTERM").length, 1);
    assertEquals(stage.lines("started").length, 1);
  },
);

processTest("a program that ignores SIGTERM is killed after stopTimeout", async (stage) => {
  const program = stage.run("faults/server_lost", { args: ["unix", "deaf"] });
  const { pid } = await stage.line("started");
  program.kill("SIGTERM");
  assertEquals(await program.exited, { code: 137, signal: null });
  assertEquals(stage.lines("SIGTERM").map((line) => line.pid), [pid]);
});

processTest(
  "exit handlers of the program run in its instances, not in the server",
  async (stage) => {
    const program = stage.run("faults/end", { args: ["started", "exit 3", "restart"] });
    assertEquals(await program.exited, { code: 3, signal: null });
    const instances = stage.lines("registered").map(({ pid }) => pid);
    assertEquals(instances.length, 4);
    assertEquals(stage.lines("exit handler").map(({ pid }) => pid), instances);
    assert(!instances.includes(program.pid));
  },
);
