// The parts that a server is given may fail (transport, quorum source, cluster map): supervision goes on, and ends.
import { assert, assertEquals } from "@std/assert";
import type { SuperviseOptions, Transport } from "../../mod.ts";
import { checkProgram } from "../../src/api/program.ts";
import { checkSuperviseOptions } from "../../src/api/supervise_options.ts";
import { Supervision } from "../../src/supervisor/supervise.ts";
import { unix } from "../../transports/unix.ts";
import { processTest } from "../support/processes.ts";

const broken: Readonly<Record<string, Partial<SuperviseOptions>>> = {
  "a quorum source that does not end": {
    quorum: {
      watch: () => () => {
        throw new Error("no end");
      },
    },
  },
  "a quorum source that does not begin": {
    quorum: { watch: () => Promise.reject(new Error("no quorum")) },
  },
  "a cluster map that never answers": {
    clusterMap: { set: () => new Promise(() => {}), delete: () => new Promise(() => {}) },
  },
  "a cluster map that fails": {
    clusterMap: {
      set() {
        throw new Error("no map");
      },
      delete: () => Promise.reject(new Error("no map")),
    },
  },
  "a transport that does not close": {
    transport: failing((endpoint) => ({
      ...endpoint,
      close() {
        endpoint.close();
        throw new Error("not closed");
      },
    })),
  },
};

function failing(
  change: (endpoint: Awaited<ReturnType<Transport["open"]>>) => typeof endpoint,
): Transport {
  return { ...unix, open: async (runtime) => change(await unix.open(runtime)) };
}

for (const [name, options] of Object.entries(broken)) {
  processTest(`${name} is reported as a problem, and supervision goes on`, async (stage) => {
    const watched = stage.supervise("api/instance", {
      timeInterval: 60_000,
      recoveryPolicy: "quit",
      ...options,
    });
    await watched.event("register");
    const { code, reason } = await watched.supervisor.stop();
    assertEquals(reason === "stopped" || reason === "exit", true, reason);
    assert(code >= 0);
    await watched.ended;
    assert(watched.all("problem").length > 0, JSON.stringify(watched.events));
  });
}

processTest(
  "a transport that does not accept is reported as a problem, and the program is ended",
  async (stage) => {
    const transport = failing((endpoint) => ({
      ...endpoint,
      accept() {
        throw new Error("not accepted");
      },
    }));
    const watched = stage.supervise(
      { command: "sleep", args: ["60"] },
      { recoveryPolicy: "quit", transport },
    );
    assertEquals((await watched.finished()).code, 137);
    assert(watched.all("problem").length > 0);
  },
);

processTest(
  "a listener that throws at each event does not keep supervision from its end",
  async () => {
    const program = checkProgram({ command: "false" });
    const options = checkSuperviseOptions({
      recoveryPolicy: "restart",
      restart: { on: "failure", intensity: 2, maxDelay: 0 },
    }, program);
    const types: string[] = [];
    const supervision = new Supervision(program, options, (event) => {
      types.push(event.type);
      throw Object.create(null); // it cannot be converted to a string either
    });
    const { code, reason } = await supervision.finished;
    assertEquals([code, reason], [1, "restart-limit"]);
    assertEquals(types.filter((type) => type === "spawn" || type === "recovery").length, 6);
    assertEquals(types.at(-1), "finish");
  },
);
