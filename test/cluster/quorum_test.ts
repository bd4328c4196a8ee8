// Quorum of a real Corosync: libsam's own test, and cases that libsam gets wrong.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { setTimeout as sleep } from "node:timers/promises";
import type { SuperviseOptions } from "../../mod.ts";
import { corosyncClusterMap, corosyncQuorum } from "../../src/corosync/mod.ts";
import type { Service } from "../../src/corosync/daemon/service.ts";
import { type QuorumEvent, quorumService } from "../../src/corosync/daemon/quorum_service.ts";
import type { Native, NativeFunction } from "../../src/ffi/c_library.ts";
import { loadNative } from "../../src/ffi/load_c_library.ts";
import { clusterTest } from "../support/corosync.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { eventually, lives, type Stage, type Watched } from "../support/processes.ts";

const policy = { recoveryPolicy: "restart", restart: { maxDelay: 0 } } as const;

/** Runs a program that follows `plan`. This process is its server. */
function supervise(
  stage: Stage,
  options: Omit<SuperviseOptions, "recoveryPolicy">,
  plan: object = {},
): Watched {
  const own = { timeInterval: 0, recoveryPolicy: "quit", ...plan };
  return stage.supervise("corosync/program", { ...policy, ...options }, {
    args: [JSON.stringify(own)],
  });
}

/** Reasons of all recoveries so far. */
const reasons = (watched: Watched) => watched.all("recovery").map(({ reason }) => reason);

/** Codes of all problems so far. */
const problems = (watched: Watched) => watched.all("problem").map(({ error }) => error.code);

/** Asserts that this process, which is the server, uses little CPU time while it waits for the daemon. */
async function usesLittleCpuTime(): Promise<void> {
  const before = process.cpuUsage();
  await sleep(500);
  const { user, system } = process.cpuUsage(before);
  assert(user + system < 150_000, `${user + system} µs of CPU time in 500 ms`);
}

clusterTest(
  "libsam quorum, on corosync: an exit while start() waits is a recovery, and so is a loss of quorum",
  async (stage, node) => {
    await node.setQuorate(false);
    const program = stage.supervise("libsam/quorum", {
      ...policy,
      timeInterval: 2000,
      quorum: corosyncQuorum(),
    });
    await stage.line("ends while it waits");
    await program.event("waiting", 2);
    await node.setQuorate(true);
    await stage.line("started");
    await node.setQuorate(false);
    assertEquals((await program.finished()).code, 0);
    assertEquals(stage.lines("registered").map(({ instance }) => instance), [1, 2, 3]);
    assertEquals(stage.lines("started").map(({ instance }) => instance), [2]);
    assertEquals(reasons(program), ["exit", "quorum"]);
  },
);

for (const [timeInterval, stopTimeout] of [[300, 10_000], [0, 300]] as const) {
  clusterTest(
    `quorum lost, time interval ${timeInterval}: a program that ignores the warning and sends heartbeats is killed`,
    async (stage, node) => {
      const options = { timeInterval, stopTimeout, quorum: corosyncQuorum() };
      const program = supervise(stage, options, { stubborn: true });
      const { pid } = await program.event("spawn", 1);
      await stage.line("start");
      await node.setQuorate(false);
      await stage.line("warned");
      await program.event("kill", 1);
      const { signal } = await program.event("exit", 1);
      assertEquals([signal, lives(pid)], ["SIGKILL", false]);
      await program.event("waiting", 2);
      assertEquals(reasons(program), ["quorum"]);
      await node.setQuorate(true);
      await program.event("start", 2);
    },
    { leg: timeInterval > 0 ? "node22" : "bun" },
  );
}

clusterTest(
  "the daemon ends: a program is warned, and killed one time interval later; the next daemon brings quorum back",
  async (stage, node) => {
    const quorum = corosyncQuorum({ answerTimeout: 60_000 }); // longer than the test: only the end of the daemon counts
    const timeInterval = 1000;
    const stubborn = supervise(stage, { timeInterval, quorum }, { stubborn: true });
    const program = supervise(stage, { timeInterval: 0, quorum });
    await stage.line("start", 2);
    await node.kill();
    for (const each of [stubborn, program]) {
      await each.event("waiting", 2);
      assertEquals(reasons(each), ["quorum"]);
      assertEquals(problems(each), ["TRY_AGAIN"]);
    }
    assertEquals(stage.lines("warned").length, 1);
    const graceMs = (await stubborn.event("kill", 1)).at - (await stubborn.event("warn", 1)).at;
    // Half the interval allows for delays of the events. Without a grace period the kill would follow at once.
    assert(graceMs >= timeInterval / 2, `killed ${graceMs} ms after the warning`);
    assertEquals((await program.event("recovery", 1)).evidence.signal, "SIGTERM");
    assertEquals(program.all("kill"), []);
    await usesLittleCpuTime();
    await node.start();
    await stubborn.event("start", 2);
    await program.event("start", 2);
    await node.kill();
    await node.start();
    await program.event("start", 3);
  },
);

