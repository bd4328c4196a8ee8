/** What every quorum source and every cluster map must do, as lists of checks that any test runner can run. */
import { type ConformanceCheck, fail, within } from "./conformance.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { ClusterMap, QuorumSource } from "../api/cluster.ts";

/** Options of `quorumConformance`. */
export interface QuorumConformanceOptions {
  /** Makes the cluster quorate, or not; resolved when that is done, or on its way. */
  readonly set: (quorate: boolean) => void | Promise<void>;
  /** How long a change may take to be told, in milliseconds. Default 20,000. */
  readonly limit?: number;
}

/**
 * The checks of a quorum source.
 *
 * ```ts
 * import { memoryQuorum, quorumConformance } from "@x/sam/testing";
 *
 * const quorum = memoryQuorum();
 * const set = (quorate: boolean) => void (quorum.quorate = quorate);
 * for (const check of quorumConformance(quorum, { set })) await check.run();
 * ```
 */
export function quorumConformance(
  source: QuorumSource,
  { set, limit = 20_000 }: QuorumConformanceOptions,
): readonly ConformanceCheck[] {
  const checks: ConformanceCheck[] = [];
  const check = (name: string, quorate: boolean, body: (watch: Watch) => Promise<void>) => {
    const run = async () => {
      await set(quorate);
      const watch = await Watch.begin(source, limit);
      try {
        await body(watch);
      } finally {
        await watch.end();
      }
    };
    checks.push({ name: `quorum: ${name}`, run });
  };

  check("the present state is told, when it is quorate", true, async (watch) => {
    await watch.until(true);
  });

  check("the present state is told, when it is not", false, async (watch) => {
    await watch.until(false);
  });

  check("each change is told, and nothing twice", true, async (watch) => {
    await watch.until(true);
    for (const quorate of [false, true, false, true]) {
      await set(quorate);
      await watch.until(quorate);
    }
    const repeated = watch.told.some((quorate, at) => at > 0 && quorate === watch.told[at - 1]);
    if (repeated) fail(`told was ${watch.told.join(", ")}`);
  });

  check("two watches are both told", true, async (watch) => {
    const other = await Watch.begin(source, limit);
    try {
      await Promise.all([watch.until(true), other.until(true)]);
      await set(false);
      await Promise.all([watch.until(false), other.until(false)]);
    } finally {
      await other.end();
    }
  });

  check(
    "a watch that has ended is told nothing, and the next one everything",
    true,
    async (first) => {
      await first.until(true);
      await first.end();
      const count = first.told.length;
      const second = await Watch.begin(source, limit);
      try {
        await second.until(true);
        await set(false);
        await second.until(false);
      } finally {
        await second.end();
      }
      if (first.told.length !== count) fail("a change was told after the end of the watch");
    },
  );

  return checks;
}

/** One watch, and what it was told. */
class Watch {
  readonly told: boolean[] = [];
  readonly #limit: number;
  #heard = () => {};
  #end: (() => void | Promise<void>) | null = null;

  private constructor(limit: number) {
    this.#limit = limit;
  }

  static async begin(source: QuorumSource, limit: number): Promise<Watch> {
    const watch = new Watch(limit);
    watch.#end = await source.watch((quorate) => {
      watch.told.push(quorate);
      watch.#heard();
    });
    return watch;
  }

  /** Waits until the last that was told is `quorate`. */
  async until(quorate: boolean): Promise<void> {
    while (this.told.at(-1) !== quorate) {
      const next = new Promise<void>((resolve) => this.#heard = resolve);
      const what = `"${quorate ? "quorate" : "not quorate"}" is told`;
      await within(await loadRuntime(), this.#limit, what, next);
    }
  }

  async end(): Promise<void> {
    const end = this.#end;
    this.#end = null;
    await end?.();
  }
}

/** Options of `clusterMapConformance`. */
export interface ClusterMapConformanceOptions {
  /** Reads a key by other means than the map under test; undefined where it is not set. */
  readonly read: (
    key: string,
  ) => string | bigint | undefined | Promise<string | bigint | undefined>;
  /** Takes the map away and brings it back, empty; left out where that cannot be. */
  readonly restart?: () => Promise<void>;
  /** How long a map that was away may take to have all keys again, in milliseconds. Default 20,000. */
  readonly limit?: number;
}

/**
 * The checks of a cluster map.
 *
 * ```ts
 * import { clusterMapConformance, memoryClusterMap } from "@x/sam/testing";
 *
 * const map = memoryClusterMap();
 * const read = (key: string) => map.entries.get(key);
 * for (const check of clusterMapConformance(map, { read })) await check.run();
 * ```
 */
export function clusterMapConformance(
  map: ClusterMap,
  { read, restart, limit = 20_000 }: ClusterMapConformanceOptions,
): readonly ConformanceCheck[] {
  const checks: ConformanceCheck[] = [];
  const key = (name: string) => `resources.process.1.${name}`;
  const check = (name: string, body: () => Promise<void>) => {
    const run = async () => {
      try {
        await body();
      } finally {
        for (const each of ["text", "number", "other"]) await map.delete(key(each));
        await map.close?.();
      }
    };
    checks.push({ name: `cluster map: ${name}`, run });
  };
  const expect = async (name: string, value: string | bigint | undefined) => {
    const found = await read(key(name));
    if (found !== value) fail(`"${name}" is ${String(found)}, not ${String(value)}`);
  };

  check("a text and a number are there, as they are, when set() resolves", async () => {
    for (const text of ["running", "waiting for quorum", "ü"]) {
      await map.set(key("text"), text);
      await expect("text", text);
    }
    for (const number of [0n, 2000n, 2n ** 64n - 1n]) {
      await map.set(key("number"), number);
      await expect("number", number);
    }
  });

  check("a key that is deleted is gone; one that is missing is no error", async () => {
    await map.set(key("text"), "running");
    await map.set(key("other"), "stopped");
    await map.delete(key("text"));
    await map.delete(key("text"));
    await expect("text", undefined);
    await expect("other", "stopped");
  });

  check("calls that are made at once are carried out in their order", async () => {
    const values = Array.from({ length: 50 }, (_, at) => BigInt(at));
    await Promise.all(values.map((value) => map.set(key("number"), value)));
    await expect("number", values.at(-1));
  });

  check("close() leaves what was set, and set() works after it", async () => {
    await map.set(key("text"), "failed");
    await map.close?.();
    await expect("text", "failed");
    await map.set(key("other"), "running");
    await expect("other", "running");
  });

  check("now() moves on, by nanoseconds", async () => {
    const first = await map.now?.();
    if (first === undefined) return; // it has no clock of its own
    const runtime = await loadRuntime();
    await new Promise<void>((resolve) => void runtime.schedule(resolve, 20, true));
    const second = await map.now!();
    const ms = Number(second - first) / 1e6;
    if (!(ms > 15 && ms < limit)) fail(`20 ms later it says ${ms} ms later`);
  });

  if (restart) {
    check("a map that was away has all keys again", async () => {
      await map.set(key("text"), "running");
      await map.set(key("number"), 7n);
      await map.set(key("other"), "gone");
      await map.delete(key("other"));
      await restart();
      const runtime = await loadRuntime();
      const end = runtime.now() + limit;
      while (await read(key("text")) !== "running" || await read(key("number")) !== 7n) {
        if (runtime.now() > end) fail(`the keys are not there again within ${limit} ms`);
        await new Promise<void>((resolve) => void runtime.schedule(resolve, 20, true));
      }
      await expect("other", undefined);
    });
  }

  return checks;
}
