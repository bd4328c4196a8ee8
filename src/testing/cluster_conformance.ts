/** The conformance checks of quorum sources and cluster maps, as lists that any test runner can run. */
import { type ConformanceCheck, fail, within } from "./conformance.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { ClusterMap, QuorumSource } from "../api/cluster.ts";

/** Options of `quorumConformance`. */
export interface QuorumConformanceOptions {
  /** Makes the cluster quorate or not quorate. May resolve before the change takes effect. */
  readonly set: (quorate: boolean) => void | Promise<void>;
  /** Time limit for the source to report a change, in milliseconds. Default 20,000. */
  readonly limit?: number;
}

/**
 * Returns the conformance checks for a quorum source. Run each of them in your test runner.
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

  check("the first report says quorate if the cluster is quorate", true, async (watch) => {
    await watch.until(true);
  });

  check("the first report says not quorate if the cluster is not quorate", false, async (watch) => {
    await watch.until(false);
  });

  check("each change is reported, and no state twice in a row", true, async (watch) => {
    await watch.until(true);
    for (const quorate of [false, true, false, true]) {
      await set(quorate);
      await watch.until(quorate);
    }
    const { reports } = watch;
    const isRepeated = reports.some((quorate, at) => at > 0 && quorate === reports[at - 1]);
    if (isRepeated) fail(`a state was reported twice in a row: ${reports.join(", ")}`);
  });

  check("two watches both receive each change", true, async (watch) => {
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
    "a watch that has ended receives no reports, and a later watch receives all",
    true,
    async (first) => {
      await first.until(true);
      await first.end();
      const count = first.reports.length;
      const second = await Watch.begin(source, limit);
      try {
        await second.until(true);
        await set(false);
        await second.until(false);
      } finally {
        await second.end();
      }
      if (first.reports.length !== count) fail("a change was reported after the end of the watch");
    },
  );

  return checks;
}

/** A watch that records its reports. */
class Watch {
  readonly reports: boolean[] = [];
  readonly #limit: number;
  #onReport = () => {};
  #end: (() => void | Promise<void>) | null = null;

  private constructor(limit: number) {
    this.#limit = limit;
  }

  static async begin(source: QuorumSource, limit: number): Promise<Watch> {
    const watch = new Watch(limit);
    watch.#end = await source.watch((quorate) => {
      watch.reports.push(quorate);
      watch.#onReport();
    });
    return watch;
  }

  /** Waits until the last report is `quorate`. */
  async until(quorate: boolean): Promise<void> {
    while (this.reports.at(-1) !== quorate) {
      const next = new Promise<void>((resolve) => this.#onReport = resolve);
      const event = `the report "${quorate ? "quorate" : "not quorate"}"`;
      await within(await loadRuntime(), this.#limit, event, next);
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
  /** Reads a key by other means than the map under test. Returns undefined if the key is not set. */
  readonly read: (
    key: string,
  ) => string | bigint | undefined | Promise<string | bigint | undefined>;
  /** Optional. Makes the map unavailable for a while, and then empty, as a restart of the cluster's daemon does. */
  readonly restart?: () => Promise<void>;
  /** Milliseconds within which the map must have all keys again after `restart()`. Default 20,000. */
  readonly limit?: number;
}

/**
 * Returns the conformance checks for a cluster map. Run each of them in your test runner.
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
    if (found !== value) fail(`the key "${name}" is ${String(found)}, not ${String(value)}`);
  };

  check("a text and a number can be read, unchanged, when set() resolves", async () => {
    for (const text of ["running", "waiting for quorum", "ü"]) {
      await map.set(key("text"), text);
      await expect("text", text);
    }
    for (const number of [0n, 2000n, 2n ** 64n - 1n]) {
      await map.set(key("number"), number);
      await expect("number", number);
    }
  });

  check("a deleted key is gone, and deleting a missing key is no error", async () => {
    await map.set(key("text"), "running");
    await map.set(key("other"), "stopped");
    await map.delete(key("text"));
    await map.delete(key("text"));
    await expect("text", undefined);
    await expect("other", "stopped");
  });

  check("calls made at the same time are carried out in their order", async () => {
    const values = Array.from({ length: 50 }, (_, at) => BigInt(at));
    await Promise.all(values.map((value) => map.set(key("number"), value)));
    await expect("number", values.at(-1));
  });

  check("close() leaves the keys in the map, and set() works afterwards", async () => {
    await map.set(key("text"), "failed");
    await map.close?.();
    await expect("text", "failed");
    await map.set(key("other"), "running");
    await expect("other", "running");
  });

  check("now() counts nanoseconds", async () => {
    const first = await map.now?.();
    if (first === undefined) return; // the map has no clock of its own
    const runtime = await loadRuntime();
    await new Promise<void>((resolve) => void runtime.schedule(resolve, 20, true));
    const second = await map.now!();
    const ms = Number(second - first) / 1e6;
    if (!(ms > 15 && ms < limit)) fail(`now() moved by ${ms} ms in 20 ms`);
  });

  if (restart) {
    check("after a restart of the cluster's daemon, the map has all keys again", async () => {
      await map.set(key("text"), "running");
      await map.set(key("number"), 7n);
      await map.set(key("other"), "gone");
      await map.delete(key("other"));
      await restart();
      const runtime = await loadRuntime();
      const end = runtime.now() + limit;
      while (await read(key("text")) !== "running" || await read(key("number")) !== 7n) {
        if (runtime.now() > end) fail(`the keys are not in the map again within ${limit} ms`);
        await new Promise<void>((resolve) => void runtime.schedule(resolve, 20, true));
      }
      await expect("other", undefined);
    });
  }

  return checks;
}
