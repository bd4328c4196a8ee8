// The world of one program: the driver of a SAM server, an operator and a cluster.

import { ok as assert, strictEqual as assertEquals } from "node:assert/strict";
import { memoryClusterMap, memoryQuorum } from "../../src/testing/memory_cluster.ts";
import type { ClusterMap } from "../../src/api/cluster.ts";
import { Driver } from "../../src/supervisor/driver.ts";
import { Judge } from "./sim_judge.ts";
import { horizon, type Operation, type Plan } from "./sim_plan.ts";
import { World } from "./sim_world.ts";

/** The world of one program. */
export class ProgramWorld extends World {
  readonly driver: Driver;
  readonly judge: Judge;
  readonly #quorum = memoryQuorum(false);
  #watchers = 0;

  constructor(plan: Plan) {
    super(plan);
    const { settings } = plan;
    const { hasQuorum, hasClusterMap } = settings;
    this.driver = new Driver({
      runtime: this.runtime,
      transport: this.transport,
      settings,
      seed: plan.seed,
      // deno-lint-ignore require-await
      command: async () => ({
        file: "program",
        flags: [],
        args: ["0", String(this.judge.asked())],
        env: {},
        stdio: ["ignore", "ignore", "ignore"],
      }),
      quorum: hasQuorum
        ? {
          watch: (onChange) => {
            if (plan.cluster === "fails" && this.dice.once(2)) throw new Error("no quorum source");
            const end = this.#quorum.watch(onChange) as () => void;
            this.#watchers++;
            return () => {
              this.#watchers--;
              end();
            };
          },
        }
        : undefined,
      clusterMap: hasClusterMap ? this.#clusterMap() : undefined,
    }, {
      event: (event, instanceId) => {
        this.note(event, instanceId);
        this.attempt(() => assert(this.judge.finished === null, `${event.type} after the end`));
      },
      askToStart: () => {
        const at = this.now + this.dice.oneOf(0, 1, 200);
        this.toServer(at, () => this.attempt(() => this.driver.allowStart()));
      },
      askToStartSpare: () => this.attempt(() => this.driver.allowSpare()),
      finish: (status) => this.attempt(() => this.#end(status)),
    });
    this.judge = new Judge(this, settings, this.driver.server);
    this.judges.push(this.judge);
    this.watch(this.driver.server, this.judge);
  }

  begin(): void {
    this.driver.begin();
    for (const { at, does } of this.plan.operator) this.toServer(at, () => this.#operate(does));
    for (const at of [horizon, horizon + 20_000]) {
      this.toServer(at, () => this.driver.shutdown("SIGTERM"));
    }
  }

  get isOver(): boolean {
    return this.judge.finished !== null;
  }

  look(): void {
    this.judge.look();
  }

  get summary(): string {
    return this.driver.server.state;
  }

  #operate(does: Operation): void {
    this.trace.push(`${this.now.toFixed(2)} operator: ${does}`);
    const { active, spare } = this.judge;
    switch (does) {
      case "restart":
        return this.driver.restart();
      case "stop":
        return this.driver.shutdown(null);
      case "SIGINT":
        return this.driver.shutdown("SIGINT");
      case "unhealthy":
        this.judge.foundUnhealthy();
        return this.driver.unhealthy("unhealthy", "somebody says so");
      case "quorate":
      case "not quorate":
        this.judge.quorate = does === "quorate";
        this.#quorum.quorate = this.judge.quorate;
        return;
      case "kill the active process":
        return active?.process?.end({ code: null, signal: "SIGKILL" });
      case "kill the spare":
        return spare?.process?.end({ code: null, signal: "SIGKILL" });
    }
  }

  #clusterMap(): ClusterMap {
    const { cluster } = this.plan;
    if (cluster === "sound") return memoryClusterMap();
    const answer = () =>
      new Promise<void>((_, reject) => {
        if (cluster === "fails") reject(new Error("no map"));
        if (cluster === "fails late") {
          this.answer(this.now + 1500, () => reject(new Error("no map")));
        }
      });
    return { set: answer, delete: answer };
  }

  /** Supervision has ended, so nothing may be left. */
  #end(status: Parameters<Judge["end"]>[0]): void {
    this.trace.push(`${this.now.toFixed(2)} finished: ${JSON.stringify(status)}`);
    this.judge.end(status);
    this.checkRest();
    assertEquals(this.#watchers, 0, "the quorum is still watched");
  }
}
