// The cluster map of a real Corosync: libsam's own tests, and cases that libsam gets wrong.
import { assert, assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { SuperviseOptions } from "../../mod.ts";
import { corosyncClusterMap } from "../../src/corosync/mod.ts";
import { allocate } from "../../src/ffi/c_memory.ts";
import { loadNative } from "../../src/ffi/load_c_library.ts";
import { clusterTest, type Corosync } from "../support/corosync.ts";
import { eventually, type Stage, type Watched } from "../support/processes.ts";

/** Runs a program that does these steps. This process is its server. */
function supervise(
  stage: Stage,
  options: Partial<SuperviseOptions>,
  ...steps: readonly string[]
): Watched {
  const plan = { timeInterval: 0, recoveryPolicy: "quit", steps };
  return stage.supervise("corosync/program", {
    recoveryPolicy: "restart",
    restart: { maxDelay: 0 },
    clusterMap: corosyncClusterMap(),
    ...options,
  }, { args: [JSON.stringify(plan)] });
}

const keyOf = (pid: number, name: string) => `resources.process.${pid}.${name}`;

/** The keys of this process, which is the server. */
const keysOf = async (node: Corosync) => (await node.processes())[process.pid];

/** Opens an iterator over the keys of all processes in the cluster map. It stays at a key until `next()`. */
async function readMap(): Promise<{ next(): string | null; end(): void }> {
  const native = await loadNative();
  const library = native.open("libcmap.so.4", {
    cmap_initialize: { parameters: ["u64"], result: "i32" },
    cmap_finalize: { parameters: ["u64"], result: "i32" },
    cmap_iter_init: { parameters: ["u64", "u64", "u64"], result: "i32" },
    cmap_iter_next: { parameters: ["u64", "u64", "u64", "u64", "u64"], result: "i32" },
    cmap_iter_finalize: { parameters: ["u64", "u64"], result: "i32" },
  });
  const { cmap_initialize, cmap_finalize, cmap_iter_init, cmap_iter_next, cmap_iter_finalize } =
    library.functions;
  const { address, view, bytes, free } = allocate(native, 512);
  const [iteratorAt, keyAt] = [address + 8n, address + 16n];
  bytes.set(new TextEncoder().encode("resources.process.\0"), 16);
  assertEquals(cmap_initialize(address), 1);
  const handle = view.getBigUint64(0, true);
  assertEquals(cmap_iter_init(handle, keyAt, iteratorAt), 1);
  const iterator = view.getBigUint64(8, true);
  return {
    next() {
      if (cmap_iter_next(handle, iterator, keyAt, 0n, 0n) !== 1) return null;
      const text = new TextDecoder().decode(bytes.slice(16));
      return text.slice(0, text.indexOf("\0"));
    },
    end() {
      assertEquals(cmap_iter_finalize(handle, iterator), 1);
      assertEquals(cmap_finalize(handle), 1);
      free();
      library.close();
    },
  };
}

/** Waits until a key has a value. */
const until = (node: Corosync, name: string, value: string | bigint) =>
  eventually(`${name} = ${value}`, async () => (await keysOf(node))?.[name] === value);

clusterTest(
  "libsam cluster map, on corosync, quit: the keys show the state, and are gone after a clean end",
  async (stage, node) => {
    const options = { timeInterval: 20_000, recoveryPolicy: "quit" } as const;
    const program = supervise(
      stage,
      options,
      "start",
      "stop",
      "start",
      "heartbeat",
      "stop",
      "exit",
    );
    await stage.line("ready 1.1 start");
    await until(node, "state", "stopped");
    assertEquals(await keysOf(node), { poll_period: 20_000n, recovery: "quit", state: "stopped" });
    for (
      const [step, state] of [["1 start", "running"], ["2 stop", "stopped"], ["3 start", "running"]]
    ) {
      stage.go(`1.${step}`);
      await until(node, "state", state!);
    }
    const before = (await keysOf(node))?.["last_updated"] as bigint;
    const began = performance.now();
    await stage.line("ready 1.4 heartbeat");
    await eventually("a second", () => performance.now() - began > 1000); // last_updated moves at most once a second
    stage.go("1.4 heartbeat");
    const moved = await eventually("a heartbeat", async () => {
      const now = (await keysOf(node))?.["last_updated"] as bigint;
      return now !== before && Number(now - before) / 1e6;
    });
    assert(moved > 900 && moved < performance.now() - began + 1000, `it moved by ${moved} ms`);
    stage.go("1.5 stop");
    await until(node, "state", "stopped");
    stage.go("1.6 exit");
    assertEquals((await program.finished()).code, 3);
    assertEquals(await node.processes(), {}, JSON.stringify(program.all("problem")));
  },
);

clusterTest("all keys are in the map when register() resolves", async (stage, node) => {
  const program = stage.run("corosync/program", {
    args: [JSON.stringify({
      timeInterval: 5000,
      recoveryPolicy: "restart",
      clusterMap: true,
      steps: ["start", "exit"],
    })],
    env: { SAM_TEST_READS_MAP: "1" },
  });
  const { keys } = await stage.line("registered");
  assertEquals(keys, { recovery: "restart", poll_period: "5000", state: "stopped" });
  stage.go("1.1 start");
  await stage.line("ready 1.2 exit");
  await node.kill(); // from here on, register() must not wait for the daemon
  stage.go("1.2 exit");
  await stage.line("registered", 2);
  program.kill("SIGTERM");
  await program.exited;
});

clusterTest(
  "a daemon that does not answer delays register() by its time limit at most",
  async (stage, node) => {
    node.freeze();
    const program = stage.run("corosync/program", {
      args: [JSON.stringify({ timeInterval: 0, recoveryPolicy: "restart", clusterMap: true })],
    });
    const { pid, tookMs } = await stage.line("registered");
    assert(tookMs > 900, `register() took ${tookMs} ms`);
    await stage.line("start");
    process.kill(pid, "SIGKILL");
    await stage.line("start", 2);
    node.thaw();
    await eventually("the keys", async () => {
      return (await node.processes())[program.pid]?.["state"] === "running";
    });
  },
);

clusterTest(
  "a key can be deleted although a reader stood at it when the next key was set",
  async (_, node) => {
    const map = corosyncClusterMap();
    await map.set(keyOf(1, "recovery"), "quit");
    const reader = await readMap();
    assertEquals(reader.next(), keyOf(1, "recovery"));
    await map.set(keyOf(1, "poll_period"), 0n);
    while (reader.next() !== null);
    reader.end();
    await map.delete(keyOf(1, "recovery"));
    await map.delete(keyOf(1, "poll_period"));
    assertEquals(await node.processes(), {});
    await map.close!();
  },
);

clusterTest(
  "libsam cluster map, on corosync, quit: a stopped program stays stopped, an unresponsive one is failed",
  async (stage, node) => {
    const timeInterval = 500;
    const options = { timeInterval, recoveryPolicy: "quit" } as const;
    const program = supervise(stage, options, "start", "stop", "start");
    stage.go("1.2 stop");
    stage.go("1.1 start");
    await program.event("stop");
    await until(node, "state", "stopped");
    await sleep(3 * timeInterval); // a stopped program need not send heartbeats
    assertEquals((await keysOf(node))?.["state"], "stopped");
    stage.go("1.3 start");
    assertEquals((await program.finished()).reason, "quit");
    assertEquals((await keysOf(node))?.["state"], "failed");
    assertEquals([program.all("start").length, program.all("recovery").length], [2, 1]);
  },
);

clusterTest(
  "libsam cluster map, on corosync, restart: unresponsive instances are replaced, markFailed() sets failed and quit",
  async (stage, node) => {
    const timeInterval = 1000; // long enough for the test to see `running`
    const program = stage.supervise("libsam/cluster_map", {
      timeInterval,
      recoveryPolicy: "restart",
      restart: { maxDelay: 0 },
      clusterMap: corosyncClusterMap(),
    }, { args: ["mark failed"] });
    /** Asserts the values of all keys. */
    const keysAre = async (recovery: string, state: string) => {
      await until(node, "state", state);
      const { last_updated: _, ...keys } = await keysOf(node) ?? {};
      assertEquals(keys, { poll_period: BigInt(timeInterval), recovery, state });
    };
    for (const instance of [1, 2]) {
      await stage.line(`ready to start ${instance}`);
      await keysAre("restart", "stopped");
      stage.go(`to start ${instance}`);
      await keysAre("restart", "running");
      await program.event("recovery", instance);
    }
    await stage.line("ready to mark failed");
    await keysAre("restart", "stopped");
    stage.go("to mark failed");
    assertEquals((await program.finished()).reason, "failed");
    await keysAre("quit", "failed");
    assertEquals(program.all("recovery").map((event) => [event.instanceId, event.reason]), [
      [1, "timeout"],
      [2, "timeout"],
      [3, "failed"],
    ]);
    assertEquals(program.all("warn").map(({ instanceId }) => instanceId), [1, 2]);
  },
);

clusterTest(
  "corosync's watchdog acts on markFailed() and on missing updates, but not on a healthy process with time interval 0",
  async (stage, node) => {
    const healthy = stage.run("corosync/program", {
      args: [JSON.stringify({ timeInterval: 0, recoveryPolicy: "restart", clusterMap: true })],
    });
    await stage.line("start");
    // Keys without a process, which no server updates. They show that the watchdog is at work.
    const stale = "resources.process.1";
    await node.set(`${stale}.recovery`, "str", "restart"); // never "reboot" or "shutdown": Corosync would do it
    await node.set(`${stale}.poll_period`, "u64", "0");
    const since = await eventually("a time", () => node.read(keyOf(healthy.pid, "last_updated")));
    await node.set(`${stale}.last_updated`, "u64", String(since));
    await node.set(`${stale}.state`, "str", "running");
    supervise(stage, { timeInterval: 0 }, "start", "fail");
    stage.go("1.1 start");
    await until(node, "state", "running");
    stage.go("1.2 fail");
    const failed = (pid: number) =>
      new RegExp(`\\[WD .* resource "${pid}" failed`).test(node.log());
    await eventually("the watchdog's report of markFailed()", () => failed(process.pid));
    await eventually("the watchdog's report of missing updates", () => failed(1)); // takes at least 9 seconds
    assert(!failed(healthy.pid), node.log());
    assertEquals(await node.read(keyOf(healthy.pid, "state")), "running");
  },
  { timeoutMs: 60_000, leg: "node26" },
);

clusterTest(
  "last_updated is Corosync's time, and moves every second with time interval 0",
  async (stage, node) => {
    const updated = async () => (await keysOf(node))?.["last_updated"] as bigint | undefined;
    const program = supervise(stage, { timeInterval: 0 }, "start");
    const first = await eventually("last_updated", updated);
    const uptime = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
    const age = uptime - Number(first) / 1e9;
    assert(age > -0.1 && age < 10, `last_updated is ${age} s old`);
    const second = await eventually("a later value", async () => {
      const now = await updated();
      return now !== first && now;
    });
    const moved = Number(second! - first) / 1e6;
    assert(moved >= 990 && moved < 10_000, `it moved by ${moved} ms`);
    assertEquals(program.all("problem"), []);
  },
  { leg: "node24" },
);

clusterTest("a daemon that comes back gets all keys again", async (stage, node) => {
  const program = supervise(stage, { timeInterval: 0 }, "start", "stop", "exit");
  stage.go("1.1 start");
  await until(node, "state", "running");
  await node.kill();
  await node.start();
  await until(node, "state", "running");
  const { recovery, poll_period, last_updated } = await keysOf(node) ?? {};
  assertEquals([recovery, poll_period, typeof last_updated], ["restart", 0n, "bigint"]);
  await node.kill();
  stage.go("1.2 stop");
  await program.event("stop");
  assertEquals((await program.event("problem")).error.code, "TRY_AGAIN");
  await node.start();
  await until(node, "state", "stopped"); // set while the daemon was away
  stage.go("1.3 exit");
  await program.finished();
  assertEquals(await node.processes(), {});
}, { leg: "bun" });
