// Every state of the server × every input: a defined answer, no exception, and a way to the end of supervision.

import { assert, assertEquals } from "@std/assert";
import { table } from "../../src/core/server/transitions.ts";
import type { ServerInput, ServerSettings, ServerState } from "../../src/core/server/types.ts";
import { Bench, restartDefaults, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

interface Situation {
  readonly state: ServerState;
  readonly reach: (bench: Bench) => void;
  readonly settings?: Partial<ServerSettings>;
}

const quorum = { hasQuorum: true };
const quorate: ServerInput = { type: "quorum", quorate: true };
const crash: ServerInput = { type: "exit", code: 1, signal: null };
const stop: ServerInput = { type: "shutdown", signal: "SIGTERM" };
const instanceTwo = (bench: Bench) => bench.start().exit(0);

/** Every state, in all situations that differ in the machine's reaction. */
const situations: Readonly<Record<string, Situation>> = {
  "idle": { state: "idle", reach: () => {} },
  "pending": {
    state: "pending",
    reach: (b) => b.feed({ type: "begin" }),
    settings: { asksBeforeStart: true },
  },
  "pending replacement": {
    state: "pending",
    reach: (b) => {
      for (const input of [{ type: "begin" }, { type: "allowStart" }] as const) b.feed(input);
      b.feed({ type: "spawned", pid: 7 });
      b.feed({ type: "restart" });
      b.feed(crash);
      b.conclude();
    },
    settings: { asksBeforeStart: true },
  },
  "spawning": { state: "spawning", reach: (b) => b.feed({ type: "begin" }) },
  "spawning, stop asked": {
    state: "spawning",
    reach: (b) => {
      b.feed({ type: "begin" });
      b.feed(stop);
    },
  },
  "spawning a replacement": { state: "spawning", reach: instanceTwo },
  "launched": { state: "launched", reach: (b) => b.launch(), settings: { startupTimeout: 50 } },
  "launched replacement": { state: "launched", reach: (b) => instanceTwo(b).launch() },
  "launched command": {
    state: "launched",
    reach: (b) => b.launch(),
    settings: { startedAtSpawn: true },
  },
  "registered": { state: "registered", reach: (b) => b.register() },
  "registered, half a store": {
    state: "registered",
    reach: (b) => b.register().store(new Uint8Array(2), 4),
  },
  "registered, stopped": {
    state: "registered",
    reach: (b) => b.start().ask("stop"),
  },
  "registered, exited": {
    state: "registered",
    reach: (b) => b.register().feed(crash),
  },
  "registered, link ended": {
    state: "registered",
    reach: (b) => b.register().feed({ type: "linkEnd" }),
  },
  "waiting": { state: "waiting", reach: (b) => b.start(), settings: quorum },
  "waiting, exited": {
    state: "waiting",
    reach: (b) => b.start().feed(crash),
    settings: quorum,
  },
  "waiting, link ended": {
    state: "waiting",
    reach: (b) => b.start().feed({ type: "linkEnd" }),
    settings: quorum,
  },
  "started": { state: "started", reach: (b) => b.start() },
  "started, quorate": {
    state: "started",
    reach: (b) => {
      b.feed(quorate);
      b.start();
    },
    settings: quorum,
  },
  "started, in a check": { state: "started", reach: (b) => b.start().say({ type: "checkBegin" }) },
  "started, exited": { state: "started", reach: (b) => b.start().feed(crash) },
  "started, link ended": { state: "started", reach: (b) => b.start().feed({ type: "linkEnd" }) },
  "finalized": { state: "finalized", reach: (b) => b.start().ask("finalize") },
  "finalized, exited": {
    state: "finalized",
    reach: (b) => {
      b.start().ask("finalize");
      b.feed(crash);
    },
  },
  "warned": { state: "warned", reach: (b) => b.start().pass(T) },
  "warned at startup": {
    state: "warned",
    reach: (b) => b.launch().pass(50),
    settings: { startupTimeout: 50 },
  },
  "warned for its wrapper": {
    state: "warned",
    reach: (b) => b.start().feed({ type: "orphaned", code: null, signal: "SIGTERM" }),
  },
  "warned for its wrapper before start()": {
    state: "warned",
    reach: (b) => b.register().feed({ type: "orphaned", code: 3, signal: null }),
  },
  "warned, stop asked": {
    state: "warned",
    reach: (b) => {
      b.start().pass(T);
      b.feed(stop);
    },
  },
  "warned, blocked": {
    state: "warned",
    reach: (b) => {
      b.start().pass(T);
      b.feed({ type: "examined", evidence: {}, isBlocked: true });
    },
    settings: { preloaded: true },
  },
  "warned, exited": {
    state: "warned",
    reach: (b) => {
      b.start().pass(T);
      b.feed(crash);
    },
  },
  "killing": { state: "killing", reach: (b) => b.start().pass(2 * T) },
  "killing, marked failed": {
    state: "killing",
    reach: (b) => b.start().ask("markFailed"),
    settings: { hasClusterMap: true },
  },
  "killing, exited": {
    state: "killing",
    reach: (b) => {
      b.start().pass(2 * T);
      b.feed(crash);
    },
  },
  "stopping": { state: "stopping", reach: (b) => b.start().feed(stop) },
  "stopping before register": { state: "stopping", reach: (b) => b.launch().feed(stop) },
  "stopping, killed": { state: "stopping", reach: (b) => (b.start().feed(stop), b.feed(stop)) },
  "stopping, exited": { state: "stopping", reach: (b) => (b.start().feed(stop), b.feed(crash)) },
  "stopping to rest": { state: "stopping", reach: (b) => b.start().feed({ type: "halt" }) },
  "stopping to restart": { state: "stopping", reach: (b) => b.start().feed({ type: "restart" }) },
  "backoff": {
    state: "backoff",
    reach: (b) => instanceTwo(b).start().exit(0),
    settings: { recoveryPolicy: "restart" },
  },
  "spawning, halt asked": {
    state: "spawning",
    reach: (b) => {
      b.feed({ type: "begin" });
      b.feed({ type: "halt" });
    },
  },
  "stopped": {
    state: "stopped",
    reach: (b) => {
      b.start().feed({ type: "halt" });
      b.exit(0);
    },
  },
  "finished": { state: "finished", reach: (b) => b.launch().exit(0) },
};

const bytes = Uint8Array.of(1, 2, 3);
const data = { type: "store", id: 90, total: 3, offset: 0, bytes } as const;
const says = (message: (ServerInput & { type: "message" })["message"]): ServerInput => ({
  type: "message",
  message,
});

const inputs: readonly ServerInput[] = [
  { type: "begin" },
  { type: "tick" },
  { type: "mapped" },
  { type: "spawned", pid: 9 },
  { type: "spawnFailed", error: { code: "LIBRARY", message: "no such program" } },
  { type: "exit", code: 0, signal: null },
  { type: "exit", code: 3, signal: null },
  { type: "exit", code: null, signal: "SIGSEGV" },
  { type: "orphaned", code: 0, signal: null },
  { type: "orphaned", code: null, signal: "SIGKILL" },
  { type: "unkillable", problem: { code: "ACCESS", message: "of another user" } },
  { type: "linkEnd" },
  { type: "heartbeat" },
  { type: "starved", waitMs: 5 },
  { type: "examined", evidence: {}, isBlocked: true },
  { type: "examined", evidence: {}, isBlocked: false },
  { type: "concluded", evidence: {}, detail: "heap" },
  { type: "quorum", quorate: true },
  { type: "quorum", quorate: false },
  { type: "quorumFailed", problem: { code: "ACCESS", message: "denied" } },
  { type: "shutdown", signal: null },
  { type: "shutdown", signal: "SIGINT", delivered: true },
  { type: "shutdown", signal: "SIGKILL" },
  { type: "restart" },
  { type: "prepareSpare" },
  { type: "halt" },
  { type: "allowStart" },
  { type: "unhealthy", reason: "unhealthy", detail: "no answer" },
  { type: "unhealthy", reason: "startup", detail: "never an answer" },
  says({ type: "hello", version: 1, id: 91, pid: 9, notice: "" }),
  says({ type: "hello", version: 2, id: 91, pid: 9, notice: "" }),
  says({ type: "start", id: 92 }),
  says({ type: "stop", id: 93 }),
  says({ type: "finalize", id: 94 }),
  says({ type: "markFailed", id: 95 }),
  says({ type: "setWarnSignal", id: 96, signal: "SIGHUP" }),
  says({ type: "setWarnSignal", id: 96, signal: "SIGKILL" }),
  says({ type: "setWarnSignal", id: 96, signal: "SIGNONE" }),
  says(data),
  says({ ...data, total: 4 }),
  says({ ...data, total: 0, bytes: new Uint8Array(0) }),
  says({ ...data, total: 1e15 }),
  says({ ...data, total: -1 }),
  says({ ...data, total: NaN }),
  says({ ...data, offset: 2, total: 5 }),
  says({ ...data, offset: -1 }),
  says({ ...data, offset: NaN }),
  ...[0, -5, 1e300, NaN, Infinity].map((offset) => says({ type: "fetch", id: 97, offset })),
  says({ type: "member", key: "0".repeat(48), hasEnded: false }),
  says({ type: "member", key: "0".repeat(48), hasEnded: true }),
  { type: "member", key: "0".repeat(48), input: { type: "tick" } },
  says({ type: "checkBegin" }),
  says({ type: "checkEnd", healthy: true, detail: "" }),
  says({ type: "checkEnd", healthy: false, detail: "full" }),
];

const variants: readonly Partial<ServerSettings>[] = [
  {},
  { recoveryPolicy: "quit", hasClusterMap: true, heartbeatWindow: 1 },
  { warnSignal: "SIGKILL", hasClusterMap: true },
  { preloaded: true, restart: { ...restartDefaults, on: "always" } },
];

function arrive({ state, reach, settings }: Situation, variant: Partial<ServerSettings>) {
  const bench = new Bench({ ...variant, ...settings });
  reach(bench);
  return { bench, there: bench.state === state };
}

/** Ends supervision as an impatient user would, whose process can be killed. */
function end(bench: Bench): void {
  const steps: readonly ServerInput[] = [
    { type: "spawned", pid: 8 },
    stop,
    stop,
    { type: "exit", code: null, signal: "SIGKILL" },
    { type: "linkEnd" },
    { type: "concluded", evidence: {} },
  ];
  if (bench.state === "idle") bench.feed({ type: "begin" });
  for (let tries = 0; bench.state !== "finished"; tries++) {
    assert(tries < 3, `no end from ${bench.state}`);
    for (const input of steps) bench.feed(input);
    bench.pass(10_000);
  }
  assert(bench.status() !== undefined);
}

test("core server: the situations cover all states, and the inputs cover all columns of the table", () => {
  const states = new Set(Object.values(situations).map(({ state }) => state));
  assertEquals([...states].sort(), Object.keys(table).sort() as ServerState[]);
  const events = new Set(
    inputs.map((input) => input.type === "message" ? input.message.type : input.type),
  );
  for (const row of Object.values(table)) {
    for (const event of Object.keys(row)) assert(events.has(event as "begin"), event);
  }
});

test("core server: every situation is in the state that it names", () => {
  for (const [name, situation] of Object.entries(situations)) {
    assertEquals(arrive(situation, {}).bench.state, situation.state, name);
  }
});

test("core server: every state × every input × every input has a defined answer, and leads to an end", () => {
  let reached = 0;
  for (const situation of Object.values(situations)) {
    for (const variant of variants) {
      for (const input of inputs) {
        const { bench, there } = arrive(situation, variant);
        if (!there) continue; // with this policy or signal, the machine is in another state
        reached++;
        bench.feed(input);
        bench.now += 1;
        end(bench);
      }
    }
    for (const [first, second] of inputs.flatMap((a) => inputs.map((b) => [a, b] as const))) {
      const { bench } = arrive(situation, {});
      bench.feed(first);
      bench.now += T / 2;
      bench.feed(second);
      end(bench);
    }
  }
  assert(reached > 2 * inputs.length * Object.keys(situations).length, `${reached}`);
});

test("core server: a spurious tick does nothing in any state", () => {
  for (const [name, situation] of Object.entries(situations)) {
    const { bench } = arrive(situation, {});
    const { deadline } = bench.server;
    for (const before of [deadline === undefined ? 0 : bench.now - deadline, -1, -0.01]) {
      bench.now = deadline === undefined ? bench.now + 1e9 : deadline + before;
      assertEquals(bench.feed({ type: "tick" }), [], name);
      assertEquals(bench.state, situation.state, name);
      assertEquals(bench.server.deadline, deadline, name);
    }
  }
});

test("core server: an input that is ignored changes no deadline", () => {
  for (const { state, reach, settings } of Object.values(situations)) {
    for (const input of inputs) {
      const event = input.type === "message" ? input.message.type : input.type;
      if (
        event === "tick" || event === "spare" || event === "linkData" || event === "mapped" ||
        event === "stackAccess" || event === "listens" || event === "belowWrapper" ||
        event === "progress" || event === "member" ||
        event === "reserveIds" || event === "accept" ||
        table[state][event] !== "ignore"
      ) continue;
      const { bench } = arrive({ state, reach, ...(settings && { settings }) }, {});
      const { deadline } = bench.server;
      assertEquals(bench.feed(input), []);
      assertEquals([bench.state, bench.server.deadline], [state, deadline]);
    }
  }
});
