// The cluster map of a real Corosync: libsam's own tests told again, and what libsam gets wrong.
import { assert, assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { SuperviseOptions } from "../../mod.ts";
import { corosyncClusterMap } from "../../src/corosync/mod.ts";
import { allocate } from "../../src/ffi/c_memory.ts";
import { loadNative } from "../../src/ffi/load_c_library.ts";
import { clusterTest, type Corosync } from "../support/corosync.ts";
import { eventually, type Stage, type Watched } from "../support/processes.ts";

/** A program that does these steps, watched by this process. */
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

/** Reads the keys of all processes in the cluster map, one by one, as slowly as it is asked. */
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
  "libsam cluster map, on corosync, quit: the keys tell the state, and are gone after a clean end",
  async (stage, node) => {
    const options = { timeInterval: 20_000, recoveryPolicy: "quit" } as const;
    const walk = supervise(stage, options, "start", "stop", "start", "beat", "stop", "exit");
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
    await stage.line("ready 1.4 beat");
    await eventually("a second", () => performance.now() - began > 1000); // so often it is moved at most
    stage.go("1.4 beat");
    const moved = await eventually("a heartbeat", async () => {
      const now = (await keysOf(node))?.["last_updated"] as bigint;
      return now !== before && Number(now - before) / 1e6;
    });
    assert(moved > 900 && moved < performance.now() - began + 1000, `it moved by ${moved} ms`);
    stage.go("1.5 stop");
    await until(node, "state", "stopped");
    stage.go("1.6 exit");
    assertEquals((await walk.finished()).code, 3);
    assertEquals(await node.processes(), {}, JSON.stringify(walk.all("problem")));
  },
);

clusterTest("all keys are there when register() resolves", async (stage, node) => {
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
  await node.kill(); // and from here on the daemon is away: nothing waits for it
  stage.go("1.2 exit");
  await stage.line("registered", 2);
  program.kill("SIGTERM");
  await program.exited;
});

clusterTest(
  "a daemon that does not answer delays register() by its limit",
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

clusterTest("a key is gone though a reader stood at it when the next was set", async (_, node) => {
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
});

clusterTest(
  "libsam cluster map, on corosync, quit: stopped stays stopped, silence is failed",
  async (stage, node) => {
    const timeInterval = 500;
    const options = { timeInterval, recoveryPolicy: "quit" } as const;
    const silent = supervise(stage, options, "start", "stop", "start");
    stage.go("1.2 stop");
    stage.go("1.1 start");
    await silent.event("stop");
    await until(node, "state", "stopped");
    await sleep(3 * timeInterval); // nobody expects a heartbeat
    assertEquals((await keysOf(node))?.["state"], "stopped");
    stage.go("1.3 start");
    assertEquals((await silent.finished()).reason, "quit");
    assertEquals((await keysOf(node))?.["state"], "failed");
    assertEquals([silent.all("start").length, silent.all("recovery").length], [2, 1]);
  },
);

clusterTest(
  "libsam cluster map, on corosync, restart: silent instances are replaced, markFailed() sets failed and quit",
  async (stage, node) => {
    const timeInterval = 1000; // so long `running` is there to be seen
    const program = stage.supervise("libsam/cluster_map", {
      timeInterval,
      recoveryPolicy: "restart",
      restart: { maxDelay: 0 },
      clusterMap: corosyncClusterMap(),
    }, { args: ["mark failed"] });
    /** All keys are as they were told at the start, but these. */
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
  "corosync's watchdog acts on markFailed() and on silence; a healthy process with time interval 0 it leaves alone",
  async (stage, node) => {
    const healthy = stage.run("corosync/program", {
      args: [JSON.stringify({ timeInterval: 0, recoveryPolicy: "restart", clusterMap: true })],
    });
    await stage.line("start");
    // Another one, by hand, that nobody updates: what becomes of it shows that the watchdog looks.
    const silent = "resources.process.1";
    await node.set(`${silent}.recovery`, "str", "restart"); // never "reboot", nor "shutdown": Corosync does it
    await node.set(`${silent}.poll_period`, "u64", "0");
    const since = await eventually("a time", () => node.read(keyOf(healthy.pid, "last_updated")));
    await node.set(`${silent}.last_updated`, "u64", String(since));
    await node.set(`${silent}.state`, "str", "running");
    supervise(stage, { timeInterval: 0 }, "start", "fail");
    stage.go("1.1 start");
    await until(node, "state", "running");
    stage.go("1.2 fail");
    const failed = (pid: number) =>
      new RegExp(`\\[WD .* resource "${pid}" failed`).test(node.log());
    await eventually("the failed one", () => failed(process.pid));
    await eventually("the silent one", () => failed(1)); // 9 seconds or more
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
    assert(age > -0.1 && age < 10, `${age} s old`);
    const second = await eventually("a later one", async () => {
      const now = await updated();
      return now !== first && now;
    });
    const moved = Number(second! - first) / 1e6;
    assert(moved >= 990 && moved < 10_000, `it moved by ${moved} ms`);
    assertEquals(program.all("problem"), []);
  },
  { leg: "node24" },
);

clusterTest("the daemon that comes back is told all keys again", async (stage, node) => {
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
  await until(node, "state", "stopped"); // what was set while it was away
  stage.go("1.3 exit");
  await program.finished();
  assertEquals(await node.processes(), {});
}, { leg: "bun" });
