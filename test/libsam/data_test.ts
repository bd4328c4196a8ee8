// libsam's own tests, told again: data that outlives the instance, and the health check. Each program is its own server.
import { assertEquals } from "@std/assert";
import { processTest, transports } from "../support/processes.ts";

const bytes = (length: number, first: number) =>
  Array.from({ length }, (_, at) => (first + at) % 256);

for (const transport of transports) {
  processTest(
    `libsam data, ${transport}: what is stored, deleted and stored again is what the next instance sees`,
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
      `data, ${transport}: without room for more beside the link, they go by messages`,
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
    `libsam health check, ${transport}: an unhealthy 11th answer is a recovery, with its data kept`,
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
