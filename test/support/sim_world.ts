// A world for SAM servers: a runtime and a transport in virtual time, and the judges. Everything that goes wrong in it is in
// the plan, which comes from a seed. So a run that fails can be repeated.

import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import type { Server } from "../../src/core/server/machine.ts";
import type { ServerEffect } from "../../src/core/server/types.ts";
import type { InstanceRuntime } from "../../src/supervisor/instance/instance.ts";
import type { Judge } from "./sim_judge.ts";
import { Dice, type Plan } from "./sim_plan.ts";
import type { Process } from "./sim_process.ts";
import { simulatedRuntime } from "./sim_runtime.ts";
import { type Sign, SimulatedTransport } from "./sim_transport.ts";
import { StepRules } from "./step_rules.ts";
import { VirtualClock } from "./virtual_clock.ts";

/** The largest number of steps of a run. */
const maxSteps = 100_000;
/** The largest length of a chain of promises in the server's process. Chains after a timer or `settle()` are short. */
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
export abstract class World {
  readonly plan: Plan;
  readonly clock: VirtualClock = new VirtualClock();
  readonly dice: Dice;
  /** One judge for each SAM server. */
  readonly judges: Judge[] = [];
  readonly runtime: InstanceRuntime;
  readonly transport: SimulatedTransport;
  /** Processes that have not been reaped, by process id. */
  readonly processes: Map<number, Process> = new Map();
  /** A record of what happened, printed with a failure. */
  readonly trace: string[] = [];
  /** The events by type, and recoveries by reason. */
  readonly events: string[] = [];
  /** Total time for which the server was stalled. */
  stalledMs = 0;
  /** True once the server's process was killed: nothing reaches it any more. */
  isServerDead = false;
  readonly #timers = new Set<object>();
  #pids = 1;
  #failure: unknown;
  /** Number of microtasks that must run before the next thing happens. */
  #owed = 0;

  constructor(plan: Plan) {
    this.plan = plan;
    this.dice = new Dice(plan.seed + 1);
    this.runtime = simulatedRuntime(this, this.#timers);
    this.transport = new SimulatedTransport(this);
  }

  /** Begins supervision, and plans what happens to it. */
  abstract begin(): void;

  /** True once supervision has ended. */
  abstract readonly isOver: boolean;

  /** Time has passed: checks what must be true at any time. */
  abstract look(): void;

  /** The state of the programs, for the message about a world without an end. */
  abstract readonly summary: string;

  get now(): number {
    return this.clock.now;
  }

  nextPid(): number {
    return ++this.#pids;
  }

  /** Something has reached the server's end of a link. */
  arrived(wire: number, sign: Sign): void {
    for (const judge of this.judges) judge.arrived(wire, sign);
  }

  /** The transport does not accept a process, so the process is useless. */
  notAccepted(wire: number): void {
    for (const judge of this.judges) judge.notAccepted(wire);
  }

  /** Delivers something to the server's process, which may be stalled. */
  toServer(time: number, run: () => void, what: "input" | "timer" | "settled" = "input"): void {
    this.clock.at(time, () => {
      if (this.isServerDead) return;
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
      const short = what !== undefined && !this.judges.some(({ isEnding }) => isEnding);
      this.#owe(short ? microtasks.short : microtasks.long);
      run();
    }, what);
  }

  /** Lets a chain of promises go on before the next thing happens. */
  protected oweChain(): void {
    this.#owe(microtasks.long);
  }

  #owe(count: number): void {
    this.#owed = Math.max(this.#owed, count);
  }

  /** Runs the world to its end. */
  async run(): Promise<void> {
    this.begin();
    for (const { at, ms } of this.plan.stalls) this.clock.at(at, () => this.stalledMs += ms);
    let idle = false;
    for (let steps = 0;; steps++) {
      this.#owe(1);
      while (this.#owed-- > 0) await null;
      this.#owed = 0;
      if (!this.clock.next()) {
        if (this.isOver) break;
        assert(!idle, `no end: ${this.summary}`);
        idle = true;
        this.#owe(microtasks.last);
      }
      this.attempt(() => this.look());
      if (this.#failure !== undefined) throw this.#failure;
      if (steps === maxSteps) throw new Error(`it goes on for ever: ${this.summary}`);
    }
  }

  /** The judge sees every step of the core, which must follow the rules. */
  protected watch(server: Server, judge: Judge): void {
    const rules = new StepRules(server);
    server.step = (input, now) => {
      let effects: ReturnType<typeof rules.step> = [];
      this.attempt(() => {
        effects = rules.step(input, now);
        const concludes = input.type === "linkEnd" || input.type === "exit"; // carried out together
        if (concludes || effects.some(({ type }) => awaited.has(type))) this.oweChain();
        judge.decided(input, effects);
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

  /** Notes an event in the trace. */
  protected note(event: { readonly type: string }, who: string | number): void {
    this.trace.push(`${this.now.toFixed(2)} ${who} ${JSON.stringify(event, plain)}`);
    this.events.push(
      event.type === "recovery" && "reason" in event ? `recovery: ${event.reason}` : event.type,
    );
  }

  /** Supervision has ended, so nothing may be left. */
  protected checkRest(): void {
    assertEquals([...this.transport.endpoints], [], "endpoints are left");
    assertEquals([...this.transport.links], [], "links are left");
    assertEquals(this.#timers.size, 0, "timers are left");
  }
}

function plain(_key: string, value: unknown): unknown {
  return typeof value === "bigint" || value instanceof Error ? String(value) : value;
}
