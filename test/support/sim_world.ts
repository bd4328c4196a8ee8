// A world for the driver: a runtime and a transport in virtual time, an operator, a cluster and the judge. Everything
// that goes wrong in it is in the plan, which comes from a seed. So a run that fails can be repeated.

import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { memoryClusterMap, memoryQuorum } from "../../src/testing/memory_cluster.ts";
import type { ClusterMap } from "../../src/api/cluster.ts";
import type { ServerEffect, ServerSettings } from "../../src/core/server/types.ts";
import { Driver } from "../../src/supervisor/driver.ts";
import type { InstanceRuntime } from "../../src/supervisor/instance/instance.ts";
import { Judge } from "./sim_judge.ts";
import { Dice, horizon, type Operation, type Plan } from "./sim_plan.ts";
import type { Process } from "./sim_process.ts";
import { simulatedRuntime } from "./sim_runtime.ts";
import { SimulatedTransport } from "./sim_transport.ts";
import { StepRules } from "./step_rules.ts";
import { VirtualClock } from "./virtual_clock.ts";

/** The largest number of steps of a run. */
const maxSteps = 100_000;
/** The largest length of a chain of promises in the driver. Chains after a timer or `settle()` are short. */
const microtasks = { long: 80, short: 8, last: 5000 };
/** Effects that the driver carries out with promises. */
const awaited: ReadonlySet<ServerEffect["type"]> = new Set([
  "spawn",
  "spawnSpare",
  "killSpare",
  "map",
  "unmap",
  "finish",
]);
/** After a stall, delayed events happen in their order, this many milliseconds apart. */
const hairMs = 1e-6;
/** After a stall of all processes, the server runs first, by this many milliseconds. */
const wakeMs = 5;

/** A world. */
export class World {
  readonly plan: Plan;
  readonly clock: VirtualClock = new VirtualClock();
  readonly dice: Dice;
  readonly judge: Judge;
  readonly runtime: InstanceRuntime;
  readonly transport: SimulatedTransport;
  readonly driver: Driver;
  /** Processes that have not been reaped, by process id. */
  readonly processes: Map<number, Process> = new Map();
  /** A record of what happened, printed with a failure. */
  readonly trace: string[] = [];
  /** The events by type, and recoveries by reason. */
  readonly events: string[] = [];
  readonly #settings: ServerSettings;
  readonly #timers = new Set<object>();
  readonly #quorum = memoryQuorum(false);
  #watchers = 0;
  #pids = 1;
  #failure: unknown;
  /** Number of microtasks that must run before the next thing happens. */
  #owed = 0;

