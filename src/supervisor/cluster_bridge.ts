/**
 * Connects a server to the cluster: it feeds quorum changes to the state machine, and writes the machine's keys to the cluster
 * map.
 */
import type { MapKeys, ServerInput } from "../core/server/types.ts";
import { SamError } from "../errors.ts";
import type { Clock, OwnProcess } from "../runtime/runtime.ts";
import type { ClusterMap, QuorumSource } from "../api/cluster.ts";
import { endsWithin } from "./time_limit.ts";

/** The parts of a bridge. */
export interface ClusterParts {
  readonly quorum: QuorumSource | undefined;
  readonly clusterMap: ClusterMap | undefined;
  readonly runtime: Clock & Pick<OwnProcess, "pid">;
}

/** Time limit for the last writes and for closing the cluster when supervision ends. */
const endMs = 1000;

/** The keys below `resources.process.PID.`. `state` is last, because Corosync's watchdog reads the others when it comes. */
const names: Readonly<Record<keyof MapKeys, string>> = {
  recovery: "recovery",
  pollPeriod: "poll_period",
  lastUpdated: "last_updated",
  state: "state",
};

type Wanted = MapKeys[keyof MapKeys] | null;

/** The bridge of one server. */
export class ClusterBridge {
  readonly #parts: ClusterParts;
  readonly #report: (error: unknown, failure: string) => void;
  readonly #feed: (input: ServerInput) => void;
  #ended = false;
  #watching: Promise<(() => void | Promise<void>) | undefined> = Promise.resolve(undefined);
  /** Values to be written, at most one for a key; null deletes the key. */
  readonly #wanted = new Map<string, Wanted>();
  #writing: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  /** The map's clock minus this process's clock, in nanoseconds; null before it is known. */
  #clockOffset: bigint | null = null;
  /** True after a failure was reported, until the map works again: one outage is one report. */
  #mapFails = false;

  constructor(
    parts: ClusterParts,
    report: (error: unknown, failure: string) => void,
    feed: (input: ServerInput) => void,
  ) {
    this.#parts = parts;
    this.#report = report;
    this.#feed = feed;
  }

  /** Begins to watch quorum, if there is a source. */
  watch(): void {
    const { quorum } = this.#parts;
    const feed = this.#feed;
    if (!quorum) return;
    const begin = async () =>
      await quorum.watch(
        (quorate) => feed({ type: "quorum", quorate: quorate === true }),
        (error) => {
          if (!this.#ended) this.#report(error, "cannot read the state of quorum");
        },
      );
    this.#watching = begin().catch((error) => {
      if (this.#ended) return undefined;
      this.#report(error, "cannot watch quorum");
      const { code, message } = error instanceof SamError
        ? error
        : { code: "LIBRARY" as const, message: String(error?.message ?? error) };
      const problem = { code, message: `cannot watch quorum: ${message}`, cause: error };
      feed({ type: "quorumFailed", problem });
      return undefined;
    });
  }

  /** Writes keys to the map. */
  map(keys: MapKeys): void {
    for (const key of Object.keys(names) as (keyof MapKeys)[]) {
      if (keys[key] !== undefined) this.#want(names[key], keys[key]);
    }
  }

  /** Deletes all keys from the map. */
  unmap(): void {
    for (const name of Object.values(names)) this.#want(name, null);
  }

  #want(name: string, value: Wanted): void {
    this.#wanted.delete(name); // a Map keeps the place of a key: this value must be written last
    this.#wanted.set(name, value);
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    for (let next = this.#next(); next; next = this.#next()) {
      try {
        await this.#put(...next);
        this.#mapFails = false;
      } catch (error) {
        if (!this.#mapFails) this.#report(error, "cannot write to the cluster map");
        this.#mapFails = true;
      }
    }
    this.#writing = null; // before `feed`, which may add a value: that one must start a new write
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

  /** Writes the last values and closes the cluster, within a time limit. */
  async end(): Promise<void> {
    this.#ended = true;
    const ends = Promise.all([this.#finishMap(), this.#endWatch()]);
    if (await endsWithin(this.#parts.runtime, ends, endMs)) return;
    this.#report(`no answer within ${endMs} ms`, "cannot leave the cluster");
    this.#mapFails = true; // reported with the line above
    this.#wanted.clear(); // a write would open the map again
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
      this.#report(error, "cannot close the cluster map");
    }
  }

  async #endWatch(): Promise<void> {
    try {
      await (await this.#watching)?.();
    } catch (error) {
      this.#report(error, "cannot stop watching quorum");
    }
  }
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1e6));
}