clusterTest(
  "the daemon is not running yet: start() waits for it, and an event says why",
  async (stage, node) => {
    const program = supervise(stage, { timeInterval: 0, quorum: corosyncQuorum() });
    await program.event("waiting", 1);
    assertEquals((await program.event("problem")).error.code, "TRY_AGAIN");
    await usesLittleCpuTime();
    await node.start();
    await stage.line("start");
    assertEquals(program.all("problem").length, 1);
  },
  { isUp: false, leg: "bun" },
);

clusterTest(
  "the daemon is frozen: quorum counts as lost after answerTimeout, and is back when the daemon answers",
  async (stage, node) => {
    const quorum = corosyncQuorum({ answerTimeout: 1000 });
    const program = supervise(stage, { timeInterval: 300, quorum }, { stubborn: true });
    await stage.line("start");
    node.freeze();
    await program.event("kill", 1);
    assertEquals((await program.event("warn", 1)).reason, "quorum");
    assertEquals(problems(program), ["TIMEOUT"]);
    await program.event("waiting", 2);
    node.thaw();
    await program.event("start", 2);
  },
);

clusterTest(
  "the daemon is frozen for less than its token timeout: its answers count when token and consensus have passed",
  async (stage, node) => {
    await node.set("totem.token", "u32", "5000"); // longer than the freeze; consensus is then 6000
    const quorum = corosyncQuorum({ answerTimeout: 200 });
    const program = supervise(stage, { timeInterval: 0, quorum });
    await stage.line("start");
    node.freeze();
    await program.event("waiting", 2);
    node.thaw();
    await sleep(1000);
    node.freeze(); // a second freeze before the answers count again is the same loss
    await sleep(1000);
    node.thaw();
    const thawed = Date.now();
    const { at } = await program.event("start", 2);
    assert(at - thawed > 12_000, `start() was granted ${at - thawed} ms after the thaw`);
    assertEquals(problems(program), ["TIMEOUT"]);
  },
  { leg: "node24" },
);

/** Makes the quorum service with the real library. `replace` may replace its functions. `reports` collects its events. */
async function serviceWith(
  replace: (name: string, real: NativeFunction) => NativeFunction,
): Promise<{ readonly service: Service; readonly reports: readonly boolean[] }> {
  const native = await loadNative();
  const open: Native["open"] = (file, asked) => {
    const { functions, close } = native.open(file, asked);
    const entries = Object.entries<NativeFunction>(functions);
    const replaced = entries.map(([name, real]) => [name, replace(name, real)] as const);
    return { functions: { ...functions, ...Object.fromEntries(replaced) }, close };
  };
  const reports: boolean[] = [];
  const emit = (event: unknown) => reports.push((event as QuorumEvent).quorate);
  return { service: quorumService({ native: { ...native, open }, emit }), reports };
}

clusterTest(
  "quorum that is gained while a connection is made is not reported as lost",
  async (_stage, node) => {
    await node.setQuorate(false);
    const loggedBefore = node.log().length;
    let calls = 0;
    // Quorum is gained between the first call and the second.
    const { service, reports } = await serviceWith((name, real) =>
      /trackstart|getquorate/.test(name)
        ? async (...args) => {
          if (++calls === 2) {
            await node.setQuorate(true);
            const comes = () => node.log().includes("within the primary", loggedBefore);
            await eventually("quorum", comes);
          }
          return real(...args);
        }
        : real
    );
    try {
      await service.connect();
      await eventually("the notifications", async () => {
        await service.dispatch();
        return reports.length > 1;
      });
      for (let n = 0; n < 5; n++) await service.dispatch();
      assertEquals([calls, reports], [2, [false, true]]);
    } finally {
      await service.disconnect();
      service.close();
    }
  },
  {
    skip: currentRuntime === "node26" &&
      "a callback from Corosync's library needs more stack than Node's main thread has",
  },
);

