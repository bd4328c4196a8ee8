// Every transport passes the same checks, on this runtime for both sides; so does one that an outsider wrote.
import type { Transport } from "../mod.ts";
import { loadRuntime } from "../src/runtime/runtime.ts";
import { memoryTransport, transportConformance } from "../src/testing.ts";
import { pipe } from "../transports/pipe.ts";
import { shm } from "../transports/shm.ts";
import { unix } from "../transports/unix.ts";
import { test } from "./support/harness.ts";
import { lineTransport } from "./support/line_transport.ts";
import { currentRuntime, fixture } from "./support/runtimes.ts";

// The C library is opened once per process and stays: before the tests, so that it is no leak of the first.
const runtime = await loadRuntime();
const directory = await runtime.makePrivateDirectory(true);
(await runtime.openPage(`${directory}/p`, { create: true, map: true })).close();
runtime.remove(`${directory}/p`, directory);

function peerOf(transport: Transport): Parameters<typeof transportConformance>[1] {
  const flags = currentRuntime === "deno" ? ["-A", "--no-check"] : [];
  const name = currentRuntime === "deno" || currentRuntime === "bun" ? currentRuntime : "node";
  return {
    peer: { module: fixture("transport_peer"), args: [transport.name], runtime: { name, flags } },
  };
}

for (const transport of [unix, pipe, shm, lineTransport]) {
  for (const check of transportConformance(transport, peerOf(transport))) {
    test(check.name, check.run);
  }
}
for (const check of transportConformance(memoryTransport())) test(check.name, check.run);
