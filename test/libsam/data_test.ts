// libsam's own tests, ported: data that outlive the instance, and the health check. Each program is its own server.
import { assertEquals } from "@std/assert";
import { processTest, transports } from "../support/processes.ts";

const bytes = (length: number, first: number) =>
  Array.from({ length }, (_, at) => (first + at) % 256);

for (const transport of transports) {
  processTest(
    `libsam data, ${transport}: the next instance sees the data that were stored last, after a deletion too`,
    async (stage) => {
      const program = stage.run("libsam/data", { args: [transport] });
      assertEquals(await program.exited, { code: 0, signal: null });
      const restored = stage.lines("restored");
      assertEquals(restored.map(({ instance }) => instance), [1, 2, 3]);
      assertEquals(restored[0]!["sizes"], [0, 128, 0, 128]);
      assertEquals(restored.map(({ size }) => size), [128, 121, 0]);
      assertEquals(restored.map((line) => line["bytes"]), [bytes(128, 7), bytes(121, 3), []]);
      assertEquals(stage.lines("stored").map(({ size }) => size), [121, 0]);
    },
  );

  if (transport !== "pipe") {
    processTest(
      `data, ${transport}: if the shared file has no room, they are sent in messages`,
      async (stage) => {
        const program = stage.run("libsam/data_no_room", { args: [transport] });
        assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
        assertEquals(stage.lines("restored").map(({ size, value }) => [size, value ?? null]), [
          [0, null],
          [200_000, 2],
          [100_000, 1],
        ]);
      },
    );
  }

  processTest(
    `libsam health check, ${transport}: an unhealthy 11th answer causes a recovery, and the data survive`,
    async (stage) => {
      const program = stage.run("libsam/health_check", { args: [transport] });
      assertEquals(await program.exited, { code: 0, signal: null });
      assertEquals(
        stage.lines("registered").map(({ instance, restored }) => [instance, restored]),
        [[1, []], [2, [11]]],
      );
    },
  );
}
