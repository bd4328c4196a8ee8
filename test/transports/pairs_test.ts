// Server and program may run on different runtimes: this runtime supervises programs of Node, Deno and Bun, over every
// transport.
import { assert, assertEquals } from "@std/assert";
import { processTest, transports } from "../support/processes.ts";

for (const runtime of ["node26", "deno", "bun"] as const) {
  for (const transport of transports) {
    processTest(
      `a program of ${runtime} over ${transport}: heartbeats arrive, a hang is ended, data survive, stop() is orderly`,
      async (stage) => {
        const program = stage.supervise("transports/application", {
          timeInterval: 300,
          recoveryPolicy: "restart",
          transport,
        }, { runtime });
        await stage.line("runs");
        assertEquals(program.supervisor.status.state, "started");
        assertEquals(program.supervisor.status.instanceId, 2);
        assertEquals(program.supervisor.status.dataSize, 200 * 1024);
        const status = await program.supervisor.stop();
        await program.finished();

        assertEquals([status.code, status.signal, status.reason], [0, null, "stopped"]);
        assertEquals(
          stage.lines("registered").map((line) => [line["instance"], line["size"], line["intact"]]),
          [[1, 0, true], [2, 200 * 1024, true]],
        );
        assert(stage.lines("heartbeats sent")[0]!["count"] > 100);
        assertEquals(stage.lines("SIGTERM").map(({ instance }) => instance), [2]);
        const [hang] = program.all("recovery");
        assertEquals([hang!.reason, hang!.evidence.signal], ["timeout", "SIGKILL"]);
        assertEquals(program.all("warn").length, 1);
        assertEquals(program.all("kill").length, 1);
        const pids = program.all("spawn").map(({ pid }) => pid);
        assertEquals(stage.lines("registered").map(({ pid }) => pid), pids);
        assertEquals(program.all("problem"), []);
      },
    );
  }
}
