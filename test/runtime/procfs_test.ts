// What /proc says of a process and of those below it: the listening sockets, and the memory.
import { assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { loadRuntime } from "../../src/runtime/load.ts";
import {
  childrenOf,
  listeningSockets,
  processState,
  treeMemory,
} from "../../src/runtime/procfs.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, processTest } from "../support/processes.ts";

processTest("the listening sockets of a process are found, with their addresses", async (stage) => {
  const runtime = await loadRuntime();
  const before = listeningSockets(runtime, runtime.pid)!.map(({ target }) => target);
  const [everywhere] = await freePorts(1) as [number];
  const path = join(stage.directory, "test.sock");
  const servers = [
    createServer().listen(everywhere),
    createServer().listen(0, "127.0.0.1"),
    createServer().listen(0, "::1"),
    createServer().listen(path),
  ];
  try {
    await Promise.all(servers.map((server) => server.listening || once(server, "listening")));
    const chosen = servers.slice(1, 3).map((server) => (server.address() as { port: number }).port);
    const found = listeningSockets(runtime, runtime.pid)!
      .filter(({ target }) => !before.includes(target));
    assertEquals(
      found.map(({ port, path, isChosenByKernel }) => `${port ?? path} ${isChosenByKernel}`).sort(),
      [`${everywhere} false`, ...chosen.map((port) => `${port} true`), `${path} false`].sort(),
    );
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
  assertEquals(listeningSockets(runtime, 2 ** 22 + 1), undefined);
});

processTest("the memory of a process includes that of the processes below it", async () => {
  const runtime = await loadRuntime();
  const shell = spawn("sh", ["-c", "sleep 60 & sleep 60 & wait"], { stdio: "ignore" });
  try {
    const children = await eventually("both child processes", () => {
      const children = childrenOf(runtime, shell.pid!) ?? [];
      const name = (pid: number) => runtime.systemText(`/proc/${pid}/comm`);
      return children.length === 2 && children.every((pid) => name(pid) === "sleep\n") && children;
    });
    const sizeOf = (pid: number) => processState(runtime, pid)!.memoryBytes;
    await eventually("the sum of all memory", () => {
      const [first, second, third] = [shell.pid!, ...children].map(sizeOf) as [
        number,
        number,
        number,
      ];
      return Math.min(first, second, third) > 0 &&
        treeMemory(runtime, shell.pid!) === first + second + third;
    });
    assertEquals(treeMemory(runtime, 2 ** 22 + 1), undefined);
  } finally {
    for (const pid of childrenOf(runtime, shell.pid!) ?? []) process.kill(pid, "SIGKILL");
    await once(shell, "exit");
  }
});
