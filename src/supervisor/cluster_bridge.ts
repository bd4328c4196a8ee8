/** The server's bridge to the cluster: quorum becomes input for the core, and the keys of the core are written into the map. */
import type { MapKeys, ServerInput } from "../core/server/types.ts";
import { SamError } from "../errors.ts";
import type { Clock, OwnProcess } from "../runtime/runtime.ts";
import type { ClusterMap, QuorumSource } from "../api/cluster.ts";
import { endsWithin } from "./time_limit.ts";

/** The cluster of a server. */
export interface ClusterParts {
  readonly quorum: QuorumSource | undefined;
  readonly clusterMap: ClusterMap | undefined;
  readonly runtime: Clock & Pick<OwnProcess, "pid">;
}

/** How long a server that ends waits for its cluster. */
const endMs = 1000;

/** The keys, below `resources.process.PID.`. Corosync's watchdog looks at a process when its state comes: it comes last. */
const names: Readonly<Record<keyof MapKeys, string>> = {
  recovery: "recovery",
  pollPeriod: "poll_period",
  lastUpdated: "last_updated",
  state: "state",
};

type Wanted = MapKeys[keyof MapKeys] | null;

/** The cluster of one server. */
export class ClusterBridge {
  readonly #parts: ClusterParts;
  readonly #report: (error: unknown, what: string) => void;
  readonly #feed: (input: ServerInput) => void;
  #ended = false;
  #watching: Promise<(() => void | Promise<void>) | undefined> = Promise.resolve(undefined);
  /** Values that are still to be written; null deletes a key. Only the newest value of a key counts. */
  readonly #wanted = new Map<string, Wanted>();
  #writing: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  /** The clock of the map minus the clock of this process, in nanoseconds; null before it is known. */
  #clockOffset: bigint | null = null;
  /** True from the report of a failure until the map works again: it is not reported twice. */
  #mapFails = false;

  constructor(
    parts: ClusterParts,
    report: (error: unknown, what: string) => void,
    feed: (input: ServerInput) => void,
  ) {
    this.#parts = parts;
    this.#report = report;
    this.#feed = feed;
  }

  /** Watches quorum, where there is a source. */
  watch(): void {
    const { quorum } = this.#parts;
    const feed = this.#feed;
    if (!quorum) return;
    const begin = async () =>
      await quorum.watch(
        (quorate) => feed({ type: "quorum", quorate: quorate === true }),
        (error) => {
          if (!this.#ended) this.#report(error, "quorum is not known");
        },
      );
    this.#watching = begin().catch((error) => {
      if (this.#ended) return undefined;
      this.#report(error, "quorum cannot be watched");
      const { code, message } = error instanceof SamError
        ? error
        : { code: "LIBRARY" as const, message: String(error?.message ?? error) };
      const problem = { code, message: `quorum cannot be watched: ${message}`, cause: error };
      feed({ type: "quorumFailed", problem });
      return undefined;
    });
  }

  /** Shows these keys in the map. */
  map(keys: MapKeys): void {
    for (const key of Object.keys(names) as (keyof MapKeys)[]) {
      if (keys[key] !== undefined) this.#want(names[key], keys[key]);
    }
  }

  /** Takes all keys from the map. */
  unmap(): void {
    for (const name of Object.values(names)) this.#want(name, null);
  }

  #want(name: string, value: Wanted): void {
    this.#wanted.delete(name); // so that it is written after what was wanted before
    this.#wanted.set(name, value);
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    for (let next = this.#next(); next; next = this.#next()) {
      try {
        await this.#put(...next);
        this.#mapFails = false;
      } catch (error) {
        if (!this.#mapFails) this.#report(error, "the cluster map failed");
        this.#mapFails = true;
      }
    }
    this.#writing = null; // before anything else runs: the next value must start a new write
    this.#feed({ type: "mapped" });
  }

  #next(): [string, Wanted] | undefined {
    const [next] = this.#wanted;
    if (next) this.#wanted.delete(next[0]);
    return next;
  }

  async #put(name: string, value: Wanted): Promise<void> {
    const map = this.#parts.clusterMap!;
    const key = `resources.process.${this.#parts.runtime.pid}.${name}`;
    if (value === null) return await map.delete(key);
    const shown = typeof value === "number" ? nanoseconds(value) + await this.#offset() : value;
    await map.set(key, shown as string | bigint);
  }

  async #offset(): Promise<bigint> {
    if (this.#clockOffset !== null) return this.#clockOffset;
    const { runtime, clusterMap } = this.#parts;
    const before = runtime.now();
    const there = await clusterMap!.now?.();
    if (there === undefined) return this.#clockOffset = 0n;
    return this.#clockOffset = there - nanoseconds((before + runtime.now()) / 2);
  }

  /** Supervision is over: writes the last values and closes the cluster, within a time limit. */
  async end(): Promise<void> {
    this.#ended = true;
    const ends = Promise.all([this.#finishMap(), this.#endWatch()]);
    if (await endsWithin(this.#parts.runtime, ends, endMs)) return;
    this.#report("no answer", "the cluster was left as it is");
    this.#mapFails = true; // which was said
    this.#wanted.clear(); // a write would open the map anew
    void this.#closeMap();
  }

  async #finishMap(): Promise<void> {
    await this.#writing;
    await this.#closeMap();
  }

  #closeMap(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    try {
      await this.#parts.clusterMap?.close?.();
    } catch (error) {
      this.#report(error, "the cluster map did not close");
    }
  }

  async #endWatch(): Promise<void> {
    try {
      await (await this.#watching)?.();
    } catch (error) {
      this.#report(error, "the quorum source did not end");
    }
  }
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1e6));
}
