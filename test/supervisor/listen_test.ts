// The option `listen`: the server holds the listening sockets of its program, so that no connection is refused.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { SuperviseOptions } from "../../mod.ts";
import { ask } from "../support/ask.ts";
import { taggedProcesses } from "../support/leaks.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, processTest, transports } from "../support/processes.ts";
import { page } from "../support/command.ts";
import { currentRuntime } from "../support/runtimes.ts";

const restart: SuperviseOptions = {
  timeInterval: 0,
  recoveryPolicy: "restart",
  restart: { on: "failure", maxDelay: 0 },
};
/** A delay in which a test can connect while no instance runs. */
const late: SuperviseOptions = {
  ...restart,
  restart: { on: "failure", initialDelay: 500, maxDelay: 500 },
};

processTest(
  "connections wait while no instance runs, and the next instance serves them",
  async (stage) => {
    const [port] = await freePorts(1) as [number];
    const watched = stage.supervise("supervisor/held", { ...late, listen: port });
    const first = await stage.line("listening");
    assertEquals(await ask(port), String(first.pid));
    assertEquals(await ask(port, "crash"), ""); // the request in flight is lost
    await watched.event("exit", 1);
    const answers = Array.from({ length: 20 }, () => ask(port));
    const second = await stage.line("listening", 2);
    assert(second.pid !== first.pid);
    assertEquals(await Promise.all(answers), answers.map(() => String(second.pid)));
    await watched.supervisor.stop();
    assertEquals(await ask(port), undefined);
  },
);

processTest(
  "an instance gets its sockets and their description, with each transport",
  async (stage) => {
    const ports = await freePorts(2);
    const listen = [`127.0.0.1:${ports[0]}`, `[::1]:${ports[1]}`];
    for (const [at, transport] of transports.entries()) {
      const watched = stage.supervise("supervisor/held", { ...restart, transport, listen }, {
        env: { "link.with-dot": "kept" },
      });
      const line = await stage.line("listening", at + 1);
      const sockets = line["sockets"] as { name: string; address: string; fd: number }[];
      const names = listen.map((each) => each.replaceAll(":", "_"));
      assertEquals(
        sockets.map(({ name, address }) => [name, address]),
        listen.map((address, at) => [names[at], address]),
      );
      const { variables } = line;
      // A server on Deno hands sockets on under other numbers than those of the protocol of systemd.
      if (currentRuntime === "deno") {
        assert(sockets.every(({ fd }) => fd >= 10));
        assertEquals([variables[0], variables[2], variables[3]], [null, null, "kept"]);
      } else {
        assertEquals(sockets.map(({ fd }) => fd), [3, 4]);
        assertEquals(variables, ["2", String(line.pid), names.join(":"), "kept"]);
      }
      assertEquals(await ask(ports[0]!), String(line.pid));
      await watched.supervisor.stop();
    }
  },
);

processTest("a program that knows nothing of SAM takes over the held socket", async (stage) => {
  const [port] = await freePorts(1) as [number];
  const program = stage.program("supervisor/plain_server", { args: [String(port)] });
  const watched = stage.supervise({ ...program, preload: true }, {
    ...late,
    timeInterval: 20_000,
    listen: String(port),
  });
  const first = await stage.line("listening");
  assertEquals(first["address"].port, port);
  assertEquals(await ask(port, "crash"), "");
  await watched.event("exit", 1);
  const answers = Array.from({ length: 5 }, () => ask(port));
  const second = await stage.line("listening", 2);
  assertEquals(await Promise.all(answers), answers.map(() => String(second.pid)));
});

processTest("a program that listens elsewhere is left alone", async (stage) => {
  const [held, own] = await freePorts(2) as [number, number];
  const program = stage.program("supervisor/plain_server", { args: [String(own), "127.0.0.1"] });
  stage.supervise({ ...program, preload: true }, {
    ...restart,
    timeInterval: 20_000,
    listen: held,
  });
  const { address, pid } = await stage.line("listening");
  assertEquals(address.port, own);
  assertEquals(await ask(own), String(pid));
});

processTest("a web server of the runtime works behind the option", async (stage) => {
  const [port] = await freePorts(1) as [number];
  const program = stage.program("supervisor/web_server", { args: [String(port)] });
  const watched = stage.supervise({ ...program, preload: true, stdio: "ignore" }, {
    ...late,
    timeInterval: 20_000,
    listen: port,
  });
  const first = await stage.line("listening");
  assertEquals(await page(port, "/"), String(first.pid));
  assertEquals(await page(port, "/crash"), undefined);
  await watched.event("exit", 1);
  const between = page(port, "/");
  const second = await stage.line("listening", 2);
  // Only node:http takes a descriptor: see docs/runtimes.md.
  const waits = currentRuntime.startsWith("node");
  assertEquals(await between, waits ? String(second.pid) : undefined);
  assertEquals(await page(port, "/"), String(second.pid));
});

processTest("a spare inherits the sockets, too", async (stage) => {
  const [port] = await freePorts(1) as [number];
  const watched = stage.supervise("supervisor/held", { ...restart, standby: 1, listen: port });
  await stage.line("listening");
  await eventually("a spare", () => watched.supervisor.status.spare);
  assertEquals(await ask(port, "crash"), "");
  const second = await stage.line("listening", 2);
  assertEquals(await ask(port), String(second.pid));
});

