// The world of several programs under `sam run`: the fleet with its replicas and reloads, an operator, a cluster and a guard. Each
// SAM server has a judge of its own, and sim_fleet_judge.ts judges the reloads.

import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import type { CheckedProgram } from "../../src/api/program.ts";
import type { CheckedSuperviseOptions } from "../../src/api/supervise_options.ts";
import { SamError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { Driver, type DriverParts, type DriverSink } from "../../src/supervisor/driver.ts";
import { Fleet } from "../../src/supervisor/fleet.ts";
import { expandInstances, type FleetProgram } from "../../src/supervisor/fleet_program.ts";
import { Checker, type CheckSink } from "../../src/supervisor/health_check.ts";
import type { Guard, Ward } from "../../src/supervisor/instance/guard.ts";
import type { LoadParts } from "../../src/supervisor/load_parts.ts";
import { memoryClusterMap, memoryQuorum } from "../../src/testing/memory_cluster.ts";
import { FleetJudge, type Supervised } from "./sim_fleet_judge.ts";
import type { FleetOrder, FleetPlan, ProgramPlan } from "./sim_fleet_plan.ts";
import { horizon } from "./sim_plan.ts";
import { Judge } from "./sim_judge.ts";
import { World } from "./sim_world.ts";

/** Time in which the guard of a killed server has killed all programs. */
const guardMs = 100;

/** The world of several programs. */
export class FleetWorld extends World {
  readonly fleet: Fleet;
  readonly fleetJudge: FleetJudge;
  readonly #plan: FleetPlan;
  readonly #quorum = memoryQuorum(true);
  readonly #wards = new Set<Ward>();
  readonly #unsettled = new Set<string>();
  #orders = 0;
  #exitCode: number | null = null;

  constructor(plan: FleetPlan) {
    super(plan);
    this.#plan = plan;
    const programs = expandInstances(plan.programs.map((each) => this.#describe(each)))
      .map((each) => ({ ...each, program: { ...each.program, name: each.name } }));
    this.fleet = new Fleet(programs, plan.strategy, this.#loader());
    this.fleetJudge = new FleetJudge(this, this.fleet, programs, plan.strategy);
    this.fleet.subscribe((name, event) => {
      this.oweChain();
      const { at: _, ...rest } = event;
      if (rest.type === "reload" || rest.type === "reloaded" || rest.type === "reloadFailed") {
        this.note(rest, `${name} (fleet)`);
      }
      this.attempt(() => this.fleetJudge.heard(name, event));
    });
    this.oweChain();
  }

  #describe(plan: ProgramPlan): FleetProgram {
    const { name, instances, kind, minReady, after, check, settings } = plan;
    const program: CheckedProgram = {
      name,
      isCommand: kind !== "module",
      preload: kind === "preloaded command",
      // deno-lint-ignore require-await
      command: async () => ({
        file: "program",
        flags: [],
        args: [],
        env: {},
        stdio: ["ignore", "ignore", "ignore"],
      }),
    };
    const options: CheckedSuperviseOptions = {
      settings,
      transport: this.transport,
      transportChosen: true,
      killMode: "group",
      log: "none",
      quorum: plan.hasQuorum ? this.#quorum : undefined,
      clusterMap: plan.hasClusterMap ? memoryClusterMap() : undefined,
      check: check && { kind: "tcp", target: "localhost:1", ...check },
    };
    return { name, instances, minReady, program, options, after };
  }

  // The parts of the SAM servers.

  /** Makes the function that loads the parts of a SAM server: the real ones, on the simulated runtime. */
  #loader(): LoadParts {
    // deno-lint-ignore no-this-alias
    const world = this;
    /** The server whose parts are being made. */
    let server: Supervised;
    class SimulatedDriver extends Driver {
      readonly #judge: Judge;

      constructor(parts: DriverParts, sink: DriverSink) {
        const number = world.judges.length;
        super({
          ...parts,
          seed: world.plan.seed + number,
          command: async () => {
            const judge = world.judges[number]!;
            world.attempt(() => world.fleetJudge.starting(judge));
            return { ...await parts.command(), args: [String(number), String(judge.asked())] };
          },
        }, world.#watched(number, sink));
        const { settings } = parts;
        const [service] = settings.program.split(".");
        const { scripts } = world.#plan.programs.find(({ name }) => name === service)!;
        const judge = this.#judge = new Judge(world, settings, this.server, scripts);
        judge.quorate = true;
        world.judges.push(judge);
        server = world.fleetJudge.began(settings.program, this, judge);
        world.watch(this.server, judge);
      }

      override adopt(data: Uint8Array): void {
        world.fleetJudge.adopts(this.#judge);
        super.adopt(data);
      }

      override unhealthy(reason: "unhealthy" | "startup", detail: string): void {
        this.#judge.foundUnhealthy(reason);
        super.unhealthy(reason, detail);
      }
    }
    class SimulatedChecker extends Checker {
      constructor(
        runtime: Runtime,
        check: ConstructorParameters<typeof Checker>[1],
        startupTimeout: number,
        sink: CheckSink,
      ) {
        const { judge, checked } = server;
        super(
          { ...runtime, probePort: (_host, _port, over) => world.#probe(judge, over) },
          check,
          startupTimeout,
          {
            changed(healthy, detail) {
              checked(healthy);
              sink.changed(healthy, detail);
            },
            failed: (reason, detail) => sink.failed(reason, detail),
          },
        );
      }
    }
    const guard = {
      enter() {},
      leave: () => Promise.resolve(),
      add: (ward: Ward) => Promise.resolve(void this.#wards.add(ward)),
      ready: () => Promise.resolve(),
      remove: (ward: Ward) => void this.#wards.delete(ward),
      sweep: (ward: Ward) => void this.#wards.delete(ward),
    };
    const runtime = { ...this.runtime, pid: 4711 } as unknown as Runtime;
    return () =>
      Promise.resolve([
        runtime,
        {
          Driver: SimulatedDriver,
          guardOf: () => guard as unknown as Guard,
          bindRuntime: (transport: unknown) => transport,
        },
        this.transport,
        { Checker: SimulatedChecker },
      ] as unknown as Awaited<ReturnType<LoadParts>>);
  }

  /** A sink that shows the judges what a driver reports. */
  #watched(number: number, sink: DriverSink): DriverSink {
    return {
      event: (event, instanceId) => {
        const judge = this.judges[number]!;
        this.note(event, `${judge.settings.program} ${instanceId}`);
        this.attempt(() => {
          assert(judge.finished === null, `${event.type} after the end`);
          this.fleetJudge.saw(judge, event);
        });
        sink.event(event, instanceId);
      },
      askToStart: () => sink.askToStart?.(),
      askToStartSpare: () => sink.askToStartSpare?.(),
      finish: (status) => {
        this.attempt(() => this.judges[number]!.end(status));
        sink.finish(status);
      },
    };
  }

  /** A check of the server: the active process accepts a connection, if it is healthy and its event loop turns. */
  #probe(judge: Judge, over: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => this.answer(this.now, act);
      over.addEventListener("abort", () => reject(over.reason));
      const process = judge.active?.process;
      if (!process?.alive) return settle(() => reject(new Error("nobody listens")));
      process.probe((isHealthy) =>
        settle(isHealthy ? resolve : () => reject(new Error("not accepted")))
      );
    });
  }

  // The operator.

  begin(): void {
    for (const { at, does, name } of this.#plan.orders) {
      this.toServer(at, () => this.attempt(() => this.#carryOut(does, name)));
    }
    for (const at of [horizon, horizon + 10_000, horizon + 20_000]) {
      this.toServer(at, () => this.#stop());
    }
    void this.fleet.finished.then((code) => {
      this.#exitCode = code;
      this.attempt(() => this.#end());
    });
  }

  #stop(): void {
    if (this.#exitCode !== null) return;
    this.oweChain();
    this.fleetJudge.isStopping = true;
    this.fleet.stop("SIGTERM");
  }

  #carryOut(does: FleetOrder, name: string): void {
    if (this.isOver) return;
    this.oweChain();
    this.trace.push(`${this.now.toFixed(2)} operator: ${does} ${name}`);
    switch (does) {
      case "reload":
        return this.#await(does, this.fleetJudge.reload(name));
      case "restart":
        this.fleetJudge.allowEnd(name);
        return this.#await(does, this.fleet.restartProgram(name));
      case "halt":
        this.fleetJudge.allowEnd(name);
        return this.#await(does, this.fleet.stopProgram(name));
      case "stop":
        return this.#stop();
      case "stop twice":
        this.#stop();
        return this.#stop();
      case "kill the instance":
        return this.fleetJudge.process(name)?.end({ code: null, signal: "SIGKILL" });
      case "kill the replacement":
        return this.fleetJudge.replacement(name)?.end({ code: null, signal: "SIGKILL" });
      case "hang the instance":
        return this.fleetJudge.process(name)?.hang();
      case "hang the replacement":
        return this.fleetJudge.replacement(name)?.hang();
      case "lose quorum":
        for (const judge of this.judges) judge.quorate = false;
        this.#quorum.quorate = false;
        return this.toServer(this.now + 50, () => {
          for (const judge of this.judges) judge.quorate = true;
          this.#quorum.quorate = true;
        });
      case "kill the server":
        return this.#killServer();
    }
  }

  /** Checks that a call settles, and rejects only with an error for the user. */
  #await(what: string, call: Promise<unknown>): void {
    const id = `${what} ${++this.#orders}`;
    this.#unsettled.add(id);
    call.catch((error) => {
      this.trace.push(`${this.now.toFixed(2)} ${what}: ${error.message}`);
      this.attempt(() => assert(error instanceof SamError && error.code !== "LIBRARY", error));
    }).finally(() => this.#unsettled.delete(id));
  }

  /** The server is killed: the kernel closes its ends of all links, and the guard kills its programs. */
  #killServer(): void {
    this.isServerDead = true;
    for (const close of this.transport.closers) close();
    const wards = [...this.#wards];
    this.clock.at(this.now + this.dice.number() * guardMs, () => {
      for (const process of this.processes.values()) {
        const isWard = wards.some(({ pid, family }) => pid === process.pid || process.env[family]);
        if (isWard) process.end({ code: null, signal: "SIGKILL" });
      }
    });
    this.clock.at(this.now + 2 * guardMs, () => {
      this.attempt(() => this.#checkProcesses("the server was killed"));
      for (const process of this.processes.values()) process.end({ code: 0, signal: null });
    });
  }

  // The judges.

  get isOver(): boolean {
    return this.#exitCode !== null || this.isServerDead;
  }

  get summary(): string {
    const states = this.fleet.names.map((name) => `${name} ${this.fleet.status(name).state}`);
    return `${states.join(", ")}; ${[...this.#unsettled].join(", ")}`;
  }

  look(): void {
    if (this.isOver) return;
    for (const judge of this.judges) judge.look();
    this.fleetJudge.look();
  }

  #end(): void {
    this.trace.push(`${this.now.toFixed(2)} all programs have ended: ${this.#exitCode}`);
    this.fleetJudge.end();
    this.checkRest();
    this.#checkProcesses("all programs have ended");
    assertEquals([...this.#wards], [], "the guard still has processes");
  }

  override async run(): Promise<void> {
    await super.run();
    if (!this.isServerDead) assertEquals([...this.#unsettled], [], "a call that never settles");
  }

  #checkProcesses(when: string): void {
    for (const process of this.processes.values()) {
      const mayStay = process.client.state === "finalized";
      assert(!process.alive || mayStay, `${when}, and process ${process.pid} is left`);
    }
  }
}
