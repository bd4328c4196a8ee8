// The guard: a small process that kills the programs if their server is killed. All programs of a server share one guard, which
// ends with the last program. guard_script.ts explains the orders "+", "-", "k" and "q"; a ward is a process that the guard
// kills.
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { familyVariable, Guard } from "../../src/supervisor/instance/guard.ts";
import type { Child, Command, Exit } from "../../src/runtime/runtime.ts";
import { emptyRuntime } from "../support/empty_runtime.ts";
import { test } from "../support/harness.ts";
import { taggedProcesses } from "../support/leaks.ts";
import { eventually, processTest } from "../support/processes.ts";

const wards = Array.from({ length: 9 }, (_, pid) => ({ pid, leads: true, family: `F${pid}` }));
const ward = (pid: number) => wards[pid]!;

/** A `Guard` with fake processes, which start when the test calls `release()`. */
class GuardBench {
  readonly guard: Guard;
  /** The orders that each guard process has received. */
  readonly orders: string[][] = [];
  now = 0;
  readonly timers = new Set<{ readonly callback: () => void; readonly at: number }>();
  /** Kills the newest guard. */
  kill = () => {};
  /** True if a guard exits at once when it is ordered to; else `exit()` ends it. */
  exits = true;
  exit = () => {};
  /** True if a guard acknowledges its orders to kill families. */
  acknowledges = true;
  /** Called within `spawn`, before that returns. */
  meanwhile = () => {};
  #release: (() => void)[] = [];
  #fail = false;

  constructor() {
    this.guard = new Guard({
      ...emptyRuntime,
      spawn: (command: Command) => this.#spawn(command),
      now: () => this.now,
      schedule: (callback: () => void, delayMs: number) => {
        const timer = { callback, at: this.now + delayMs };
        this.timers.add(timer);
        return () => this.timers.delete(timer);
      },
      temporaryFiles: () =>
        Promise.resolve({
          pid: 1,
          pidNamespace: 1,
          parents: [],
          makeDirectory: () => Promise.reject(new Error("no directory")),
          makeExactDirectory: () => Promise.reject(new Error("no directory")),
          list: () => undefined,
          status: () => undefined,
          hasEnded: () => false,
        }),
    });
  }

  /** Starts a guard with these wards. */
  async begin(...pids: number[]): Promise<void> {
    this.guard.enter();
    for (const pid of pids) void this.guard.add(ward(pid));
    await settled();
    await this.release();
  }

