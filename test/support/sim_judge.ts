// The judge of a simulated world. It sees the decisions of the core, the actions of the processes and all arrivals. It
// knows no reasons of driver or core, and throws when something happens that must never happen.

import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import type { Server } from "../../src/core/server/machine.ts";
import type {
  ExitStatus,
  ServerEffect,
  ServerInput,
  ServerSettings,
} from "../../src/core/server/types.ts";
import { type Signal, signalNumber } from "../../src/core/signals.ts";
import type { Exit } from "../../src/runtime/runtime.ts";
import type { Script } from "./sim_plan.ts";
import type { Process } from "./sim_process.ts";
import type { Sign } from "./sim_transport.ts";
import type { World } from "./sim_world.ts";

/** A process, from the decision to start it. */
export interface Start {
  readonly script: Script;
  role: "active" | "spare";
  /** Null until the process runs, and forever if it never runs. */
  process: Process | null;
  address: string | null;
  /** True if the server is allowed to kill the process. */
  killable: boolean;
}

const requests: ReadonlySet<string> = new Set(["shutdown", "restart", "halt"]);

/** Tolerance for rounding, for timers that are late or early, and for the delivery of a signal. */
const slackMs = 8;

export class Judge {
  readonly settings: ServerSettings;
  readonly #world: World;
  readonly #server: Server;
  readonly #scripts: readonly Script[];
  /** All starts of processes. */
  readonly starts: Start[] = [];
  /** Starts that the core has decided, and the driver has not yet carried out. */
  readonly #due: Start[] = [];
  active: Start | null = null;
  spare: Start | null = null;
  finished: ExitStatus | null = null;
  instances = 0;
  readonly instanceIds: number[] = [];
  readonly spares = { promoted: 0, bornDead: 0, failed: 0 };

