// The names of control sockets: several servers may start and end under the same name.
import { assertEquals } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { Control } from "../../src/cli/serve/control_server.ts";
import { connect } from "../../src/cli/control/control_socket.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { processTest } from "../support/processes.ts";

/** Listens at another path, and then renames it to `path`, as a server does whose directory is reachable by two paths. */
async function listening(path: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(`${path}~`, resolve));
  renameSync(`${path}~`, path);
  return server;
}

async function closed(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}

/** Calls `act` with the path of the socket of a server named "web", in a directory that only this test uses. */
async function withSocket(directory: string, act: (path: string) => Promise<void>): Promise<void> {
  const before = process.env["XDG_RUNTIME_DIR"];
  process.env["XDG_RUNTIME_DIR"] = directory;
  mkdirSync(`${directory}/sam`, { mode: 0o700 });
  try {
    await act(`${directory}/sam/web.sock`);
  } finally {
    if (before === undefined) delete process.env["XDG_RUNTIME_DIR"];
    else process.env["XDG_RUNTIME_DIR"] = before;
  }
}

processTest(
  "a client that finds a dead server's socket does not remove the socket that has just replaced it",
  (stage) =>
    withSocket(stage.directory, async (path) => {
      const runtime = await loadRuntime();
      await closed(await listening(path));
      let other: Server | undefined;
      const refused = Object.assign(new Error("connection refused"), { code: "ECONNREFUSED" });
      const slow = {
        ...runtime,
        async connect() {
          rmSync(path);
          other = await listening(path);
          throw refused;
        },
      };
      assertEquals(await connect(slow, "web"), undefined);
      const lines = await connect(runtime, "web");
      assertEquals(lines !== undefined, true, "the running server has lost its socket");
      lines!.close();
      await closed(other!);
      assertEquals(await connect(runtime, "web"), undefined);
      assertEquals(readdirSync(`${stage.directory}/sam`), []);
    }),
);

processTest(
  "a server that ends does not remove the socket of another server that now has its name",
  (stage) =>
    withSocket(stage.directory, async (path) => {
      const runtime = await loadRuntime();
      const first = await Control.open(runtime, "web");
      rmSync(path); // as the system does when the user logs out
      const other = await listening(path);
      await first!.close();
      assertEquals(readdirSync(`${stage.directory}/sam`), ["web.sock"]);
      (await connect(runtime, "web"))!.close();
      await closed(other);
      const second = await Control.open(runtime, "web");
      assertEquals(existsSync(path), true);
      await second!.close();
      assertEquals(readdirSync(`${stage.directory}/sam`), []);
    }),
);
