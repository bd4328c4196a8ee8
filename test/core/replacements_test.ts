// The limits of memory and age: which instance is replaced when, and which is not. In virtual time.
import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import {
  type Look,
  type ReplacementOutcome,
  Replacements,
} from "../../src/core/server/replacements.ts";
import { test } from "../support/harness.ts";
import { runs } from "../support/property.ts";

const mebibyte = 2 ** 20;
const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

const web: Look = {
  name: "web",
  program: "web",
  instanceId: 1,
  maxMemory: 512 * mebibyte,
  memory: 100 * mebibyte,
  isReady: true,
  isObserved: false,
  intensity: 10,
};

/** Instances in virtual time. */
class Bench {
  readonly replacements: Replacements;
  now = 0;

  constructor(seed = 1) {
    this.replacements = new Replacements(seed);
  }

  /** Looks at some instances. Returns the name of the one to replace and the refusals, as texts. */
  look(...looks: Look[]): readonly string[] {
    const { replacement, refusals } = this.replacements.look(looks, this.now);
    return [
      ...refusals.map(({ name, detail }) => `refused ${name} ${detail}`),
      ...replacement ? [`${replacement.reason} ${replacement.name} ${replacement.detail}`] : [],
    ];
  }

  /** Looks every second until an instance is to be replaced, for at most `limit`. Returns the time until then. */
  until(limit: number, ...looks: Look[]): number | undefined {
    for (const began = this.now; this.now <= began + limit; this.now += second) {
      if (this.look(...looks).length > 0) return this.now - began;
    }
    return undefined;
  }

  settle(outcome: ReplacementOutcome): void {
    this.replacements.settle(outcome, this.now);
  }
}

const fat = { memory: 530 * mebibyte };

test("limits: an instance over its memory limit is replaced, with the figures", () => {
  const bench = new Bench();
  assertEquals(bench.look(web), []);
  assertEquals(bench.look({ ...web, memory: 512 * mebibyte }), []);
  assertEquals(bench.look({ ...web, memory: undefined }), []);
  assertEquals(bench.look({ ...web, ...fat, isReady: false }), []);
  assertEquals(bench.look({ ...web, ...fat }), ["memory web uses 530 MiB, more than 512 MiB"]);
  const near = new Bench();
  const close = { ...web, memory: 512.2 * mebibyte };
  assertEquals(near.look(close), ["memory web uses 512.2 MiB, more than 512.0 MiB"]);
});

test("limits: an instance is replaced at its age, which varies by up to 10 % from one to the next", () => {
  const ages: number[] = [];
  for (let seed = 0; seed < 200; seed++) {
    const bench = new Bench(seed);
    const old = { ...web, memory: undefined, maxMemory: undefined, maxAge: 1000 * second };
    ages.push(bench.until(hour, old)! / second);
    bench.settle("replaced");
    ages.push(bench.until(hour, { ...old, instanceId: 2 })! / second);
  }
  assert(ages.every((age) => age >= 900 && age <= 1101), String(ages));
  assert(Math.min(...ages) < 920 && Math.max(...ages) > 1080, String(ages));
  const bench = new Bench();
  const day = { ...web, maxAge: 24 * hour };
  bench.look(day);
  bench.now = 27 * hour + 12 * minute + 3 * second;
  assertEquals(bench.look(day), ["age web has run for 27 h 12 min (limit 24 h ± 10 %)"]);
});

test("limits: one instance is replaced at a time, the farthest over its limit first", () => {
  const bench = new Bench();
  const one = { ...web, ...fat, name: "web.1" };
  const two = { ...web, memory: 900 * mebibyte, name: "web.2" };
  const api = { ...web, ...fat, name: "api", program: "api" };
  assertEquals(bench.look(one, two, api), ["memory web.2 uses 900 MiB, more than 512 MiB"]);
  assertEquals(bench.until(hour, one, two, api), undefined, "the first one is not over");
  bench.settle("replaced");
  const after = { ...two, memory: 100 * mebibyte, instanceId: 2 };
  assertEquals(bench.look(one, after, api), ["memory api uses 530 MiB, more than 512 MiB"]);
  bench.settle("replaced");
  assertEquals(bench.until(hour, one, after), minute);
});

