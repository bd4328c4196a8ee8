// The lock of examples/etcd with a real etcd.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { etcdLock } from "../../examples/etcd/lock.ts";
import { SamError } from "../../mod.ts";
import { quorumConformance } from "../../src/testing/mod.ts";
import { type Etcd, etcdMissing, startEtcd } from "../support/etcd.ts";
import { test } from "../support/harness.ts";
import { eventually, lives, processTest, type Watched } from "../support/processes.ts";

const ttl = 2;
const handover = 1000;
const timeInterval = 300;
const missing = etcdMissing();

processTest(
  "a lock in etcd: only one of two programs runs, it ends before the other one can get the lock, and a clean end releases the lock",
  async (stage) => {
    const etcd = await startEtcd(stage.directory);
    try {
      const start = () =>
        stage.supervise("corosync/etcd", {
          timeInterval,
          recoveryPolicy: "restart",
          quorum: etcdLock("one", { endpoints: [etcd.url], ttl, handover }),
          stopTimeout: 100, // it ignores warnings
          restart: { maxDelay: 0 },
        });
      const programs: Watched[] = [start(), start()];
      const starts = (program: Watched) => program.all("start").length;
      const total = () => programs.reduce((sum, each) => sum + starts(each), 0);
      await eventually("the start of one program", () => total() === 1);
      const holder = programs.find((each) => starts(each) === 1)!;
      const other = programs.find((each) => each !== holder)!;
      await other.event("waiting", 1);
      const { pid } = holder.supervisor.status;

      etcd.freeze(); // for less than the lease
      await new Promise((resolve) => setTimeout(resolve, 300));
      etcd.thaw();
      assert(lives(pid!), "a short silence of etcd ended the program");

      const frozenAt = performance.now();
      etcd.freeze();
      const recovery = await holder.event("recovery", 1);
      await eventually("the end of the program", () => !lives(pid!));
      const deadAfterMs = performance.now() - frozenAt;
      assertEquals(recovery.reason, "quorum");
      // The time runs from the last renewal, before the freeze: ttl - handover until the warning, then the time interval.
      assert(deadAfterMs < ttl * 1000 - handover + timeInterval + 300, `${deadAfterMs} ms`);
      assertEquals(total(), 1, "another program ran meanwhile");
      etcd.thaw();
      await eventually("the next start of one program", () => total() === 2);

      const now = programs.find((each) => each.supervisor.status.state === "started")!;
      const next = programs.find((each) => each !== now)!;
      const before = starts(next);
      const stoppedAt = performance.now();
      await now.supervisor.stop();
      await eventually("the start of the other program", () => starts(next) === before + 1);
      const takenAfterMs = performance.now() - stoppedAt;
      assert(
        takenAfterMs < ttl * 1000,
        `the other program waited ${takenAfterMs} ms, so the lease was not revoked`,
      );
    } finally {
      etcd.thaw();
      await stage.end();
      await etcd.close();
    }
  },
  { timeoutMs: 60_000, skip: missing ?? false, leg: "node24" },
);

/** A competitor for the lock `name`, which can take it from its holder. */
class Rival {
  readonly #etcd: Etcd;
  readonly #name: string;
  /** The lease of the rival; null while it does not have the lock. */
  #lease: string | null = null;

  constructor(etcd: Etcd, name: string) {
    this.#etcd = etcd;
    this.#name = name;
  }

  /** Takes the lock by revoking the leases of all others. Their holders have no warning of that. */
  async take(): Promise<void> {
    if (this.#lease !== null) return;
    const { ID: lease } = await this.#etcd.ask("lease/grant", { TTL: 600 });
    this.#lease = lease;
    const locked = this.#etcd.ask("lock/lock", { name: btoa(this.#name), lease });
    const waiting = await eventually("the request of the rival for the lock", async () => {
      const leases = await this.#leases();
      return leases.includes(lease) && leases;
    });
    for (const ID of waiting) if (ID !== lease) await this.#etcd.ask("lease/revoke", { ID });
    await locked;
  }

  async release(): Promise<void> {
    const ID = this.#lease;
    this.#lease = null;
    if (ID !== null) await this.#etcd.ask("lease/revoke", { ID });
  }

  /** The leases of the holder and of all that wait for the lock. Each has a key below its name. */
  async #leases(): Promise<string[]> {
    const range = { key: btoa(`${this.#name}/`), range_end: btoa(`${this.#name}0`) };
    const { kvs = [] } = await this.#etcd.ask("kv/range", range);
    return kvs.map(({ lease }: { lease: string }) => lease);
  }
}

processTest(
  "a lock in etcd passes the conformance checks of quorum sources, except the one with two watches at once",
  async (stage) => {
    const etcd = await startEtcd(stage.directory);
    try {
      const rival = new Rival(etcd, "two");
      const checks = quorumConformance(etcdLock("two", { endpoints: [etcd.url], ttl, handover }), {
        set: (quorate) => quorate ? rival.release() : rival.take(),
      });
      // Two watches compete for the lock, so only one of them can be quorate.
      const apply = checks.filter(({ name }) =>
        name !== "quorum: two watches both receive each change"
      );
      assertEquals(apply.length, checks.length - 1);
      for (const { run } of apply) await run();
    } finally {
      await etcd.close();
    }
  },
  { timeoutMs: 60_000, skip: missing ?? false, leg: "node24" },
);

test("a lock in etcd: wrong arguments are refused", () => {
  const wrong = [{ endpoints: [] }, { ttl: 1.5 }, { ttl: 0 }, { ttl: 2, handover: 2000 }];
  for (const options of wrong) {
    assertEquals(assertThrows(() => etcdLock("one", options), SamError).code, "INVALID_PARAM");
  }
  assertEquals(assertThrows(() => etcdLock(""), SamError).code, "INVALID_PARAM");
});
