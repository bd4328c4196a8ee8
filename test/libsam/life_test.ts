// libsam's own tests, ported: the life of an instance, its signals and its end. Each program is its own SAM server.
import { assert, assertEquals } from "@std/assert";
import { processTest, transports } from "../support/processes.ts";

for (const transport of transports) {
  processTest(
    `libsam basics, ${transport}: an instance without heartbeats is ended, stop() pauses supervision, finalize() ends it`,
    async (stage) => {
      const program = stage.run("libsam/basics", { args: [transport] });
      assertEquals(await program.exited, { code: 0, signal: null });
      assertEquals(stage.lines("registered").map(({ instance }) => instance), [1, 2, 3]);
      for (const instance of [1, 2]) {
        const heartbeats = stage.lines("heartbeat").filter((line) => line["instance"] === instance);
        assertEquals(heartbeats.length, 5);
      }
      assertEquals(stage.lines("slept").length, 1);
      assertEquals(stage.lines("unresponsive").map(({ instance }) => instance), [1, 2]);
      assertEquals(stage.lines("initialize again").map(({ code }) => code), ["BAD_HANDLE"]);
      const after = stage.lines("after finalize");
      assertEquals(after.length, 12);
      assertEquals(after.filter(({ code }) => code !== "BAD_HANDLE"), []);
    },
  );

  processTest(
    `libsam signal, ${transport}: the handler of the warn signal runs, the kill follows, policy quit ends the server`,
    async (stage) => {
      const program = stage.run("libsam/signal", { args: [transport] });
      assertEquals(await program.exited, { code: 137, signal: null });
      assertEquals(stage.lines().map(({ event }) => event), ["unresponsive", "SIGTERM"]);
      assertEquals(stage.lines("SIGTERM").map(({ instance }) => instance), [1]);
    },
  );

  // libsam's own count is 20. The other transports use 5, because each death takes a second on a busy machine.
  const deaths = transport === "unix" ? 20 : 5;
  processTest(
    `libsam smoke, ${transport}: after each of ${deaths} deaths by SIGSEGV, the next instance starts`,
    async (stage) => {
      const count = deaths + 1;
      const program = stage.run("libsam/smoke", { args: [transport, String(count)] });
      assertEquals(await program.exited, { code: 0, signal: null });
      const instances = stage.lines("registered").map(({ instance }) => instance);
      assertEquals(instances, Array.from({ length: count }, (_, at) => at + 1));
      assertEquals(new Set(stage.lines("registered").map(({ pid }) => pid)).size, count);
    },
  );

  processTest(
    `libsam warn signal, ${transport}: its handler may store data; SIGKILL as the warn signal kills without a warning`,
    async (stage) => {
      const program = stage.run("libsam/warn_signal", { args: [transport] });
      assertEquals(await program.exited, { code: 0, signal: null });
      assertEquals(
        stage.lines("registered").map(({ instance, restored }) => [instance, restored]),
        [[1, 0], [2, 1], [3, 1]],
      );
      assertEquals(stage.lines("warned").map(({ instance }) => instance), [1]);
      assertEquals(stage.lines("stored").map(({ instance }) => instance), [1]);
    },
  );

  processTest(
    `libsam finalize, ${transport}: finalize() right after start() resolves`,
    async (stage) => {
      const program = stage.run("libsam/finalize", { args: [transport] });
      assertEquals(await program.exited, { code: 0, signal: null });
      assertEquals(stage.lines("finalized").map(({ state }) => state), ["finalized"]);
      assert(!program.stderr().includes("sam:"), program.stderr());
    },
  );
}