test("limits: a program whose replacement failed waits longer each time, up to an hour", () => {
  const bench = new Bench();
  const old = { ...web, ...fat };
  const waits: (number | undefined)[] = [];
  for (let tries = 0; tries < 9; tries++) {
    waits.push(bench.until(2 * hour, old)! / minute);
    bench.settle("failed");
  }
  assertEquals(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
  bench.until(2 * hour, old);
  bench.settle("replaced");
  const next = { ...old, instanceId: 2 };
  assertEquals(bench.until(2 * hour, next), minute);
  bench.settle("failed");
  assertEquals(bench.until(2 * hour, next), minute, "a success ends the row");
});

test("limits: an instance that cannot be replaced now is tried again at the next look", () => {
  const bench = new Bench();
  const old = { ...web, ...fat };
  bench.look(old);
  bench.settle("busy");
  assertEquals(bench.look(old).length, 1);
});

/** Runs a program whose every instance uses too much memory `after` some time. Returns the numbers of its replacements. */
function replaceAgain(bench: Bench, after: number, look: Look, until: number): readonly string[] {
  const said: string[] = [];
  let since = bench.now;
  let { instanceId } = look;
  for (const end = bench.now + until; bench.now < end; bench.now += second) {
    const memory = bench.now - since >= after ? fat.memory : look.memory;
    const [first] = bench.look({ ...look, instanceId, memory });
    if (first === undefined) continue;
    said.push(first.split(" ")[0]!);
    if (first.startsWith("refused")) continue;
    bench.settle("replaced");
    since = bench.now;
    instanceId++;
  }
  return said;
}

test("limits: a limit below what the program needs is not tried more often than the restart limit allows", () => {
  for (const intensity of [0, 1, 10]) {
    const bench = new Bench();
    const said = replaceAgain(bench, 0, { ...web, intensity }, 10 * hour);
    assertEquals(said, [...Array<string>(intensity).fill("memory"), "refused"]);
  }
  const endless = replaceAgain(new Bench(), 0, { ...web, intensity: Infinity }, hour);
  assertEquals(endless.length, 60);
  const bench = new Bench();
  assertEquals(bench.look({ ...web, ...fat, intensity: 0 }), [
    "refused web uses 530 MiB, more than 512 MiB; it goes on running. Each new instance exceeds this limit within a minute " +
    "of its start, and replacing it 0 times in a row did not help. Raise --max-memory.",
  ]);
});

test("limits: a slow leak is replaced for ever, and ends the row of a fast one", () => {
  const bench = new Bench();
  const look = { ...web, intensity: 2 };
  const slow = replaceAgain(bench, 61 * second, look, hour);
  assert(slow.length > 50 && slow.every((each) => each === "memory"), String(slow));
  const other = new Bench();
  assertEquals(replaceAgain(other, 0, look, 10 * minute).at(-1), "refused");
  other.until(2 * minute, { ...look, instanceId: 9 }); // the user has deployed a version that needs less
  assertEquals(replaceAgain(other, 0, { ...look, instanceId: 10 }, 10 * minute), [
    "memory",
    "memory",
    "refused",
  ]);
});

test("limits: an instance that is kept in spite of its memory is still replaced at its age", () => {
  const bench = new Bench();
  const old = { ...web, ...fat, intensity: 0, maxAge: hour };
  assertEquals(bench.look(old).length, 1);
  const age = bench.until(2 * hour, old)!;
  assert(age > 53 * minute && age < 67 * minute, String(age));
});

test("limits: with the option observe, nothing is replaced, and each instance is reported once", () => {
  const bench = new Bench();
  const old = { ...web, ...fat, isObserved: true };
  assertEquals(bench.look(old), [
    "refused web uses 530 MiB, more than 512 MiB; it is not replaced, because the option observe is on",
  ]);
  assertEquals(bench.until(hour, old), undefined);
  assertEquals(bench.look({ ...old, instanceId: 2 }).length, 1);
});

const happening = fc.record({
  passed: fc.integer({ min: 0, max: 3 * minute }),
  memory: fc.array(fc.constantFrom(100, 530, 900), { minLength: 4, maxLength: 4 }),
  isReady: fc.boolean(),
  outcome: fc.constantFrom<ReplacementOutcome | "goes on">("replaced", "failed", "busy", "goes on"),
  restarted: fc.integer({ min: 0, max: 7 }),
});

test("limits: whatever happens, one replacement at a time, and at most one a minute of each program", () => {
  runs(2000, fc.integer(), fc.array(happening, { maxLength: 60 }), (seed, happenings) => {
    const bench = new Bench(seed);
    const ids = [1, 1, 1, 1];
    const names = ["web.1", "web.2", "web.3", "api"];
    const last = new Map<string, number>();
    let running: number | null = null;
    for (const { passed, memory, isReady, outcome, restarted } of happenings) {
      bench.now += passed;
      if (restarted < 4 && restarted !== running) ids[restarted]!++; // it failed, and was recovered
      const looks = names.map((name, at): Look => ({
        ...web,
        name,
        program: name.split(".")[0]!,
        instanceId: ids[at]!,
        memory: memory[at]! * mebibyte,
        maxAge: hour,
        isReady,
      }));
      const { replacement } = bench.replacements.look(looks, bench.now);
      if (replacement) {
        assertEquals([running, isReady], [null, true]);
        running = names.indexOf(replacement.name);
        const { program } = looks[running]!;
        assert(bench.now - (last.get(program) ?? -Infinity) >= minute, "two within a minute");
      }
      if (running === null || outcome === "goes on") continue;
      const { program } = looks[running]!;
      if (outcome !== "busy") last.set(program, bench.now);
      if (outcome === "replaced") ids[running]!++;
      running = null;
      bench.settle(outcome);
    }
  });
});