  constructor(plan: Plan) {
    this.plan = plan;
    this.dice = new Dice(plan.seed + 1);
    this.#settings = plan.settings;
    this.judge = new Judge(this, this.#settings);
    this.runtime = simulatedRuntime(this, this.#timers);
    this.transport = new SimulatedTransport(this);
    const { hasQuorum, hasClusterMap } = this.#settings;
    this.driver = new Driver({
      runtime: this.runtime,
      transport: this.transport,
      settings: this.#settings,
      seed: plan.seed,
      // deno-lint-ignore require-await
      command: async () => ({
        file: "program",
        flags: [],
        args: [String(this.judge.asked())],
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
        this.trace.push(`${this.now.toFixed(2)} ${instanceId} ${JSON.stringify(event, plain)}`);
        this.events.push(event.type === "recovery" ? `recovery: ${event.reason}` : event.type);
        this.attempt(() => assert(this.judge.finished === null, `${event.type} after the end`));
      },
      askToStart: () => {
        const at = this.now + this.dice.oneOf(0, 1, 200);
        this.toServer(at, () => this.attempt(() => this.driver.allowStart()));
      },
      askToStartSpare: () => this.attempt(() => this.driver.allowSpare()),
      finish: (status) => this.attempt(() => this.#end(status)),
    });
    this.#watch();
  }

  get now(): number {
    return this.clock.now;
  }

  nextPid(): number {
    return ++this.#pids;
  }

  /** Delivers something to the server's process, which may be stalled. */
  toServer(time: number, run: () => void, what: "input" | "timer" | "settled" = "input"): void {
    this.clock.at(time, () => {
      const awake = this.#awake();
      if (awake <= this.now) return run();
      const order = what === "settled" ? 2 : (what === "timer") === this.plan.timersFirst ? 0 : 1;
      this.toServer(awake + order * hairMs, run, what);
    });
  }

  #awake(): number {
    let awake = this.now;
    for (const { at, ms, of } of this.plan.stalls) {
      if (of !== "program" && awake >= at && awake < at + ms) awake = at + ms;
    }
    return awake;
  }

  /** The time at which the processes of the program may run. */
  get released(): number {
    let released = this.now;
    for (const { at, ms, of } of this.plan.stalls) {
      const end = at + ms + wakeMs;
      if (of !== "server" && released >= at && released < end) released = end;
    }
    return released;
  }

  /** How much of the time since then all processes were stalled, or those of the program. */
  stalledSince(time: number, who: "all" | "program", until: number = this.now): number {
    let [sum, seen] = [0, time];
    for (const { at, ms, of } of this.plan.stalls.toSorted((a, b) => a.at - b.at)) {
      if (of === "server" || (who === "all" && of !== "all")) continue;
      const end = Math.min(until, at + ms);
      sum += Math.max(0, end - Math.max(seen, at));
      seen = Math.max(seen, end);
    }
    return sum;
  }

  /** Answers the driver, which waits for it. */
  answer(time: number, run: () => void, what?: "timer" | "settled"): void {
    this.toServer(time, () => {
      const short = what !== undefined && this.driver.server.state !== "finished";
      this.#owe(short ? microtasks.short : microtasks.long);
      run();
    }, what);
  }

  #owe(count: number): void {
    this.#owed = Math.max(this.#owed, count);
  }

  /** Runs the world to its end. */
  async run(): Promise<void> {
    const { operator, stalls } = this.plan;
    this.driver.begin();
    for (const { at, does } of operator) this.toServer(at, () => this.#operate(does));
    for (const { at, ms } of stalls) this.clock.at(at, () => this.judge.stalledMs += ms);
    for (const at of [horizon, horizon + 20_000]) {
      this.toServer(at, () => this.driver.shutdown("SIGTERM"));
    }
    let idle = false;
    for (let steps = 0;; steps++) {
      this.#owe(1);
      while (this.#owed-- > 0) await null;
      this.#owed = 0;
      if (!this.clock.next()) {
        if (this.judge.finished) break;
        assert(!idle, `no end: ${this.driver.server.state}`);
        idle = true;
        this.#owe(microtasks.last);
      }
      this.attempt(() => this.judge.look());
      if (this.#failure !== undefined) throw this.#failure;
      assert(steps < maxSteps, "it goes on for ever");
    }
  }

  /** The judge sees every step of the core, which must follow the rules. */
  #watch(): void {
    const { server } = this.driver;
    const rules = new StepRules(server);
    server.step = (input, now) => {
      let effects: ReturnType<typeof rules.step> = [];
      this.attempt(() => {
        effects = rules.step(input, now);
        const concludes = input.type === "linkEnd" || input.type === "exit"; // carried out together
        if (concludes || effects.some(({ type }) => awaited.has(type))) {
          this.#owe(microtasks.long);
        }
        this.judge.decided(input, effects);
      });
      return effects;
    };
  }

  /** A failure that the driver would report and survive is a failure of the test. */
  attempt(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#failure ??= error;
    }
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
    assertEquals([...this.transport.endpoints], [], "endpoints are left");
    assertEquals([...this.transport.links], [], "links are left");
    assertEquals(this.#timers.size, 0, "timers are left");
    assertEquals(this.#watchers, 0, "the quorum is still watched");
  }
}

function plain(_key: string, value: unknown): unknown {
  return typeof value === "bigint" || value instanceof Error ? String(value) : value;
}