  /** The number of the instance, from the moment at which it is due. */
  #id: number;
  /** The highest number that the server must leave to another server of the program. */
  #reservedId = 0;
  #sign: number | null = null;
  #check: number | null = null;
  #unhealthy = false;
  /** True if the server's own check has not passed in time. */
  #isLate = false;
  /** Extra time that the instance got because it had no CPU time: in total, and since its last heartbeat. */
  #excused = { ms: 0, sinceSign: 0 };
  #warned: { at: number; reason: string } | null = null;
  /** When the instance, after its warning, was found blocked and then showed that its event loop turns; null before. */
  #blockedAt: number | null = null;
  #turnedAt: number | null = null;
  #launched: number | null = null;
  #runningMs = 0;
  #recoveries: number[] = [];
  quorate: boolean;
  #lastEnd: Exit | null = null;
  #registeredOnce = false;
  #startedOnce = false;
  #bornDead = false;
  #sparelessSince: number | null = null;
  /** True if the end of this instance was requested. */
  #asked = false;
  /** True if a reload wanted a spare of this instance. */
  #isPrepared = false;
  #firstRegistered: Start | null = null;
  #hasAdopted = false;
  /** Stores in the order of their calls, with their acknowledgement. */
  readonly #stores: { bytes: Uint8Array; acknowledged: boolean }[] = [
    { bytes: new Uint8Array(0), acknowledged: true },
  ];

  constructor(
    world: World,
    settings: ServerSettings,
    server: Server,
    scripts: readonly Script[] = world.plan.scripts,
  ) {
    this.settings = settings;
    this.#world = world;
    this.#server = server;
    this.#scripts = scripts;
    this.#id = settings.firstInstanceId ?? 1;
    this.quorate = !settings.hasQuorum;
  }

  get #now(): number {
    return this.#world.now;
  }

  /** True once the server has decided to end supervision. */
  get isEnding(): boolean {
    return this.#server.state === "finished";
  }

  // Decisions of the core.

  /** Judges one step of the core. */
  decided(input: ServerInput, effects: readonly ServerEffect[]): void {
    if (requests.has(input.type)) this.#asked = true;
    if (input.type === "prepareSpare") this.#isPrepared = true;
    if (this.#server.instanceId !== this.#id) {
      const expected = Math.max(this.#id, this.#reservedId) + 1;
      assertEquals(this.#server.instanceId, expected, "instance ids rise by one");
      this.#id = expected;
    }
    if (input.type === "reserveIds") this.#reservedId = Math.max(this.#reservedId, input.upTo);
    if (input.type === "starved") this.#excuse(input.waitMs);
    if (input.type === "examined" && input.isBlocked && this.#server.state === "warned") {
      this.#blockedAt ??= this.#now;
    }
    for (const effect of effects) this.#decided(input, effect);
  }

  #decided(input: ServerInput, effect: ServerEffect): void {
    switch (effect.type) {
      case "spawn":
        this.#beginInstance(effect.instanceId);
        this.active = this.#start("active");
        return;
      case "promote": {
        this.#beginInstance(this.#server.instanceId);
        const promoted = this.active = this.spare!;
        this.spare = null;
        promoted.role = "active";
        this.spares.promoted++;
        this.#launched = this.#now;
        this.#bornDead = !promoted.process!.alive;
        if (this.#bornDead) this.spares.bornDead++;
        return;
      }
      case "spawnSpare": {
        const { standby, recoveryPolicy } = this.settings;
        const isWanted = standby === 1 && recoveryPolicy === "restart";
        assert(isWanted || this.#isPrepared, "a spare that nobody wants");
        assert(
          this.#startedOnce || this.#isPrepared,
          "a spare in competition with the new active process",
        );
        this.spare = this.#start("spare");
        this.#sparelessSince = null;
        return;
      }
      case "killSpare": {
        const failed = input.type === "spare";
        // A spare of a reload came too late for the next instance.
        const isLate = this.settings.standby === 0 && this.active === null;
        assert(
          failed || isLate || this.#asked || this.#server.state === "finished" ||
            this.#server.state === "finalized",
          "a spare is killed without a reason",
        );
        this.spare!.killable = true;
        this.spare = null;
        this.#sparelessSince = null;
        return;
      }
      case "cleanUp":
        if (this.#launched !== null) this.#runningMs += this.#now - this.#launched;
        this.#launched = null;
        this.active = null;
        return;
      case "emit":
        if (effect.event.type === "kill" && input.type === "tick") this.#lookAtGrace();
        return this.#event(effect.event);
    }
  }

  /**
   * Checks that the grace period is over: a quarter of the time interval if the event loop of a preloaded program has
   * not turned since its warning.
   */
  #lookAtGrace(): void {
    if (!this.#warned || this.#warned.at === this.#now) return; // the warn signal is SIGKILL
    if (!this.active?.process?.alive) return; // its last heartbeat may have been lost with its link
    const { timeInterval, stopTimeout, preloaded } = this.settings;
    const whole = timeInterval || stopTimeout;
    const mayBeBlocked = preloaded && this.#blockedAt !== null;
    // What arrives at the last moment may come too late.
    const turned = this.#turnedAt !== null && this.#now - this.#turnedAt > slackMs;
    const least = this.#warned.at + (mayBeBlocked && !turned ? whole / 4 : whole);
    assert(this.#now >= least - 1e-6, "killed before its grace period was over");
  }

  #start(role: Start["role"]): Start {
    const script = this.#scripts[this.starts.length % this.#scripts.length]!;
    const start: Start = { script, role, process: null, address: null, killable: false };
    this.starts.push(start);
    this.#due.push(start);
    return start;
  }

  #beginInstance(instanceId: number): void {
    this.#onlyOne();
    assertEquals(instanceId, this.#id);
    assert(!this.instanceIds.includes(instanceId), "two instances with one id");
    this.instanceIds.push(instanceId);
    this.instances++;
    this.#sign =
      this.#check =
      this.#warned =
      this.#blockedAt =
      this.#turnedAt =
        null;
    this.#excused = { ms: 0, sinceSign: 0 };
    this.#unhealthy =
      this.#registeredOnce =
      this.#startedOnce =
      this.#bornDead =
      this.#asked =
      this.#isPrepared =
      this.#isLate =
        false;
  }

  /** Gives the instance more time. */
  #excuse(ms: number): void {
    this.#excused.ms += ms;
    this.#excused.sinceSign += ms;
    assert(
      this.#excused.sinceSign <= this.settings.timeInterval / 2 + 2 * this.#world.stalledMs,
      "it could run, and was excused all the same",
    );
  }

  /**
   * True if the active process does not hang, and got no CPU time for half a time interval. In a short interval that
   * cannot be seen.
   */
  get #isStarved(): boolean {
    const half = this.settings.timeInterval / 2;
    const process = this.active?.process;
    return half >= 40 && process?.ranMs === 1 && !process.stat.includes("T") &&
      this.#world.stalledSince(this.#now - half, "program") > half - 1;
  }

  /** Checks that all earlier active processes have ended before another one begins. */
  #onlyOne(but?: Start): void {
    for (const start of this.starts) {
      if (start === but || start.role === "spare") continue;
      assert(!start.process?.alive, "two active processes");
    }
  }

  #isLinked(): boolean {
    return this.#world.transport.links.has(Number(this.active?.address));
  }

  #event(event: { readonly type: string }): void {
    const { timeInterval, heartbeatWindow, startupTimeout, restart } = this.settings;
    const { type, reason, delay, state } = event as {
      type: string;
      reason: string;
      delay: number | null;
      state: string;
    };
    const now = this.#now;
    const since = (time: number | null) =>
      time === null ? 0 : now - time - this.#world.stalledSince(time, "all") + 1e-6;
    const allow = () => {
      if (this.active) this.active.killable = true;
    };
    switch (type) {
      case "spawn":
        this.#launched = now;
        return;
      case "register":
        this.#firstRegistered ??= this.active;
        this.#registeredOnce = true;
        return;
      case "start":
        this.#sign = now;
        this.#startedOnce = true;
        return;
      case "spare":
        if (state === "ended") this.spares.failed++;
        return;
      case "stop":
      case "finalize":
        this.#sign = this.#check = null;
        if (type === "finalize") this.#asked = true;
        return;
      case "stopping":
        return allow();
      case "warn":
        this.#warned = { at: now, reason };
        allow();
        if (reason === "timeout") {
          assert(!this.#isStarved, "given no processor, yet warned");
          // Without a link the process is not healthy, whatever it said last.
          assert(
            !this.#isLinked() || since(this.#sign) >= timeInterval + heartbeatWindow,
            "in time, yet warned",
          );
        } else if (reason === "unhealthy") {
          assert(this.#unhealthy || !this.#isStarved, "given no processor, yet warned");
          assert(this.#unhealthy || since(this.#check) >= timeInterval, "an answer in time");
        } else if (reason === "startup") {
          if (this.#isLate) return;
          assert(since(this.#launched) >= startupTimeout && !this.#startedOnce, "started");
          const turns = this.#sign !== null && since(this.#sign) < (timeInterval || Infinity);
          const isWatched = this.settings.preloaded && this.#isLinked() && turns;
          assert(!isWatched, "its loop turns, yet it has not started");
        } else if (reason === "quorum") assert(!this.quorate, "quorate");
        else assertEquals(reason, "exit");
        return;
      case "recovery": {
        if (delay === null) return;
        const times = this.#recoveries.filter((at) => at > this.#runningMs - restart.period);
        times.push(this.#runningMs);
        this.#recoveries = times;
        assert(times.length <= restart.intensity, "more recoveries than allowed");
      }
    }
  }

  // Actions of the driver.

  /** A start reaches the runtime. */
  spawning(start: Start): void {
    if (start.role === "active") this.#onlyOne(start);
  }

  /** The driver asks how to start the next process. Returns the number of the start. */
  asked(): number {
    return this.starts.indexOf(this.#due.shift()!);
  }

  /** The transport does not accept a process, so the process is useless. */
  notAccepted(wire: number): void {
    const start = this.starts.find(({ address }) => address === String(wire));
    if (start) start.killable = true;
  }

  /** The driver sends a signal. */
  signalled(start: Start, signal: Signal): void {
    if (signal !== "SIGKILL" || !start.process?.alive) return;
    assert(start.killable, `a healthy ${start.role} process is killed`);
  }

  /** Supervision has ended, so nothing may be left. */
  end(status: ExitStatus): void {
    this.finished = status;
    for (const start of this.starts) assert(!start.process?.alive, `a ${start.role} is left`);
    assert(!(this.#bornDead && status.reason === "exit"), "ended by what died as a spare");
    if (status.reason === "spawn" || (status.reason === "stopped" && !this.#lastEnd)) return;
    // The server of a reload may never have got a process.
    if (this.settings.firstInstanceId !== undefined && !this.#lastEnd) return;
    const { code, signal } = this.#lastEnd!;
    const truth = signal === null ? code! : 128 + signalNumber(signal);
    const betweenInstances = status.reason === "stopped" && [0, 130, 143].includes(status.code);
    const limit = status.reason === "restart-limit" && truth === 0;
    // Where exit code 0 is the end of the work, it is no answer to a warning, for a program that does not register
    // itself.
    const judgesItself = this.#registeredOnce && !this.settings.preloaded;
    const noSuccess = truth === 0 && ["quit", "failed"].includes(status.reason) && !judgesItself &&
      this.settings.restart.on !== "started";
    if (!betweenInstances) assertEquals(status.code, limit || noSuccess ? 1 : truth, status.reason);
  }

  // Actions of the processes.

  /** A process begins to run. */
  born(start: Start): void {
    if (start.role === "active") this.#onlyOne(start);
    else start.process!.meet("its begin");
  }

  ended(process: Process): void {
    if (this.active?.process !== process) return;
    this.spare?.process?.meet("the end of the active process");
  }

  /** The server learns that a process has ended. */
  reaped(process: Process, exit: Exit): void {
    if (this.active?.process === process) this.#lastEnd = exit;
  }

  /** Something has reached the server's end of a link. */
  arrived(wire: number, sign: Sign): void {
    const { active } = this;
    if (sign === null || active?.address !== String(wire)) return;
    if (sign === "heartbeat" || sign === "healthy") this.#sign = this.#now;
    if (sign === "heartbeat" && this.#warned) this.#turnedAt = this.#now;
    this.#excused.sinceSign = 0;
    if (sign === "check begins") this.#check = this.#now;
    else if (sign === "healthy" || sign === "unhealthy") this.#check = null;
    if (sign === "unhealthy") this.#unhealthy = true;
    if (sign === "mark failed") active.killable = true;
  }

  /** The server's own check finds the active process unhealthy, or has not passed in time. */
  foundUnhealthy(reason: "unhealthy" | "startup" = "unhealthy"): void {
    if (reason === "unhealthy") this.#unhealthy = true;
    else this.#isLate = true;
  }

  /** The server takes over the data of a server whose program was reloaded. */
  adopt(old: Judge): void {
    this.#stores.splice(0, this.#stores.length, ...old.#stores);
    this.#hasAdopted = true;
  }

  /** True if the server has acknowledged data of the program. */
  get hasData(): boolean {
    return this.#stores.some(({ acknowledged, bytes }) => acknowledged && bytes.length > 0);
  }

  registering(process: Process, bytes: Uint8Array): void {
    // If this is the first instance, the data that it stored before counts.
    if (this.active?.process === process) this.#stores.push({ bytes, acknowledged: false });
  }

  /** A process has been welcomed. `bytes` is the data that it stored before. */
  registered(process: Process, bytes: Uint8Array): void {
    const start = this.starts.find((each) => each.process === process)!;
    assertEquals(start.role, "active", "a welcome to a spare");
    this.#onlyOne(start);
    if (this.#firstRegistered === start && !this.#hasAdopted) return this.#handedOver(bytes);
    // A later instance gets the last acknowledged data, or the data that was under way when its predecessor ended.
    const data = process.client.data.slice();
    const last = this.#stores.findLastIndex(({ acknowledged }) => acknowledged);
    const found = this.#stores.findLastIndex((store) => same(store.bytes, data));
    assert(
      found >= last,
      `store ${found} of ${this.#stores.length} restored, ${last} acknowledged`,
    );
    this.#handedOver(data);
  }

  /** A store is called. Returns the function that acknowledges it. */
  storing(bytes: Uint8Array): () => void {
    const store = { bytes, acknowledged: false };
    this.#stores.push(store);
    return () => store.acknowledged = true;
  }

  /** From here on the server has these bytes. */
  #handedOver(bytes: Uint8Array): void {
    this.#stores.splice(0, this.#stores.length, { bytes, acknowledged: true });
  }

  // Things that must have happened by now.

  /**
   * Time has passed. A process that missed its deadline is warned in time and killed in time, and a spare exists or is
   * due.
   */
  look(): void {
    if (this.finished) return;
    this.#lookForSilence();
    this.#lookForSpare();
  }

  #lookForSilence(): void {
    const { timeInterval, heartbeatWindow, stopTimeout, preloaded } = this.settings;
    const sampleMs = this.#world.plan.sampled ? Math.max(1, timeInterval / 16) + 1 : 0;
    const slack = 2 * this.#world.stalledMs + slackMs + sampleMs;
    const { state } = this.#server;
    const now = this.#now;
    const process = this.active?.process;
    if (!process?.alive) return;
    if (state === "started" && timeInterval > 0 && this.#sign !== null) {
      const limit = timeInterval + slack + this.#excused.ms;
      assert(now - this.#sign <= limit + heartbeatWindow, "silent, and not noticed");
      if (this.#check !== null) assert(now - this.#check <= limit, "a check without answer");
    }
    if (state === "warned") {
      const grace = timeInterval || stopTimeout;
      const [warnedAt, turnedAt] = [this.#warned!.at, this.#turnedAt];
      const mayTurn = preloaded ? grace / 4 : 0; // and then it has its whole grace period
      assert(now - warnedAt <= grace + mayTurn + slack, "warned, and not killed");
      const isBlocked = this.#blockedAt !== null && turnedAt === null && this.#isLinked();
      if (preloaded && isBlocked && this.#warned!.reason === "timeout") {
        assert(now - this.#blockedAt! <= grace / 4 + slack, "blocked, and not killed");
      }
    }
  }

  /** If a spare is wanted, it exists, or the next one is due within the backoff. */
  #lookForSpare(): void {
    const { standby, recoveryPolicy, restart } = this.settings;
    const without = standby === 1 && recoveryPolicy === "restart" && !this.#asked &&
      this.#server.state === "started" && this.#server.spare === null;
    if (!without) this.#sparelessSince = null;
    else {
      const since = this.#sparelessSince ??= this.#now;
      const limit = 250 + Math.max(restart.initialDelay, restart.maxDelay) +
        2 * this.#world.stalledMs + slackMs;
      assert(this.#now - since <= limit, "no spare, and none due");
    }
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
