// The restart limit and the backoff, on a clock that runs only while an instance runs.

import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { type RestartOptions, RestartPolicy } from "../../src/core/server/restart_policy.ts";
import { restartDefaults } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";
import { checked } from "../support/property.ts";

const policy = (some: RestartOptions = {}, seed = 1) =>
  new RestartPolicy({ ...restartDefaults, ...some }, seed);

/** The delays after instances with these run times. */
const delays = (restart: RestartPolicy, ...ran: number[]) =>
  ran.map((ms) => restart.nextDelay(ms, ms));

/** The run times of instances that end at once. */
const runs = (count: number) => Array.from({ length: count }, () => 1);

/**
 * Checks the mean delays over many seeds, and that each delay varies by up to 20 %, except the first of each backoff. `first` has
 * the indexes of the delays that start a backoff.
 */
function assertDelays(
  some: RestartOptions,
  ran: readonly number[],
  expected: readonly number[],
  first: readonly number[] = [0],
): void {
  const { maxDelay } = { ...restartDefaults, ...some };
  const seeds = Array.from({ length: 400 }, (_, at) => at * 7919 + 1);
  const all = seeds.map((seed) => delays(policy({ intensity: Infinity, ...some }, seed), ...ran));
  for (const [at, nominal] of expected.entries()) {
    const found = all.map((each) => each[at]!);
    const [least, most] = [Math.min(...found), Math.max(...found)];
    if (first.includes(at) || nominal === 0) assertEquals([least, most], [nominal, nominal]);
    else {
      assert(least >= nominal * 0.8 && least < nominal * 0.83, `${at}: ${least} for ${nominal}`);
      const top = Math.min(nominal * 1.2, maxDelay);
      assert(most <= top && most > top * 0.97, `${at}: ${most} for ${nominal}`);
    }
  }
}

test("core restart: the defaults are those of the documentation", () => {
  assertEquals(restartDefaults, {
    on: "started",
    intensity: 10,
    period: 300_000,
    initialDelay: 0,
    maxDelay: 30_000,
    resetAfter: 60_000,
  });
});

test("core restart: the first delay is initialDelay, each later one twice as long, from 100 ms to maxDelay", () => {
  assertDelays({}, runs(12), [
    ...[0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000],
  ]);
  assertDelays({ initialDelay: 1000 }, runs(4), [1000, 2000, 4000, 8000]);
  assertDelays({ initialDelay: 70 }, runs(4), [70, 140, 280, 560]);
  assertDelays({ initialDelay: 10 }, runs(4), [10, 100, 200, 400]);
  assertDelays({ initialDelay: 700, maxDelay: 150 }, runs(3), [150, 150, 150]);
  assertDelays({ maxDelay: 50 }, runs(3), [0, 50, 50]);
});

test("core restart: with intensity Infinity and maxDelay 0, every restart is immediate, without a limit", () => {
  const restart = policy({ intensity: Infinity, maxDelay: 0, initialDelay: 5 });
  for (let n = 0; n < 10_000; n++) assertEquals(restart.nextDelay(0, 0), 0);
});

test("core restart: after resetAfter ms of health the backoff starts over", () => {
  const some = { resetAfter: 1000, initialDelay: 10 };
  const expected = [10, 100, 200, 10, 100, 10, 100];
  assertDelays(some, [1, 999, 999, 1000, 999, 5000, 0], expected, [0, 3, 5]);
  const restart = policy({ resetAfter: 1000 });
  assertEquals(restart.nextDelay(0, 0), 0);
  assert(restart.nextDelay(5000, 999)! > 0, "only healthy time resets the backoff");
  restart.addRunTime(1000, 1000);
  assertEquals(restart.nextDelay(1, 1), 0, "healthy time without a failure counts too");
});

