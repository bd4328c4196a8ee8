// Every transport passes the same checks, on this runtime for both sides; so does one that an outsider wrote.
import { assertEquals } from "@std/assert";
import type { Transport } from "../mod.ts";
import { loadRuntime } from "../src/runtime/runtime.ts";
import { memoryTransport, transportConformance } from "../src/testing.ts";
import { pipe } from "../transports/pipe.ts";
import { shm } from "../transports/shm.ts";
import { unix } from "../transports/unix.ts";
import { fileShm } from "./support/file_shm.ts";
import { test } from "./support/harness.ts";
import { lineTransport } from "./support/line_transport.ts";
import { withoutLeaks } from "./support/leaks.ts";
import { processTest } from "./support/processes.ts";
import { currentRuntime, fixture } from "./support/runtimes.ts";

// The C library is opened once per process and stays: before the tests, so that it is no leak of the first.
const runtime = await loadRuntime();
const directory = await runtime.makePrivateDirectory(true);
const file = await runtime.openFile(`${directory}/p`, true);
file.write(new Uint8Array(4096), 0);
(await runtime.mapPage(`${directory}/p`))?.close();
file.close();
runtime.remove(`${directory}/p`, directory);

function peerOf(transport: Transport): Parameters<typeof transportConformance>[1] {
  const flags = currentRuntime === "deno" ? ["-A", "--no-check"] : [];
  const name = currentRuntime === "deno" || currentRuntime === "bun" ? currentRuntime : "node";
  return {
    peer: { module: fixture("transport_peer"), args: [transport.name], runtime: { name, flags } },
  };
}

for (const transport of [unix, pipe, shm, fileShm, lineTransport]) {
  for (const check of transportConformance(transport, peerOf(transport))) {
    test(check.name, () => withoutLeaks(check.run));
  }
}
for (const check of transportConformance(memoryTransport())) {
  test(check.name, () => withoutLeaks(check.run));
}

processTest("shm without memory: the same behaviour, and the program says so", async (stage) => {
  const watched = stage.supervise("transport_fallback", {
    timeInterval: 300,
    recoveryPolicy: "restart",
    transport: fileShm,
  });
  assertEquals((await watched.finished()).reason, "exit");
  assertEquals(watched.all("recovery").map(({ reason, instanceId }) => [reason, instanceId]), [
    ["timeout", 1],
  ]);
  const sides = watched.all("fallback").filter(({ instanceId }) => instanceId === 1);
  assertEquals(sides.map(({ side }) => side), ["program"]);
});
