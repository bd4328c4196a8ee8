// A world for the two cores: processes that beat, hang, crash and store, links with delay, a server that may stall, and
// one virtual clock. It is the judge, too: what must never happen throws.

import { assert, assertEquals } from "@std/assert";
import type { ServerInput, ServerSettings } from "../../src/core/server_types.ts";
import { type Signal, signalNumber } from "../../src/core/signals.ts";
import { Bench } from "./core_bench.ts";
import { Process, type Script } from "./core_process.ts";

/** What the world is made of; drawn at random. */
export interface Plan {
  readonly settings: Partial<ServerSettings>;
  /** The n-th process follows the n-th script, in turn. */
  readonly scripts: readonly Script[];
  readonly operator: readonly { readonly at: number; readonly does: Operation }[];
  readonly stalls: readonly { readonly at: number; readonly ms: number }[];
  /** No message takes longer. */
  readonly maxDelay: number;
  readonly seed: number;
}

export type Operation = "restart" | "quorate" | "not quorate" | "stop" | "SIGINT";

/** All of the plan happens before; then the world is shut down. */
export const horizon = 3000;

interface Happening {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

interface StartedSpare {
  process: Process | null;
  doomed: boolean;
}

/** The world. */
export class World {
  now = 0;
  readonly plan: Plan;
  readonly bench: Bench;
  process: Process | null = null;
  /** The spare, when its process is there. */
  spare: Process | null = null;
  readonly #settings: ServerSettings;
  #queue: Happening[] = [];
  #order = 0;
  #random: number;
  #instances = 0;
  #scripts = 0;
  #processes = 0;
  #expectedId = 1;
  #stalledMs = 0;
  #effectsSeen = 0;
  // What the judge knows, independently of the core.
  #sign: number | null = null;
  #check: number | null = null;
  #unhealthy = false;
  #warned: { at: number; reason: string } | null = null;
  #launched: number | null = null;
  #runningMs = 0;
  #recoveries: number[] = [];
  #quorate = false;
  #lastEnd: { code: number | null; signal: Signal | null } | null = null;
  #killAllowed = false;
  #startedOnce = false;
  #bornDead = false;
  #sparelessSince: number | null = null;
  /** Spares that were started, whatever has become of them. */
  readonly #spares: StartedSpare[] = [];
  /** How spares fared. */
  readonly spares = { promoted: 0, bornDead: 0, failed: 0 };
  /** Which instance registered first. */
  firstRegistered: number | null = null;
  /** Stores in the order of their calls; the acknowledged ones say so. */
  readonly stores: { bytes: Uint8Array; acknowledged: boolean }[] = [
    { bytes: new Uint8Array(0), acknowledged: true },
  ];