processTest("only instances inherit the sockets", async (stage) => {
  const [port] = await freePorts(1) as [number];
  const watched = stage.supervise("supervisor/held", {
    ...restart,
    listen: port,
    check: { command: "true", period: 50 },
  });
  const { pid } = await stage.line("listening");
  await watched.event("check");
  const socket = readlinkSync(`/proc/${pid}/fd/3`);
  const others = taggedProcesses().filter((each) => each !== pid && each !== process.pid);
  assert(others.length > 0, "there is a guard");
  for (const other of others) assert(!targets(other).includes(socket), `${other} has the socket`);
});

/** The targets of all descriptors of a process. */
function targets(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  } catch {
    return []; // the process, or one of its descriptors, is gone
  }
}

processTest("a command gets the sockets by the protocol of systemd", async (stage) => {
  const [port] = await freePorts(1) as [number];
  const output = join(stage.directory, "output");
  const script =
    'echo "$LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID == $$))" > "$0"; readlink /proc/$$/fd/3 >> "$0"; sleep 600';
  stage.supervise({ command: "sh", args: ["-c", script, output] }, { ...restart, listen: port });
  const lines = await eventually("the output", () => {
    const lines = existsSync(output) ? readFileSync(output, "utf8").split("\n") : [];
    return lines.length === 3 ? lines : undefined;
  });
  assertEquals(lines[0], `1 ${port} 1`);
  assertStringIncludes(lines[1]!, "socket:");
});

processTest("a command that does not exist is an error, also with sockets", async (stage) => {
  const [port] = await freePorts(1) as [number];
  const watched = stage.supervise({ command: "/none/such" }, { ...restart, listen: port });
  const { reason, error } = await watched.finished();
  assertEquals([reason, error?.code], ["spawn", "LIBRARY"]);
});

processTest("an address in use ends supervision before the program starts", async (stage) => {
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as { port: number };
  try {
    const watched = stage.supervise("supervisor/held", { ...restart, listen: `127.0.0.1:${port}` });
    const { reason, error } = await watched.finished();
    assertEquals(reason, "spawn");
    assertEquals(
      error?.message,
      `cannot listen on 127.0.0.1:${port}: another process uses the port. Stop that process, or choose another address for listen.`,
    );
    assertEquals(watched.all("spawn"), []);
  } finally {
    await new Promise((resolve) => other.close(resolve));
  }
});

processTest("an address that the machine does not have is an error", async (stage) => {
  const watched = stage.supervise("supervisor/held", { ...restart, listen: "192.0.2.1:8080" });
  const { error } = await watched.finished();
  assertStringIncludes(error!.message, "this machine does not have the address");
});

processTest(
  "a Unix socket replaces one that nobody uses, and is removed at the end",
  async (stage) => {
    const path = join(stage.directory, "web.sock");
    const listen = `unix:${path}`;
    const one = stage.supervise("supervisor/held", { ...late, listen });
    const first = await stage.line("listening");
    assertEquals(await ask(path), String(first.pid));

    const two = stage.supervise("supervisor/held", { ...restart, listen });
    assertStringIncludes((await two.finished()).error!.message, "another process uses the socket");
    assertEquals(await ask(path), String(first.pid));

    await one.supervisor.stop();
    assertEquals(existsSync(path), false);

    writeFileSync(path, "");
    const three = stage.supervise("supervisor/held", { ...restart, listen });
    assertStringIncludes((await three.finished()).error!.message, "is not a socket");
    assert(lstatSync(path).isFile());
  },
);

processTest("a Unix socket with a full backlog is in use", async (stage) => {
  if (currentRuntime === "bun") return; // Bun reports a full backlog as a refused connection
  const path = join(stage.directory, "web.sock");
  const listen = `unix:${path}`;
  stage.supervise({ command: "sleep", args: ["60"] }, { ...restart, listen });
  const waiting: Socket[] = [];
  let isFull = false;
  await eventually("a full backlog", () => {
    for (let at = 0; at < 50 && existsSync(path); at++) {
      waiting.push(connect(path).on("error", () => isFull = true));
    }
    return isFull;
  });
  const two = stage.supervise("supervisor/held", { ...restart, listen });
  assertStringIncludes((await two.finished()).error!.message, "another process uses the socket");
  for (const each of waiting) each.destroy();
});

processTest(
  "a server that has inherited its sockets hands them on, and its end refuses nobody",
  async (stage) => {
    const [port] = await freePorts(1) as [number];
    const inner = stage.commandOf("supervisor/activated_server", { args: [String(port)] });
    const [command, ...args] = inner as [string, ...string[]];
    const { env } = stage.program("supervisor/activated_server");
    stage.supervise({ command, args, env: env! }, { ...late, listen: port });
    const first = await stage.line("listening");
    const server = await stage.line("server");
    assertEquals(await ask(port), String(first.pid));
    process.kill(server.pid, "SIGKILL");
    await eventually("the end of the server", () => !existsSync(`/proc/${server.pid}`));
    await eventually("the end of the instance", () => !existsSync(`/proc/${first.pid}`));
    const answers = Array.from({ length: 5 }, () => ask(port));
    const second = await stage.line("listening", 2);
    assertEquals(await Promise.all(answers), answers.map(() => String(second.pid)));
  },
);
