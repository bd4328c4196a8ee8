// The spare on real processes: it takes over, its own end disturbs no process, and no end of supervision leaves it behind.
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { Endpoint, Link, LinkSink, Transport } from "../../mod.ts";
import { unix } from "../../transports/unix.ts";
import { taggedProcesses } from "../support/leaks.ts";
import { eventually, processTest, transports } from "../support/processes.ts";

const options = {
  timeInterval: 0,
  recoveryPolicy: "restart",
  standby: 1,
  restart: { intensity: 20, maxDelay: 0 },
} as const;

for (const transport of transports) {
  processTest(
    `standby, ${transport}: the parked spare becomes the next instance, and has the data`,
    async (stage) => {
      const watched = stage.supervise("supervisor/standby", { ...options, transport }, {
        args: [transport, "ends"],
      });
      for (const instance of [1, 2]) {
        await stage.line("started", instance);
        const spare = await eventually("a parked spare", () => {
          const { status } = watched.supervisor;
          return status.spare?.state === "parked" && status.spare.pid;
        });
        stage.go(`die ${instance}`);
        const next = await stage.line("registered", instance + 1);
        assertEquals([next.pid, next["instance"]], [spare, instance + 1]);
        assertEquals(next["data"], [instance]);
      }
      const { code, reason } = await watched.finished();
      assertEquals([code, reason], [5, "exit"]);
      assertEquals(watched.supervisor.status.spare, null);
    },
  );

  processTest(
    `standby, ${transport}: a program that is its own server has a spare, which ends with it`,
    async (stage) => {
      const server = stage.run("supervisor/standby", { args: [transport, "stays"] });
      await stage.line("started");
      await stage.line("born", 3); // the server, the instance, the spare
      server.kill("SIGTERM");
      assertEquals((await server.exited).code, 143);
      await eventually("the end of all processes", () => taggedProcesses().length === 0);
    },
  );
}

processTest(
  "standby: a killed spare is replaced, and the instance goes on",
  async (stage) => {
    const watched = stage.supervise("supervisor/standby", options, { args: ["unix", "stays"] });
    const { pid } = await stage.line("started");
    const parked = () => watched.all("spare").filter(({ state }) => state === "parked");
    const first = await eventually("a spare", () => parked()[0]);
    process.kill(first.pid!, "SIGKILL");
    const second = await eventually("the next spare", () => parked()[1]);
    assertNotEquals(first.pid, second.pid);
    assertEquals(watched.supervisor.status.pid, pid);
    assertEquals(watched.all("recovery"), []);
  },
);

processTest("standby: a command is ready again when its spare is promoted", async (stage) => {
  const [command, ...args] = stage.commandOf("supervisor/standby", { args: ["unix", "stays"] });
  const { env } = stage.program("supervisor/standby");
  const watched = stage.supervise({ command: command!, args, env: env! }, options);
  await watched.event("spawn");
  const isReady = () => watched.supervisor.status.ready;
  assertEquals(isReady(), true);
  await eventually("a parked spare", () => watched.supervisor.status.spare?.state === "parked");
  process.kill(watched.supervisor.status.pid!, "SIGKILL");
  await eventually(
    "the promotion",
    () => watched.all("spare").some(({ state }) => state === "promoted"),
  );
  assertEquals(isReady(), true);
});

processTest("standby: restart() ends the spare, too, and starts a new process", async (stage) => {
  const watched = stage.supervise("supervisor/standby", options, { args: ["unix", "stays"] });
  await stage.line("started");
  const spare = await eventually("a spare", () => {
    const { status } = watched.supervisor;
    return status.spare?.state === "parked" && status.spare.pid;
  });
  await watched.supervisor.restart();
  const next = await stage.line("started", 2);
  assertEquals(next["instance"], 2);
  assertNotEquals(next.pid, spare);
  assert(watched.all("spare").every(({ state }) => state !== "promoted"));
});

processTest("standby: when the server is killed, the spare ends as well", async (stage) => {
  const server = stage.run("supervisor/standby", { args: ["unix", "stays"] });
  await stage.line("started");
  await stage.line("born", 3);
  server.kill("SIGKILL");
  await eventually("the end of all processes", () => taggedProcesses().length === 0);
});

processTest(
  "standby: a message on the last instance's link does not count for the next instance",
  async (stage) => {
    // Another process holds this link open, so it ends only when the server closes it, after the end was judged.
    const transport: Transport = {
      ...unix,
      open: async (runtime) => {
        const endpoint = await unix.open(runtime);
        const accept: Endpoint["accept"] = (child, onLink) =>
          endpoint.accept(child, (link) => onLink(heldOpen(link)));
        return { ...endpoint, accept };
      },
    };
    const watched = stage.supervise(
      "supervisor/standby",
      { ...options, transport, warnSignal: "SIGWINCH" }, // ignored by default: the process learns of the warning by its link
      { args: ["unix", "obeys"] },
    );
    await stage.line("started");
    await eventually("a spare", () => watched.supervisor.status.spare?.state === "parked");
    stage.go("die 1");
    await stage.line("started", 2);
    assertEquals((await watched.supervisor.stop()).code, 4);
    assertEquals(stage.lines("aborted").map(({ instance }) => instance), [2]);
  },
);

function heldOpen(link: Link): Link {
  let serverSink: LinkSink | null = null;
  return {
    ...link,
    receive(sink) {
      serverSink = sink;
      link.receive(sink && { ...sink, end() {} });
    },
    close() {
      link.close();
      serverSink?.end("closed");
      serverSink = null;
    },
  };
}