  constructor(plan: Plan, settings: ServerSettings) {
    this.plan = plan;
    this.#settings = { ...settings, ...plan.settings };
    this.bench = new Bench(this.#settings, plan.seed);
    this.#random = plan.seed >>> 0;
  }

  /** A number in [0, 1). */
  random(): number {
    this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0;
    return this.#random / 2 ** 32;
  }

  at(time: number, run: () => void): void {
    const happening = { at: Math.max(time, this.now), order: this.#order++, run };
    const later = this.#queue.findIndex(({ at }) => at > happening.at);
    this.#queue.splice(later < 0 ? this.#queue.length : later, 0, happening);
  }

  /** Something for the server, which is read when the server is awake. */
  toServer(time: number, input: () => void): void {
    this.at(time, () => {
      const awake = this.#awake(this.now);
      if (awake > this.now) this.toServer(awake, input);
      else input();
    });
  }

  #awake(time: number): number {
    let awake = time;
    for (const { at, ms } of this.plan.stalls) {
      if (awake >= at && awake < at + ms) awake = at + ms;
    }
    return awake;
  }

  feed(input: Parameters<Bench["feed"]>[0]): void {
    if (this.bench.state === "finished") return;
    this.bench.now = this.now;
    this.bench.feed(input);
    for (const effect of this.bench.log.slice(this.#effectsSeen)) this.#carryOut(effect);
    this.#effectsSeen = this.bench.log.length;
  }

  /** A process is heard as what it is now: the active process, the spare, or the past. */
  hear(from: Process, input: ServerInput): void {
    if (from === this.process) return this.feed(input);
    if (from !== this.spare) return;
    if (input.type === "exit" || input.type === "linkEnd") {
      this.feed({ type: "spare", input: { type: input.type } });
    } else if (input.type === "message" && input.message.type === "hello") {
      this.feed({ type: "spare", input: { type: "hello", message: input.message } });
    }
  }

  /** Runs to the end and returns how many instances there were. */
  run(): number {
    this.feed({ type: "begin" });
    for (const { at, does } of this.plan.operator) this.toServer(at, () => this.#operate(does));
    for (const { at, ms } of this.plan.stalls) this.at(at, () => this.#stalledMs += ms);
    this.toServer(horizon, () => this.feed({ type: "shutdown", signal: "SIGTERM" }));
    for (let steps = 0;; steps++) {
      assert(steps < 50_000, "it goes on for ever");
      const next = this.#queue[0]?.at ?? Infinity;
      const serverTick = this.#awake(this.bench.server.deadline ?? Infinity);
      const [process, spare] = [this.process, this.spare];
      const processTick = process?.nextTick ?? Infinity;
      const spareTick = spare?.nextTick ?? Infinity;
      const soonest = Math.min(next, serverTick, processTick, spareTick);
      if (soonest === Infinity) break;
      this.now = Math.max(this.now, soonest);
      if (next <= soonest) this.#queue.shift()!.run();
      else if (processTick <= soonest) process!.feed({ type: "tick" });
      else if (spareTick <= soonest) spare!.feed({ type: "tick" });
      else this.feed({ type: "tick" });
      this.#judgeSilence();
      this.#judgeSpare();
    }
    this.#judgeEnd();
    return this.#instances;
  }

  #operate(does: Operation): void {
    if (does === "restart") this.feed({ type: "restart" });
    else if (does === "stop") this.feed({ type: "shutdown", signal: null });
    else if (does === "SIGINT") this.feed({ type: "shutdown", signal: "SIGINT" });
    else {
      this.#quorate = does === "quorate";
      this.feed({ type: "quorum", quorate: this.#quorate });
    }
  }

  #carryOut(effect: Bench["log"][number]): void {
    switch (effect.type) {
      case "spawn":
        return this.#spawn(effect.instanceId);
      case "signal":
        if (effect.signal === "SIGKILL") assert(this.#killAllowed, "a kill without a reason");
        return this.process!.signal(effect.signal);
      case "send":
        return this.process!.deliver(effect.message);
      case "spawnSpare":
        return this.#spawnSpare();
      case "sendSpare":
        return this.spare!.deliver(effect.message);
      case "killSpare":
        this.#spares.at(-1)!.doomed = true;
        this.spare?.signal("SIGKILL");
        this.spare = null;
        return;
      case "promote":
        return this.#promote();
      case "bury":
        if (this.#launched !== null) this.#runningMs += this.now - this.#launched;
        this.#launched = null;
        this.process?.cut();
        this.process = null;
        return;
      case "emit":
        return this.#judgeEvent(effect.event);
    }
  }

  #spawn(instanceId: number): void {
    this.#beginInstance(instanceId);
    const script = this.#nextScript();
    this.toServer(this.now + script.spawnMs, () => {
      if (script.spawnFails) {
        return this.feed({ type: "spawnFailed", error: { code: "LIBRARY", message: "no" } });
      }
      this.process = new Process(this, script, ++this.#processes, instanceId);
      this.#launched = this.now;
      this.feed({ type: "spawned", pid: this.#processes });
    });
  }

  #spawnSpare(): void {
    assert(this.#settings.standby === 1 && this.#settings.recoveryPolicy === "restart", "a spare");
    assert(this.#startedOnce, "a spare in competition with the new active process");
    const script = this.#nextScript();
    const one: StartedSpare = { process: null, doomed: false };
    this.#spares.push(one);
    this.toServer(this.now + script.spawnMs, () => {
      if (script.spawnFails) {
        if (!one.doomed) this.feed({ type: "spare", input: { type: "spawnFailed" } });
        return;
      }
      one.process = new Process(this, script, ++this.#processes, null);
      if (one.doomed) return one.process.signal("SIGKILL");
      this.spare = one.process;
      this.feed({ type: "spare", input: { type: "spawned", pid: this.#processes } });
    });
  }

  #promote(): void {
    const { spare } = this;
    this.#beginInstance(this.#expectedId);
    this.#spares.pop();
    this.spares.promoted++;
    this.spare = null;
    this.process = spare!;
    spare!.instance = this.#expectedId - 1;
    this.#launched = this.now;
    this.#bornDead = !spare!.alive;
    if (this.#bornDead) this.spares.bornDead++;
  }

  #nextScript(): Script {
    const { scripts } = this.plan;
    return scripts[this.#scripts++ % scripts.length]!;
  }

  #beginInstance(instanceId: number): void {
    assertEquals(this.process, null, "two active processes");
    assertEquals(instanceId, this.#expectedId++, "instance ids rise by one");
    this.#instances++;
    this.#sign = this.#check = this.#warned = null;
    this.#unhealthy =
      this.#killAllowed =
      this.#startedOnce =
      this.#bornDead =
        false;
  }

  // What the process tells the judge.

  /** A sign of life has reached the server's end of the link. */
  arrived(what: "heartbeat" | "check begins" | "healthy" | "unhealthy"): void {
    if (what === "heartbeat" || what === "healthy") this.#sign = this.now;
    if (what === "check begins") this.#check = this.now;
    else if (what !== "heartbeat") this.#check = null;
    if (what === "unhealthy") this.#unhealthy = true;
  }

  markedFailed(): void {
    this.#killAllowed = true;
  }

  ended(end: { code: number | null; signal: Signal | null }): void {
    this.#lastEnd = end;
  }

  /** The data of a later instance is what was last acknowledged, or what was on its way when its predecessor ended. */
  restored(bytes: Uint8Array): void {
    const last = this.stores.findLastIndex(({ acknowledged }) => acknowledged);
    const found = this.stores.findLastIndex((store) => same(store.bytes, bytes));
    assert(found >= last, `store ${found} of ${this.stores.length} restored, ${last} acknowledged`);
    this.handedOver(bytes);
  }

  /** From here on this is what the server has. */
  handedOver(bytes: Uint8Array): void {
    this.stores.splice(0, this.stores.length, { bytes, acknowledged: true });
  }

  // The judge.

  #judgeEvent(event: { readonly type: string }): void {
    const { timeInterval, heartbeatWindow, startupTimeout, restart } = this.#settings;
    const { type, reason, delay, state } = event as {
      type: string;
      reason: string;
      delay: number | null;
      state: string;
    };
    if (type === "register") this.firstRegistered ??= this.bench.server.instanceId;
    if (type === "start") {
      this.#sign = this.now;
      this.#startedOnce = true;
    }
    if (type === "standby" && state === "ended") this.spares.failed++;
    if (type === "stop" || type === "finalize") this.#sign = this.#check = null;
    if (type === "stopping") this.#killAllowed = true;
    if (type === "warn") {
      this.#warned = { at: this.now, reason };
      this.#killAllowed = true;
      const since = (time: number | null) => this.now - (time ?? this.now);
      if (reason === "timeout") {
        assert(since(this.#sign) >= timeInterval + heartbeatWindow - 1e-6, "in time, yet warned");
      } else if (reason === "unhealthy") {
        assert(this.#unhealthy || since(this.#check) >= timeInterval - 1e-6, "an answer in time");
      } else if (reason === "startup") {
        assert(this.now - this.#launched! >= startupTimeout && this.#sign === null, "started");
      } else if (reason === "quorum") assert(!this.#quorate);
      else assert(reason === "exit", reason);
    }
    if (type === "recovery" && delay !== null) {
      const times = this.#recoveries.filter((at) => at > this.#runningMs - restart.period);
      times.push(this.#runningMs);
      this.#recoveries = times;
      assert(times.length <= restart.intensity, "more recoveries than allowed");
    }
  }

  #judgeSilence(): void {
    const { timeInterval, heartbeatWindow, stopTimeout } = this.#settings;
    const slack = 2 * this.#stalledMs + 1e-6;
    const { state } = this.bench;
    if (state === "started" && timeInterval > 0 && this.process?.alive) {
      const limit = timeInterval + slack;
      assert(this.now - this.#sign! <= limit + heartbeatWindow, "silent, and not noticed");
      if (this.#check !== null) assert(this.now - this.#check <= limit, "a check without answer");
    }
    if (state === "warned" && this.process?.alive) {
      const grace = timeInterval || stopTimeout;
      assert(this.now - this.#warned!.at <= grace + slack, "warned, and not killed");
    }
  }

  /** Where one is wanted there is one, or the next is due within the backoff. */
  #judgeSpare(): void {
    const { standby, recoveryPolicy, restart } = this.#settings;
    const without = standby === 1 && recoveryPolicy === "restart" &&
      this.bench.state === "started" && this.bench.server.standby === null;
    if (!without) this.#sparelessSince = null;
    else {
      const since = this.#sparelessSince ??= this.now;
      const limit = 250 + Math.max(restart.initialDelay, restart.maxDelay) + 2 * this.#stalledMs;
      assert(this.now - since <= limit + 1e-6, "no spare, and none due");
    }
  }

  #judgeEnd(): void {
    const status = this.bench.status();
    assert(status !== undefined, `no end: ${this.bench.state}`);
    assert(!this.process?.alive, "a process is left");
    assert(this.#spares.every(({ process }) => !process?.alive), "a spare is left");
    assert(!(this.#bornDead && status.reason === "exit"), "ended by what died as a spare");
    if (status.reason === "spawn" || (status.reason === "stopped" && !this.#lastEnd)) return;
    const { code, signal } = this.#lastEnd!;
    const truth = signal === null ? code! : 128 + signalNumber(signal);
    const betweenInstances = status.reason === "stopped" && [0, 130, 143].includes(status.code);
    const limit = status.reason === "restart-limit" && truth === 0;
    if (!betweenInstances) assertEquals(status.code, limit ? 1 : truth, status.reason);
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
