// The state machine of a reload: when a replacement takes over, and when the old instance stays. In virtual time.
import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import {
  Reload,
  type ReloadEffect,
  type ReloadInput,
  type ReloadSettings,
  type ReloadWay,
} from "../../src/core/server/reload.ts";
import { test } from "../support/harness.ts";
import { runs } from "../support/property.ts";

const minReady = 1000;
const beside: ReloadSettings = { way: "side by side", minReady, startupTimeout: 60_000 };
const bySpare: ReloadSettings = { ...beside, way: "spare" };
const byRestart: ReloadSettings = { ...beside, way: "restart" };

/** A reload in virtual time, and the types of its effects. */
class ReloadBench {
  readonly reload: Reload;
  readonly effects: ReloadEffect[] = [];
  now = 0;

  constructor(settings: ReloadSettings) {
    this.reload = new Reload(settings);
    this.feed({ type: "begin" });
  }

  /** Feeds an input, and returns the types of the new effects. */
  feed(input: ReloadInput): readonly string[] {
    const effects = this.reload.step(input, this.now);
    this.effects.push(...effects);
    return effects.map(({ type }) => type);
  }

  /** Lets time pass, with a tick at each deadline, and returns the types of the new effects. */
  pass(ms: number): readonly string[] {
    const types: string[] = [];
    const end = this.now + ms;
    for (;;) {
      const { deadline } = this.reload;
      if (deadline === undefined || deadline > end) break;
      this.now = deadline;
      types.push(...this.feed({ type: "tick" }));
    }
    this.now = end;
    return types;
  }

  /** The failure with which the reload settled; null for a success, undefined while it is not over. */
  get failure() {
    return this.effects.find((effect) => effect.type === "settle")?.failure;
  }
}

const exitFailure = { reason: "exit", detail: "ended with exit code 1" } as const;

test("core reload: a replacement that stays ready for minReady takes over, and only then is the old instance ended", () => {
  const bench = new ReloadBench(beside);
  assertEquals(bench.effects.map(({ type }) => type), ["startReplacement"]);
  assertEquals(bench.pass(50_000), []);
  assertEquals(bench.feed({ type: "ready" }), []);
  assertEquals(bench.pass(minReady - 1), []);
  assertEquals(bench.reload.isCommitted, false);
  assertEquals(bench.pass(1), ["takeOver", "endOld"]);
  assertEquals([bench.reload.state, bench.reload.isCommitted], ["retiring", true]);
  assertEquals(bench.pass(100_000), []);
  assertEquals(bench.feed({ type: "replaced" }), ["settle"]);
  assertEquals(bench.failure, null);
});

test("core reload: with minReady 0 the replacement takes over as soon as it is ready", () => {
  const bench = new ReloadBench({ ...beside, minReady: 0 });
  assertEquals(bench.feed({ type: "ready" }), ["takeOver", "endOld"]);
});

test("core reload: a replacement that fails before it is ready is ended, and the old instance stays", () => {
  const bench = new ReloadBench(beside);
  assertEquals(bench.feed({ type: "failing" }), []);
  assertEquals(bench.feed({ type: "failed", failure: exitFailure }), ["endReplacement"]);
  assertEquals(bench.feed({ type: "ended", detail: "ended" }), ["settle"]);
  assertEquals(bench.failure, exitFailure);
  assertEquals(bench.effects.some(({ type }) => type === "endOld"), false);
});

test("core reload: a replacement that is ready and exits within minReady does not take over", () => {
  const bench = new ReloadBench(beside);
  bench.feed({ type: "ready" });
  bench.pass(minReady - 1);
  bench.feed({ type: "failing" });
  assertEquals(bench.pass(minReady), [], "the time of the proof is over, but the process is gone");
  bench.feed({ type: "failed", failure: exitFailure });
  bench.feed({ type: "ended", detail: "" });
  assertEquals(bench.failure, exitFailure);
});

test("core reload: a failed check within minReady ends the replacement", () => {
  const bench = new ReloadBench(beside);
  assertEquals(bench.feed({ type: "checkFailed", detail: "too early" }), []);
  bench.feed({ type: "ready" });
  assertEquals(bench.feed({ type: "checkFailed", detail: "status 500" }), ["endReplacement"]);
  bench.feed({ type: "failed", failure: exitFailure }); // the first failure is the reason
  bench.feed({ type: "ended", detail: "" });
  assertEquals(bench.failure, {
    reason: "unhealthy",
    detail: "failed its health check: status 500",
  });
});

test("core reload: a replacement that ends without a failure does not take over", () => {
  const bench = new ReloadBench(beside);
  assertEquals(bench.feed({ type: "ended", detail: "ended with exit code 0" }), ["settle"]);
  assertEquals(bench.failure, { detail: "ended with exit code 0" });
});

test("core reload: a cancel ends the replacement; after it took over, the reload goes on", () => {
  const early = new ReloadBench(beside);
  assertEquals(early.feed({ type: "cancel", detail: "stop" }), ["endReplacement"]);
  assertEquals(early.feed({ type: "ended", detail: "" }), ["settle"]);
  assertEquals(early.failure, { detail: "stop" });
  const late = new ReloadBench(beside);
  late.feed({ type: "ready" });
  late.pass(minReady);
  assertEquals(late.feed({ type: "cancel", detail: "stop" }), []);
  assertEquals(late.feed({ type: "failed", failure: exitFailure }), []);
  assertEquals(late.feed({ type: "replaced" }), ["settle"]);
  assertEquals(late.failure, null);
});