  /** Completes the pending starts; with `fail`, they fail. */
  async release(fail = false): Promise<void> {
    this.#fail = fail;
    for (const each of this.#release.splice(0)) each();
    await settled();
  }

  /** Moves the clock. */
  async pass(ms: number): Promise<void> {
    this.now += ms;
    for (const timer of this.timers) {
      if (timer.at > this.now) continue;
      this.timers.delete(timer);
      timer.callback();
    }
    await settled();
  }

  /** The orders that each running guard has got. */
  get livingOrders(): string[][] {
    return this.orders.filter((lines) => !lines.includes("q"));
  }

  async #spawn(_command: Command): Promise<Child> {
    const { meanwhile } = this;
    this.meanwhile = () => {};
    meanwhile();
    await new Promise<void>((resolve) => this.#release.push(resolve));
    if (this.#fail) throw new Error("no more processes");
    const lines: string[] = [];
    this.orders.push(lines);
    let exit!: (how: Exit) => void;
    const exited = new Promise<Exit>((resolve) => exit = resolve);
    this.kill = () => {
      lines.push("q"); // it takes no more orders
      exit({ code: null, signal: "SIGKILL" });
    };
    const write = (bytes: Uint8Array) => {
      const text = new TextDecoder().decode(bytes).trim();
      lines.push(text);
      if (text.startsWith("k ") && this.acknowledges) acknowledge(new Uint8Array([10]));
      if (text !== "q") return;
      this.exit = () => exit({ code: 0, signal: null });
      if (this.exits) this.exit();
    };
    let acknowledge!: (bytes: Uint8Array) => void;
    const read = (onData: (bytes: Uint8Array) => void) => acknowledge = onData;
    const stream = { unsent: 0, write, offer: () => true, read, hold() {}, close() {} };
    return { pid: 1000, exited, stream, outputs: [], kill() {}, release() {} };
  }
}

async function settled(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await null;
}

test("two programs that begin at once share one guard, even if the second begins within the spawn of the first", async () => {
  const guards = new GuardBench();
  const { guard } = guards;
  guard.enter();
  guard.enter();
  guards.meanwhile = () => void guard.add(ward(2));
  void guard.add(ward(1));
  void guard.ready();
  await settled();
  await guards.release();
  assertEquals(guards.livingOrders, [["+ 1,-1,F1", "+ 2,-2,F2"]]);
  await Promise.all([guard.leave(), guard.leave()]);
  assertEquals([guards.orders.length, guards.livingOrders.length], [1, 0]);
});

test("a guard that is still starting ends when the last program leaves, unless another program has come", async () => {
  for (const another of [false, true]) {
    const guards = new GuardBench();
    const { guard } = guards;
    guard.enter();
    void guard.add(ward(1));
    await settled();
    guard.remove(ward(1));
    const left = guard.leave();
    if (another) guard.enter();
    await guards.release();
    await left;
    assertEquals(guards.livingOrders.length, another ? 1 : 0);
    if (another) await guard.leave();
    assertEquals([guards.orders.length, guards.livingOrders.length], [1, 0]);
  }
});

test("a program that begins while the guard ends gets a new guard", async () => {
  const guards = new GuardBench();
  const { guard } = guards;
  await guards.begin(1);
  guards.exits = false;
  const left = guard.leave();
  await settled();
  guard.enter();
  void guard.add(ward(2));
  await settled();
  await guards.release();
  guards.exit();
  guards.exits = true;
  await left;
  assertEquals(guards.livingOrders.map((lines) => lines.at(-1)), ["+ 2,-2,F2"]);
  await guard.leave();
  assertEquals([guards.orders.length, guards.livingOrders.length], [2, 0]);
});

test("if a guard cannot start, the next instance starts one, which also gets the earlier wards", async () => {
  const guards = new GuardBench();
  const { guard } = guards;
  guard.enter();
  const failed = guard.add(ward(1)).then(() => "added", (error) => (error as Error).message);
  await settled();
  await guards.release(true);
  assertEquals(await failed, "no more processes");
  void guard.add(ward(2));
  await settled();
  await guards.release();
  assertEquals(guards.livingOrders, [["+ 1,-1,F1", "+ 2,-2,F2"]]);
  await guard.leave();
  assertEquals(guards.livingOrders.length, 0);
});

test("a killed guard is replaced, at the earliest a second after its own start; the new guard gets all wards and orders", async () => {
  const guards = new GuardBench();
  const { guard } = guards;
  await guards.begin(1, 2);
  for (const [livedMs, waitMs] of [[5000, 0], [300, 700]] as const) {
    guards.now += livedMs;
    guards.kill();
    await settled();
    guard.sweep(ward(2));
    if (waitMs > 0) {
      await guards.pass(waitMs - 1);
      await guards.release();
      assertEquals(guards.livingOrders, []);
    }
    await guards.pass(1);
    await guards.release();
    assertEquals(guards.livingOrders, [["+ 1,-1,F1", "k F2"]]);
  }
  await guards.pass(100);
  guards.kill();
  await settled();
  assertEquals(guards.timers.size, 1);
  await guard.leave();
  assertEquals([guards.timers.size, guards.livingOrders.length], [0, 0]);
});

test("if a guard is killed before it has killed a family, the next guard kills the family, even if supervision ends", async () => {
  const guards = new GuardBench();
  const { guard } = guards;
  await guards.begin(1);
  guards.acknowledges = false;
  guard.sweep(ward(1));
  guards.now += 5000;
  guards.kill();
  await settled();
  await guards.pass(1);
  await guards.release();
  assertEquals(guards.livingOrders, [["k F1"]]);
  guards.kill();
  await settled();
  guards.acknowledges = true;
  const left = guard.leave();
  await settled();
  await guards.release();
  await left;
  assertEquals(guards.orders.at(-1), ["k F1", "q"]);
});

test("an ending guard carries out its orders itself; if it is killed, the next guard does", async () => {
  for (const isKilled of [false, true]) {
    const guards = new GuardBench();
    guards.acknowledges = guards.exits = false;
    await guards.begin(1);
    guards.guard.sweep(ward(1));
    const left = guards.guard.leave();
    await settled();
    if (isKilled) guards.kill();
    else guards.exit();
    await left;
    await guards.begin(2);
    const orders = isKilled ? ["+ 2,-2,F2", "k F1"] : ["+ 2,-2,F2"];
    assertEquals(guards.orders.at(-1), orders);
  }
});

test("of families that end soon after one another, the first is killed at once, and the others by one order", async () => {
  const guards = new GuardBench();
  const { guard } = guards;
  await guards.begin(1, 2, 3, 4);
  const [lines] = guards.livingOrders;
  lines!.length = 0;
  for (const pid of [1, 2, 3]) guard.sweep(ward(pid));
  assertEquals(lines, ["k F1", "- 1,-1,F1"]);
  await guards.pass(100);
  assertEquals(lines!.splice(0), ["k F1", "- 1,-1,F1", "k F2 F3", "- 2,-2,F2", "- 3,-3,F3"]);
  await guards.pass(100);
  guard.sweep(ward(4));
  assertEquals(lines, ["k F4", "- 4,-4,F4"]);
  const last = ward(5);
  void guard.add(last);
  guard.sweep(last);
  await guard.leave();
  assertEquals(lines!.slice(3), ["k F5", "- 5,-5,F5", "q"]);
  assertEquals(guards.timers.size, 0);
});

test("two servers never use the same name for a family, even with equal random numbers", () => {
  const { getRandomValues } = crypto;
  crypto.getRandomValues = (array) => array; // as with Deno's --seed
  try {
    assertNotEquals(familyVariable(1), familyVariable(2));
  } finally {
    crypto.getRandomValues = getRandomValues;
  }
});

processTest(
  "a server that is killed while it starts a program leaves no process behind",
  async (stage) => {
    const server = stage.run("supervisor/guard_expected");
    await stage.line("started");
    await server.exited;
    await eventually("the end of all", () => taggedProcesses().length === 0);
  },
);

processTest("many programs that begin and end at once leave no guard behind", async (stage) => {
  for (let round = 0; round < 4; round++) {
    const watched = ["true", "true", "sleep", "sleep"].map((command) =>
      stage.supervise({ command, args: ["60"] }, { recoveryPolicy: "quit" })
    );
    await Promise.all(watched.map(async ({ supervisor }, nth) => {
      if (nth > 1) await supervisor.stop();
      const { reason } = await supervisor.finished;
      assert(["quit", "stopped"].includes(reason), reason);
    }));
  }
});
