// Restart intensity and backoff, on a clock that ticks only while an instance runs.

import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import {
  restartDefaults,
  type RestartOptions,
  RestartPolicy,
} from "../../src/core/server/restart_policy.ts";
import { test } from "../support/harness.ts";
import { checked } from "../support/property.ts";

const policy = (some: RestartOptions = {}, seed = 1) =>
  new RestartPolicy({ ...restartDefaults, jitter: 0, ...some }, seed);

/** The delays after instances that ran so long each. */
const delays = (restart: RestartPolicy, ...ran: number[]) => ran.map((ms) => restart.next(ms, ms));

test("core restart: the defaults are those of the documentation", () => {
  assertEquals(restartDefaults, {
    on: "started",
    intensity: 10,
    period: 300_000,
    initialDelay: 0,
    maxDelay: 30_000,
    factor: 2,
    jitter: 0.2,
    resetAfter: 60_000,
  });
});

test("core restart: the first waits initialDelay, the n-th 100 ms × factor^(n-2), none over maxDelay", () => {
  const ten = Array.from({ length: 12 }, () => 1);
  assertEquals(delays(policy({ intensity: Infinity }), ...ten), [
    0,
    100,
    200,
    400,
    800,
    1600,
    3200,
    6400,
    12_800,
    25_600,
    30_000,
    30_000,
  ]);
  assertEquals(delays(policy({ initialDelay: 700, factor: 3 }), 1, 1, 1, 1), [700, 100, 300, 900]);
  assertEquals(delays(policy({ initialDelay: 700, maxDelay: 150 }), 1, 1, 1, 1), [
    150,
    100,
    150,
    150,
  ]);
  assertEquals(delays(policy({ factor: 1 }), 1, 1, 1, 1), [0, 100, 100, 100]);
});

test("core restart: intensity Infinity and maxDelay 0 is for ever, at once", () => {
  const restart = policy({ intensity: Infinity, maxDelay: 0, initialDelay: 5, factor: 1000 });
  for (let n = 0; n < 10_000; n++) assertEquals(restart.next(0, 0), 0);
});

test("core restart: after resetAfter ms of health the row starts again", () => {
  const restart = policy({ resetAfter: 1000, intensity: Infinity });
  assertEquals(delays(restart, 1, 999, 999, 1000, 999, 5000, 0), [0, 100, 200, 0, 100, 0, 100]);
  assertEquals(restart.next(5000, 999), 200, "health counts, not life");
  restart.ran(1000, 1000);
  assertEquals(restart.next(1, 1), 0, "health of one that did not fail counts too");
});

test("core restart: intensity recoveries in a period, then no more", () => {
  assertEquals(delays(policy({ intensity: 0 }), 1e9), [undefined]);
  const three = policy({ intensity: 3, period: 1000, maxDelay: 0 });
  assertEquals(delays(three, 100, 100, 100, 100), [0, 0, 0, undefined]);
  const sliding = policy({ intensity: 3, period: 1000, maxDelay: 0 });
  assertEquals(delays(sliding, 500, 250, 250, 500, 250, 249), [0, 0, 0, 0, 0, undefined]);
  const ran = policy({ intensity: 1, period: 1000, maxDelay: 0 });
  assertEquals(ran.next(1, 1), 0);
  ran.ran(999, 999);
  assertEquals(ran.next(1, 1), 0, "what ran without a failure counts as time");
});

test("core restart: waiting is no running: however long the backoff, the limit is reached", () => {
  // An instance that dies at once ages the clock by nothing, so a backoff over the period does not help it.
  const restart = policy({ intensity: 4, period: 1000, initialDelay: 5000, factor: 100 });
  assertEquals(delays(restart, 0, 1, 0, 1, 0), [5000, 100, 10_000, 30_000, undefined]);
});

const option = fc.record({
  on: fc.constantFrom("started", "failure", "always"),
  intensity: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(Infinity)),
  period: fc.integer({ min: 1, max: 10_000 }),
  initialDelay: fc.integer({ min: 0, max: 10_000 }),
  maxDelay: fc.integer({ min: 0, max: 10_000 }),
  factor: fc.double({ min: 1, max: 1000, noNaN: true }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
  resetAfter: fc.integer({ min: 0, max: 10_000 }),
});
const life = fc.record({
  ran: fc.integer({ min: 0, max: 3000 }),
  share: fc.integer({ max: 10, min: 0 }),
});

test("core restart: a wait is within its jitter, never negative, never over maxDelay", () => {
  checked(option, fc.array(life, { maxLength: 60 }), fc.nat(), (options, lives, seed) => {
    const restart = new RestartPolicy(options, seed);
    let row = 0;
    for (const { ran, share } of lives) {
      const healthy = ran * share / 10;
      const delay = restart.next(ran, healthy);
      if (delay === undefined) return;
      row = healthy >= options.resetAfter ? 1 : row + 1;
      const { initialDelay, maxDelay, factor, jitter } = options;
      const base = Math.min(maxDelay, row === 1 ? initialDelay : 100 * factor ** (row - 2));
      const spread = row === 1 ? 0 : base * jitter;
      assert(delay >= 0 && delay <= maxDelay);
      assert(delay >= base - spread - 1e-6 && delay <= base + spread + 1e-6, `${delay} ${base}`);
    }
  });
});

test("core restart: in no period of running time are there more than intensity recoveries", () => {
  checked(option, fc.array(life, { maxLength: 100 }), (options, lives) => {
    const restart = new RestartPolicy(options, 1);
    const times: number[] = [];
    let clock = 0;
    for (const { ran } of lives) {
      clock += ran;
      const recent = times.filter((at) => at > clock - options.period).length;
      const allowed = restart.next(ran, 0) !== undefined;
      assertEquals(allowed, recent < options.intensity);
      if (allowed) times.push(clock);
    }
  });
});

test("core restart: the same seed gives the same waits, and jitter spreads them", () => {
  const all = (seed: number) => {
    const restart = policy({ jitter: 0.5, maxDelay: 1e6, factor: 1, intensity: Infinity }, seed);
    return delays(restart, ...Array.from({ length: 1000 }, () => 0)).slice(1) as number[];
  };
  const some = all(42);
  assertEquals(some, all(42));
  assert(some[5] !== all(43)[5]);
  const mean = some.reduce((sum, ms) => sum + ms) / some.length;
  assert(Math.abs(mean - 100) < 5, `${mean}`);
  assert(Math.min(...some) < 55 && Math.max(...some) > 145);
});