test("core reload by a spare: the old instance is ended when the spare is parked, and the next one must stay ready", () => {
  const bench = new ReloadBench(bySpare);
  assertEquals(bench.effects.map(({ type }) => type), ["prepareSpare"]);
  assertEquals(bench.feed({ type: "ready" }), []);
  assertEquals(bench.feed({ type: "parked" }), ["endOld"]);
  assertEquals(bench.pass(100_000), []);
  assertEquals(bench.feed({ type: "replaced" }), []);
  assertEquals(bench.feed({ type: "ready" }), []);
  assertEquals(bench.pass(minReady), ["settle"]);
  assertEquals(bench.failure, null);
});

test("core reload by a spare: a spare that does not park in time, or fails, is ended, and the old instance stays", () => {
  const slow = new ReloadBench(bySpare);
  assertEquals(slow.pass(60_000), ["endReplacement"]);
  assertEquals(slow.feed({ type: "parked" }), []);
  assertEquals(slow.feed({ type: "ended", detail: "" }), ["settle"]);
  assertEquals(slow.failure, {
    reason: "startup",
    detail: "did not call register() within 60000 ms",
  });
  const failed = new ReloadBench({ ...bySpare, startupTimeout: 0 });
  assertEquals(failed.pass(1_000_000), []);
  assertEquals(failed.feed({ type: "ended", detail: "ended while it was starting" }), ["settle"]);
  assertEquals(failed.failure, { detail: "ended while it was starting" });
});

test("core reload by a spare: a failure after the old instance has ended fails the reload and ends nothing", () => {
  const bench = new ReloadBench(bySpare);
  bench.feed({ type: "parked" });
  bench.feed({ type: "replaced" });
  assertEquals(bench.feed({ type: "failed", failure: exitFailure }), ["settle"]);
  assertEquals(bench.failure, exitFailure);
});

test("core reload by a restart: the old instance is ended at once, and the next one must stay ready", () => {
  const bench = new ReloadBench(byRestart);
  assertEquals(bench.effects.map(({ type }) => type), ["endOld"]);
  assertEquals([bench.pass(100_000), bench.reload.isCommitted], [[], true]);
  assertEquals(bench.feed({ type: "replaced" }), []);
  assertEquals(bench.feed({ type: "ready" }), []);
  assertEquals(bench.pass(minReady), ["settle"]);
  assertEquals(bench.failure, null);
  const failed = new ReloadBench(byRestart);
  failed.feed({ type: "replaced" });
  assertEquals(failed.feed({ type: "failed", failure: exitFailure }), ["settle"]);
  assertEquals(failed.failure, exitFailure);
});

test("core reload by a spare: a new instance that fails proves nothing while it is being ended", () => {
  const bench = new ReloadBench(bySpare);
  bench.feed({ type: "parked" });
  bench.feed({ type: "replaced" });
  bench.feed({ type: "ready" });
  bench.pass(minReady - 1);
  assertEquals(bench.feed({ type: "failing" }), []);
  assertEquals(bench.pass(100_000), []);
  assertEquals(bench.feed({ type: "failed", failure: exitFailure }), ["settle"]);
  assertEquals(bench.failure, exitFailure);
});

const happening: fc.Arbitrary<ReloadInput | number> = fc.oneof(
  fc.constantFrom<ReloadInput>(
    { type: "begin" },
    { type: "parked" },
    { type: "ready" },
    { type: "checkFailed", detail: "" },
    { type: "failing" },
    { type: "failed", failure: exitFailure },
    { type: "ended", detail: "" },
    { type: "replaced" },
    { type: "cancel", detail: "" },
    { type: "tick" },
  ),
  fc.integer({ min: 0, max: 2 * minReady }),
);

test("core reload: no order of inputs ends the old instance before the new one has proved itself", () => {
  const ways = fc.constantFrom<ReloadWay>("side by side", "spare", "restart");
  runs(3000, ways, fc.array(happening, { maxLength: 30 }), (way, happenings) => {
    const bench = new ReloadBench({ ...beside, way });
    /** Time since which the replacement has been ready without a failure; null while it is not. */
    let readySince: number | null = null;
    let isParked = false;
    for (const each of happenings) {
      if (typeof each === "number") bench.pass(each);
      else bench.feed(each);
      const { state } = bench.reload;
      if (state === "proving") readySince ??= bench.now;
      isParked ||= typeof each !== "number" && each.type === "parked";
    }
    const types = bench.effects.map(({ type }) => type);
    const count = (type: ReloadEffect["type"]) => types.filter((each) => each === type).length;
    for (const type of ["endOld", "takeOver", "endReplacement", "settle"] as const) {
      assert(count(type) <= 1, `${type} twice`);
    }
    if (count("endOld") > 0) {
      assertEquals(count("endReplacement"), 0, "both are ended");
      const isProved = readySince !== null && bench.now - readySince >= minReady;
      assert(way === "restart" || (way === "spare" ? isParked : isProved));
      if (way === "side by side") {
        assertEquals(types.indexOf("endOld"), types.indexOf("takeOver") + 1);
      }
    }
    assert(!types.includes("settle") || types.at(-1) === "settle", "an effect after the end");
    if (bench.reload.state === "over") assertEquals(bench.reload.deadline, undefined);
  });
});