clusterTest("a connection that fails half-way has reported nothing", async () => {
  const library = 2; // CS_ERR_LIBRARY: the daemon has ended
  const { service, reports } = await serviceWith((name, real) =>
    name === "quorum_trackstart" ? () => library : real
  );
  try {
    const error = await eventually("an answer", async () => {
      const why = await service.connect().then(() => new Error("connected"), (each) => each);
      return why.code !== "TRY_AGAIN" && why; // TRY_AGAIN means that the daemon is not ready yet
    });
    assertStringIncludes(error.message, "quorum_trackstart() failed");
    assertEquals(reports, []);
  } finally {
    service.close();
  }
}, { leg: "bun" });

clusterTest(
  "the daemon ends while it owes an answer: one loss, and one event problem for each reason",
  async (stage, node) => {
    const quorum = corosyncQuorum({ answerTimeout: 1000 });
    const program = supervise(stage, { timeInterval: 0, quorum });
    await stage.line("start");
    node.freeze();
    await program.event("waiting", 2);
    assertEquals(problems(program), ["TIMEOUT"]);
    await node.kill();
    await eventually("a second problem", () => problems(program).length > 1);
    assertEquals(problems(program), ["TIMEOUT", "TRY_AGAIN"]);
    assertEquals(reasons(program), ["quorum"]);
    await node.start();
    await program.event("start", 2);
  },
  { leg: "node22" },
);

clusterTest(
  "the daemon is frozen: SAM still notices a hang, with quorum and cluster map",
  async (stage, node) => {
    const quorum = corosyncQuorum({ answerTimeout: 60_000 });
    const options = { timeInterval: 300, quorum, clusterMap: corosyncClusterMap() };
    const program = supervise(stage, options, { steps: ["start", "hang"] });
    stage.go("1.1 start");
    await stage.line("start");
    node.freeze();
    stage.go("1.2 hang");
    await stage.line("hangs");
    await program.event("recovery", 1);
    assertEquals(reasons(program), ["timeout"]);
    await program.event("register", 2);
    const began = performance.now();
    const { reason } = await program.supervisor.stop();
    assertEquals(reason, "stopped");
    assert(performance.now() - began < 15_000);
    node.thaw();
  },
  { leg: "node20" },
);

clusterTest(
  "an AbortSignal ends a start() that waits, and start() can be called again",
  async (stage, node) => {
    await node.setQuorate(false);
    const program = supervise(stage, { timeInterval: 0, quorum: corosyncQuorum() }, {
      steps: ["impatient", "start"],
    });
    stage.go("1.1 impatient");
    const line = await stage.line("interrupted");
    assertEquals([line["code"], line["state"]], ["INTERRUPT", "registered"]);
    stage.go("1.2 start");
    await program.event("waiting", 1);
    await node.setQuorate(true);
    await stage.line("start");
  },
  { leg: "node22" },
);

clusterTest(
  "quorum and cluster map together: start() gets one answer, and a kill while start() waits is a recovery",
  async (stage, node) => {
    await node.setQuorate(false);
    const key = `resources.process.${process.pid}.state`;
    const state = (value: string | undefined) =>
      eventually(`the state ${value}`, async () => await node.read(key) === value);
    const options = { quorum: corosyncQuorum(), clusterMap: corosyncClusterMap() };
    const program = supervise(stage, { ...options, timeInterval: 2000 });
    const { pid } = await program.event("spawn", 1);
    await state("waiting for quorum");
    process.kill(pid, "SIGKILL");
    await program.event("recovery", 1);
    await program.event("waiting", 2);
    await state("waiting for quorum");
    await node.setQuorate(true);
    await stage.line("start");
    await state("running");
    assertEquals(program.all("start").length, 1);
    assertEquals(program.all("problem"), []);
    assertEquals(reasons(program), ["signal"]);
    assertEquals((await program.supervisor.stop()).reason, "stopped");
    await state(undefined);
  },
);

clusterTest(
  "a program that is its own server survives the end and the return of the daemon",
  async (stage, node) => {
    const plan = { ...policy, timeInterval: 0, stopTimeout: 500, quorum: {}, clusterMap: true };
    const server = stage.run("corosync/program", { args: [JSON.stringify(plan)] });
    await stage.line("start");
    await node.kill();
    await stage.line("registered", 2);
    await node.start();
    await stage.line("start", 2);
    await eventually("all keys", async () => {
      const { state, recovery } = (await node.processes())[server.pid] ?? {};
      return state === "running" && recovery === "restart";
    });
    server.kill("SIGTERM");
    assertEquals((await server.exited).code, 143, server.stderr());
    assertEquals(await node.processes(), {});
  },
  { leg: "bun" },
);