test("core restart: at most intensity recoveries in a period", () => {
  assertEquals(delays(policy({ intensity: 0 }), 1e9), [undefined]);
  const three = policy({ intensity: 3, period: 1000, maxDelay: 0 });
  assertEquals(delays(three, 100, 100, 100, 100), [0, 0, 0, undefined]);
  const sliding = policy({ intensity: 3, period: 1000, maxDelay: 0 });
  assertEquals(delays(sliding, 500, 250, 250, 500, 250, 249), [0, 0, 0, 0, 0, undefined]);
  const ran = policy({ intensity: 1, period: 1000, maxDelay: 0 });
  assertEquals(ran.nextDelay(1, 1), 0);
  ran.addRunTime(999, 999);
  assertEquals(ran.nextDelay(1, 1), 0, "run time without a failure counts too");
});

test("core restart: waits do not count as run time: the restart limit is reached even with long backoffs", () => {
  // An instance that ends at once adds no run time, so a backoff longer than the period does not postpone the limit.
  const restart = policy({ intensity: 4, period: 1000, initialDelay: 5000 });
  const found = delays(restart, 0, 1, 0, 1, 0);
  assert(found.slice(0, 4).every((delay) => delay! > 1000), `${found}`);
  assertEquals(found[4], undefined);
});

const option = fc.record({
  on: fc.constantFrom("started", "failure", "always"),
  intensity: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(Infinity)),
  period: fc.integer({ min: 1, max: 10_000 }),
  initialDelay: fc.integer({ min: 0, max: 10_000 }),
  maxDelay: fc.integer({ min: 0, max: 10_000 }),
  resetAfter: fc.integer({ min: 0, max: 10_000 }),
});
const run = fc.record({
  ran: fc.integer({ min: 0, max: 3000 }),
  share: fc.integer({ max: 10, min: 0 }),
});

test("core restart: a delay is within 20 % of its rule, and never above maxDelay", () => {
  checked(option, fc.array(run, { maxLength: 60 }), fc.nat(), (options, runs, seed) => {
    const { initialDelay, maxDelay, resetAfter } = options;
    const restart = new RestartPolicy(options, seed);
    let row = 0;
    for (const { ran, share } of runs) {
      const healthy = ran * share / 10;
      const delay = restart.nextDelay(ran, healthy);
      if (delay === undefined) return;
      row = healthy >= resetAfter ? 1 : row + 1;
      const second = Math.max(100, 2 * Math.min(maxDelay, initialDelay));
      const base = Math.min(maxDelay, row === 1 ? initialDelay : second * 2 ** (row - 2));
      const spread = row === 1 ? 0 : base * 0.2;
      assert(delay >= 0 && delay <= maxDelay);
      assert(delay >= base - spread - 1e-6 && delay <= base + spread + 1e-6, `${delay} ${base}`);
    }
  });
});

test("core restart: no period of run time has more than intensity recoveries", () => {
  checked(option, fc.array(run, { maxLength: 100 }), (options, runs) => {
    const restart = new RestartPolicy(options, 1);
    const times: number[] = [];
    let clock = 0;
    for (const { ran } of runs) {
      clock += ran;
      const recent = times.filter((at) => at > clock - options.period).length;
      const allowed = restart.nextDelay(ran, 0) !== undefined;
      assertEquals(allowed, recent < options.intensity);
      if (allowed) times.push(clock);
    }
  });
});

test("core restart: the same seed gives the same delays, and they spread evenly", () => {
  const all = (seed: number) => {
    const restart = policy({ initialDelay: 500, maxDelay: 1e6, intensity: Infinity }, seed);
    const found = delays(restart, ...Array.from({ length: 1000 }, () => 0)) as number[];
    return found.slice(20).map((ms) => ms / 1e6); // all are at the limit, which cuts the upper half
  };
  const some = all(42);
  assertEquals(some, all(42));
  assert(some[5] !== all(43)[5]);
  assert(Math.min(...some) < 0.81 && Math.max(...some) === 1);
  const mean = some.reduce((sum, share) => sum + share) / some.length;
  assert(Math.abs(mean - 0.95) < 0.01, `${mean}`);
});
