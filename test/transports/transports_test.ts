// Every built-in transport, and the example of docs/transports.md, passes the conformance checks. Both sides run on
// this runtime.
import { assertEquals } from "@std/assert";
import type { Transport } from "../../mod.ts";
import { mapPage } from "../../src/ffi/mapped_page.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import type { Stream } from "../../src/runtime/runtime.ts";
import { memoryTransport, transportConformance } from "../../src/testing/mod.ts";
import { makePrivateDirectory } from "../../transports/private_directories.ts";
import { pipe } from "../../transports/pipe.ts";
import { shm } from "../../transports/shm.ts";
import { unix } from "../../transports/unix.ts";
import { mine } from "../generated/my_transport.ts"; // the one in docs/transports.md
import { fileShm } from "../support/file_shm.ts";
import { test } from "../support/harness.ts";
import { withoutLeaks } from "../support/leaks.ts";
import { eventually, processTest } from "../support/processes.ts";
import { currentRuntime, fixture } from "../support/runtimes.ts";

// The C library is opened once per process and stays open. It is opened here, so that the first test does not report it
// as a leak.
const runtime = await loadRuntime();
const directory = await makePrivateDirectory(runtime, true);
const file = await runtime.openFile(`${directory}/p`, true);
file.write(new Uint8Array(4096), 0);
(await mapPage(`${directory}/p`, 4096))?.unmap();
file.close();
runtime.remove(`${directory}/p`, directory);

function peerOf(transport: Transport): Parameters<typeof transportConformance>[1] {
  const flags = currentRuntime === "deno" ? ["-A", "--no-check"] : [];
  const name = currentRuntime === "deno" || currentRuntime === "bun" ? currentRuntime : "node";
  const module = fixture(
    transport === mine ? "../generated/my_transport_peer" : "transports/peer",
  );
  return { peer: { module, args: [transport.name], runtime: { name, flags } } };
}

for (const transport of [unix, pipe, shm, fileShm, mine]) {
  for (const check of transportConformance(transport, peerOf(transport))) {
    test(check.name, () => withoutLeaks(check.run));
  }
}
for (const check of transportConformance(memoryTransport())) {
  test(check.name, () => withoutLeaks(check.run));
}

test("a stream takes more bytes than the kernel has room for, and delivers them in order", () =>
  withoutLeaks(async () => {
    const directory = await makePrivateDirectory(runtime, false);
    const path = `${directory}/s`;
    const accepted: Stream[] = [];
    const listener = await runtime.listen(path, (stream) => accepted.push(stream));
    const from = await runtime.connect(path);
    await eventually("a connection", () => accepted.length === 1);
    const [to] = accepted;
    const parts = Array.from(
      { length: 60 },
      (_, nth) => new Uint8Array(nth % 3 === 0 ? 1 : 60_000).fill(nth),
    );
    for (const part of parts) from.write(part); // the other side does not read yet
    const sent = parts.flatMap((part) => [...part]);
    const got: number[] = [];
    to!.read((bytes) => {
      for (const byte of bytes) got.push(byte);
    }, () => {});
    from.read(() => {}, () => {});
    await eventually("all of it", () => got.length >= sent.length);
    assertEquals([got.length, sent.findIndex((byte, at) => byte !== got[at])], [sent.length, -1]);
    for (const each of [from, to!, listener]) each.close();
    runtime.remove(path, directory);
  }));

test(
  "on Deno, a listener accepts again after a lack of file descriptors",
  () =>
    withoutLeaks(async () => {
      interface Deno {
        listen(options: object): { accept(): Promise<unknown> };
      }
      const { Deno } = globalThis as unknown as { Deno: Deno };
      const { listen } = Deno;
      let failures = 1;
      Deno.listen = (options) => {
        const listener = listen(options);
        const accept = listener.accept.bind(listener);
        const fail = () => Promise.reject(new Error("Too many open files (os error 24)"));
        return Object.assign(listener, { accept: () => failures-- > 0 ? fail() : accept() });
      };
      const directory = await makePrivateDirectory(runtime, false);
      const path = `${directory}/s`;
      const accepted: Stream[] = [];
      const listener = await runtime.listen(path, (stream) => accepted.push(stream));
      Deno.listen = listen;
      const from = await runtime.connect(path);
      await eventually("a connection", () => accepted.length === 1);
      for (const each of [from, ...accepted, listener]) each.close();
      runtime.remove(path, directory);
    }),
  { skip: currentRuntime !== "deno" && "only for Deno" },
);

processTest(
  "shm without mapped memory behaves the same, and the program reports the fallback",
  async (stage) => {
    const watched = stage.supervise("transports/fallback", {
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
  },
);
