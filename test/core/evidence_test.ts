// The state machine of the server: examination before the end, near misses, and the option observe. In virtual time.

import { assert, assertEquals } from "@std/assert";
import type { RecoveryReason } from "../../src/core/server/types.ts";
import { SlackCounter } from "../../src/core/server/slack.ts";
import { Bench, stopTimeout, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const heartbeat = { type: "heartbeat" } as const;
const lost = { type: "quorum", quorate: false } as const;
const checkBegin = { type: "message", message: { type: "checkBegin" } } as const;
const unhealthy = {
  type: "message",
  message: { type: "checkEnd", healthy: false, detail: "no disk\n  at check" },
} as const;

/** Each failure of a running process. True if the event loop may be blocked. */
const failures: readonly (readonly [RecoveryReason, boolean, (bench: Bench) => void])[] = [
  ["timeout", true, (bench) => void bench.start().pass(T)],
  ["unhealthy", false, (bench) => void bench.start().feed(unhealthy)],
  ["unhealthy", true, (bench) => {
    bench.start().feed(checkBegin);
    bench.pass(T / 2);
    bench.feed(heartbeat);
    bench.pass(T / 2);
  }],
  ["quorum", false, (bench) => {
    bench.feed({ type: "quorum", quorate: true });
    bench.start().feed(lost);
  }],
  ["startup", true, (bench) => void bench.launch().pass(300)],
];
const settingsOf = (reason: RecoveryReason) => ({
  hasQuorum: reason === "quorum",
  startupTimeout: reason === "startup" ? 300 : 0,
});

test("core server: a process is examined before the signal, with a stack trace if its event loop may be blocked", () => {
  for (const [reason, mayBeBlocked, fail] of failures) {
    for (const warnSignal of ["SIGTERM", "SIGKILL"] as const) {
      for (const captureStack of [true, false]) {
        const bench = new Bench({ ...settingsOf(reason), warnSignal, captureStack });
        fail(bench);
        const order = bench.last.map(({ type }) => type)
          .filter((type) => type === "examine" || type === "signal");
        assertEquals(order, ["examine", "signal"], reason);
        assertEquals(bench.of("examine")[0]!.stackMs, mayBeBlocked && captureStack ? T : 0, reason);
        assertEquals(bench.signals(), [warnSignal]);
      }
    }
  }
});

test("core server: the capture of the stack may take as long as the grace period, and two seconds at most", () => {
  for (const [timeInterval, stackMs] of [[0, stopTimeout], [30, 30], [60_000, 2000]] as const) {
    const bench = new Bench({ timeInterval, startupTimeout: 300 });
    bench.launch().pass(300);
    assertEquals(bench.of("examine").map((effect) => effect.stackMs), [stackMs]);
  }
});

test("core server: the effect says how the stack can be captured; a command that did not say so has none", () => {
  for (const startedAtSpawn of [false, true]) {
    for (const how of ["signal 0", null]) {
      const bench = new Bench({ startedAtSpawn }).start();
      if (how !== null) bench.say({ type: "stackAccess", how });
      bench.pass(T);
      const { stackAccess, stackMs } = bench.of("examine")[0]!;
      assertEquals([stackAccess, stackMs], [how, startedAtSpawn && how === null ? 0 : T]);
    }
  }
  const next = new Bench().start();
  next.say({ type: "stackAccess", how: "signal 0" });
  next.exit(1).start().pass(T);
  assertEquals(next.of("examine")[0]!.stackAccess, null, "the next instance has not sent its own");
});

test("core server: the evidence of a failure contains the examination of this instance only", () => {
  const note = { text: "item 7", age: 3 };
  const bench = new Bench().start();
  bench.feed({ type: "exit", code: 1, signal: null });
  bench.feed({ type: "concluded", detail: "heap", evidence: { note, output: ["last words"] } });
  const { heartbeatAge, ...evidence } = bench.events("recovery")[0]!.evidence;
  const own = { detail: "heap", exitCode: 1, signal: null };
  assertEquals(heartbeatAge, 0);
  assertEquals(evidence, { ...own, note, output: ["last words"] });
  bench.feed({ type: "spawnFailed", error: { code: "LIBRARY", message: "no memory" } });
  assertEquals(Object.keys(bench.events("recovery")[0]!.evidence), [
    "detail",
    "exitCode",
    "signal",
    "heartbeatAge",
  ]);
});

test("core server: with observe, a failure is reported once and has no other effect", () => {
  for (const [reason, , fail] of failures) {
    const bench = new Bench({ ...settingsOf(reason), observe: true });
    fail(bench);
    assertEquals(bench.of("examine").map(({ stackMs }) => stackMs), [0], "no stack is captured");
    const evidence = { output: ["its last words"] };
    bench.feed({ type: "examined", evidence, isBlocked: true });
    assertEquals(bench.events("observed")[0]!.evidence.output, evidence.output);
    assertEquals(bench.events("observed").map((event) => event.reason), [reason]);
    const { state } = bench;
    const quiet = bench.pass(reason === "timeout" || reason === "startup" ? 10 * T : 0);
    assertEquals(quiet, [], reason);
    assertEquals(bench.state, state);
    const done = bench.log.map(({ type }) => type);
    assert(!done.includes("signal"), reason);
    assert(!bench.log.some((effect) => effect.type === "send" && effect.message.type === "warn"));
  }
});

test("core server: with observe, the next heartbeat resumes the watch, and an exit is a failure as usual", () => {
  const bench = new Bench({ observe: true }).start();
  const examined = { type: "examined", evidence: {}, isBlocked: false } as const;
  bench.pass(3 * T);
  bench.feed(examined);
  assertEquals(bench.events("observed").length, 1);
  bench.feed(heartbeat);
  bench.pass(T);
  bench.feed(examined);
  assertEquals(bench.events("observed")[0]!.evidence.heartbeatAge, T);
  bench.exit("SIGSEGV");
  assertEquals(bench.events("recovery").map(({ reason }) => reason), ["signal"]);
  assertEquals(bench.of("spawn").length, 1);
});

test("core server: the rest of the time interval is counted for each heartbeat after the first", () => {
  const bench = new Bench().start();
  assertEquals(bench.server.slack.count, 0);
  for (const after of [10, 60, 80, 99.5]) {
    bench.pass(after);
    bench.feed(heartbeat);
  }
  const { count, min, buckets } = bench.server.slack;
  assertEquals([count, min], [4, 0.5]);
  assertEquals(buckets.map((bucket) => bucket.from), [
    ...[1, 2, 3, 4, 5, 6].map((n) => 2 ** -n),
    0,
    null,
  ]);
  assertEquals(buckets.map((bucket) => bucket.count), [1, 1, 1, 0, 0, 0, 1, 0]);

  bench.ask("stop");
  bench.pass(50 * T);
  bench.ask("start");
  assertEquals(bench.server.slack.count, 4, "time without a watch does not count");
  bench.exit(1);
  bench.start();
  assertEquals(bench.server.slack.count, 0, "a new instance");
  assertEquals(
    bench.server.slack.buckets.map(({ count, total }) => [count, total]),
    [[0, 1], [0, 1], [0, 1], [0, 0], [0, 0], [0, 0], [0, 1], [0, 0]],
  );
});

test("core server: a late heartbeat that still counted has a negative rest", () => {
  const bench = new Bench({ observe: true }).start();
  bench.pass(3 * T);
  bench.feed(heartbeat);
  const { min, buckets } = bench.server.slack;
  assertEquals([min, buckets.at(-1)!.count], [-2 * T, 1]);
});

test("slack: every share falls into one bucket", () => {
  for (const timeInterval of [1, 7, 1000]) {
    const slack = new SlackCounter(timeInterval);
    for (let n = -10; n <= 100; n++) slack.add(timeInterval * n / 100);
    const { count, buckets } = slack.snapshot;
    assertEquals(count, 111);
    const shares = Array.from({ length: 111 }, (_, n) => (n - 10) / 100);
    for (const [at, bucket] of buckets.entries()) {
      const below = buckets[at - 1]?.from ?? Infinity;
      const inside = shares.filter((share) => share >= (bucket.from ?? -Infinity) && share < below);
      assertEquals(bucket.count, inside.length, `${timeInterval}: from ${bucket.from}`);
    }
  }
});
