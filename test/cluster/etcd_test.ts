// examples/etcd: a lock in a real etcd is a quorum source like any other.
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
  "a lock in etcd: one of two programs runs; it dies before the lock can be another's; a clean end hands over",
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
      await eventually("one of them holds the lock", () => total() === 1);
      const holder = programs.find((each) => starts(each) === 1)!;
      const other = programs.find((each) => each !== holder)!;
      await other.event("waiting", 1);
      const { pid } = holder.supervisor.status;

      etcd.freeze(); // for less than the lease
      await new Promise((resolve) => setTimeout(resolve, 300));
      etcd.thaw();
      assert(lives(pid!), "a short silence of etcd is none of the program's business");

      const frozenAt = performance.now();
      etcd.freeze();
      const recovery = await holder.event("recovery", 1);
      await eventually("the program is dead", () => !lives(pid!));
      const deadAfterMs = performance.now() - frozenAt;
      assertEquals(recovery.reason, "quorum");
      // From the last renewal on, which was before: ttl - handover until the warning, then the time interval.
      assert(deadAfterMs < ttl * 1000 - handover + timeInterval + 300, `${deadAfterMs} ms`);
      assertEquals(total(), 1, "nobody runs meanwhile");
      etcd.thaw();
      await eventually("one of them runs again", () => total() === 2);

      const now = programs.find((each) => each.supervisor.status.state === "started")!;
      const next = programs.find((each) => each !== now)!;
      const before = starts(next);
      const stoppedAt = performance.now();
      await now.supervisor.stop();
      await eventually("the other takes over", () => starts(next) === before + 1);
      const takenAfterMs = performance.now() - stoppedAt;
      assert(takenAfterMs < ttl * 1000, `${takenAfterMs} ms: the lease was given back`);
    } finally {
      etcd.thaw();
      await stage.end();
      await etcd.close();
    }
  },
  { timeoutMs: 60_000, skip: missing ?? false, leg: "node24" },
);

/** Who wants the lock `name` too, and can take it from whoever has it. */
class Rival {
  readonly #etcd: Etcd;
  readonly #name: string;
  /** Its lease, while it has the lock. */
  #lease: string | null = null;

  constructor(etcd: Etcd, name: string) {
    this.#etcd = etcd;
    this.#name = name;
  }

  /** Waits behind the others, whose leases then end before their time: no holder expects that, and none is warned of it. */
  async take(): Promise<void> {
    if (this.#lease !== null) return;
    const { ID: lease } = await this.#etcd.ask("lease/grant", { TTL: 600 });
    this.#lease = lease;
    const locked = this.#etcd.ask("lock/lock", { name: btoa(this.#name), lease });
    const waiting = await eventually("the rival waits for the lock", async () => {
      const leases = await this.#leases();
      return leases.includes(lease) && leases;
    });
    for (const ID of waiting) if (ID !== lease) await this.#etcd.ask("lease/revoke", { ID });
    await locked;
  }

  async giveBack(): Promise<void> {
    const ID = this.#lease;
    this.#lease = null;
    if (ID !== null) await this.#etcd.ask("lease/revoke", { ID });
  }

  /** The leases of all who have the lock or wait for it: each has a key below its name. */
  async #leases(): Promise<string[]> {
    const range = { key: btoa(`${this.#name}/`), range_end: btoa(`${this.#name}0`) };
    const { kvs = [] } = await this.#etcd.ask("kv/range", range);
    return kvs.map(({ lease }: { lease: string }) => lease);
  }
}

processTest(
  "a lock in etcd passes the conformance checks of quorum sources, but that two are told of it at once",
  async (stage) => {
    const etcd = await startEtcd(stage.directory);
    try {
      const rival = new Rival(etcd, "two");
      const checks = quorumConformance(etcdLock("two", { endpoints: [etcd.url], ttl, handover }), {
        set: (quorate) => quorate ? rival.giveBack() : rival.take(),
      });
      // Two watches are two that want the lock, and only one has it: that is what a lock is for.
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

test("a lock in etcd: the arguments are checked", () => {
  const wrong = [{ endpoints: [] }, { ttl: 1.5 }, { ttl: 0 }, { ttl: 2, handover: 2000 }];
  for (const options of wrong) {
    assertEquals(assertThrows(() => etcdLock("one", options), SamError).code, "INVALID_PARAM");
  }
  assertEquals(assertThrows(() => etcdLock(""), SamError).code, "INVALID_PARAM");
});
