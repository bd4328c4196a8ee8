// Listening sockets on a Node that cannot call C.
import { assertEquals, assertRejects } from "@std/assert";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SocketCalls } from "../../src/runtime/socket_calls.ts";
import { ask } from "../support/ask.ts";
import { freePorts } from "../support/ports.ts";
import { processTest } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

const skip = !currentRuntime.startsWith("node") && "only Node has these functions";

async function load(): Promise<SocketCalls> {
  return (await import("../../src/runtime/node_sockets.ts")).nodeSockets();
}

processTest("Node opens a socket that listens and does not accept", async (stage) => {
  const calls = await load();
  const [port] = await freePorts(1) as [number];
  for (const host of ["127.0.0.1", "::"]) {
    const descriptor = await calls.open({ host, port }, "listen");
    const waiting = ask(port);
    await assertRejects(() => calls.open({ host, port }, "listen"), Error, "EADDRINUSE");
    assertEquals(calls.addressOf(descriptor), { host, port });
    calls.close(descriptor);
    assertEquals(await waiting, undefined); // the kernel resets the connection, which no process has accepted
    assertEquals(await ask(port), undefined);
  }
  const path = join(stage.directory, "socket");
  const descriptor = await calls.open({ path }, "listen");
  assertEquals(existsSync(path), true);
  assertEquals((await load()).addressOf(descriptor), { path }); // as a socket that this process has inherited
  const waiting = ask(path);
  calls.close(descriptor);
  await waiting;
  await assertRejects(() => calls.open({ path: "/none/socket" }, "listen"), Error, "EACCES");
}, { skip });
