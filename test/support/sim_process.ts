// A process of a simulated world: the core of the active side, a script to follow, and one end of a link.

import { callable, Client } from "../../src/core/client/machine.ts";
import type { ClientEffect, ClientInput } from "../../src/core/client/types.ts";
import { linkVariable } from "../../src/runtime/launch.ts";
import { decodeServer, encodeClient } from "../../src/core/wire.ts";
import type { Signal } from "../../src/core/signals.ts";
import type { Exit } from "../../src/runtime/runtime.ts";
import type { Link } from "../../transports/transport.ts";
import type { Judge } from "./sim_judge.ts";
import type { Act, Script } from "./sim_plan.ts";
import type { World } from "./sim_world.ts";

export class Process {
  alive = true;
  /** Process id, which is never reused. */
  readonly pid: number;
  readonly script: Script;
  readonly client: Client;
  readonly judge: Judge;
  readonly env: Readonly<Record<string, string>>;
  readonly #world: World;
  readonly #bornAt: number;
  readonly #address: string;
  readonly #onExit: (exit: Exit) => void;
  #link: Link | null = null;
  /** True if its end of the link is closed. */
  #closed = false;
  /** The event loop is blocked until this time. */
  #blocked = 0;
  /** Every time in which the event loop was blocked, and took all the CPU time that it got. */
  readonly #hangs: { readonly from: number; readonly until: number }[] = [];
  /** Until this time the process reacts to no signal except SIGKILL. */
  #frozen = 0;
  #beatMs = 0;
  #lastBeat = -Infinity;
  #healthy = true;
  #lastCall = 0;
  /** Time of the next planned tick. */
  #tickAt = Infinity;
  readonly #settled = new Map<number, (how: "resolve" | "reject") => void>();

  constructor(
    world: World,
    judge: Judge,
    script: Script,
    pid: number,
    env: Readonly<Record<string, string>>,
    onExit: (exit: Exit) => void,
  ) {
    this.#world = world;
    this.judge = judge;
    this.#bornAt = world.now;
    this.script = script;
    this.pid = pid;
    this.env = env;
    this.#address = env[linkVariable]!.replace("memory:", "");
    this.#onExit = onExit;
    this.client = new Client({ timeInterval: 100, maxDataSize: 1e6 });
    this.#follow(0);
  }

  /** Its main thread, as in /proc/PID/stat. */
  get stat(): string {
    const { now, released } = this.#world;
    const state = this.#frozen > now ? "T" : this.#blocked > now || released > now ? "R" : "S";
    return `${this.pid} (app) ${state} 1`;
  }

  /** Nanoseconds in which it ran, and waited for the CPU, as in /proc/PID/schedstat. */
  get schedstat(): string {
    return `${this.ranMs * 1e6} ${this.#world.stalledSince(this.#bornAt, "program") * 1e6} 1`;
  }

  /** Milliseconds in which it ran: one, plus the time in which it hung. */
  get ranMs(): number {
    const { now } = this.#world;
    return this.#hangs.reduce((sum, { from, until }) => {
      const end = Math.min(now, until);
      return sum + end - from - this.#world.stalledSince(from, "program", end);
    }, 1);
  }

  /** The fate of a spare begins here, if it begins at this point. */
  meet(from: Script["fate"]["from"]): void {
    const { fate } = this.script;
    if (fate.from !== from) return;
    this.#loop(
      this.#world.now + fate.ms,
      () => this.#do({ waitMs: 0, does: fate.does, n: fate.ms }),
    );
  }

  /** Runs a function on the event loop of the process as soon as that is free. */
  #loop(time: number, run: () => void): void {
    this.#world.clock.at(time, () => {
      if (!this.alive) return;
      const free = Math.max(this.#blocked, this.#frozen, this.#world.released);
      if (free <= this.#world.now) run();
      else if (free < Infinity) this.#loop(free, run);
    });
  }

  #follow(index: number): void {
    const act = this.script.acts[index];
    if (!act) return;
    this.#loop(this.#world.now + act.waitMs, () => {
      const next = () => {
        if (this.alive) this.#follow(index + 1);
      };
      if (act.does === "register") {
        // A spare may stay parked. It performs this action later, as the next instance.
        if (this.client.state === "initialized") return this.#register(next);
      } else this.#do(act);
      next();
    });
  }

  #do({ does, n }: Act): void {
    const { state } = this.client;
    switch (does) {
      case "register":
        return;
      case "start":
      case "stop":
      case "finalize":
        if (callable[does].includes(state)) this.#call((id) => ({ type: does, id }));
        return;
      case "beat":
        this.#beatMs = Math.max(1, n);
        return this.#beat();
      case "check":
        if (state !== "registered" || this.client.options.timeInterval === 0) return;
        return this.feed({ type: "useHealthCheck", on: true });
      case "store":
      case "store and crash":
        return this.#store(n, does === "store and crash");
      case "warn signal":
        if (!callable.setWarnSignal.includes(state)) return;
        return this.#call((id) => ({
          type: "setWarnSignal",
          id,
          signal: n % 2 === 0 ? "SIGTERM" : "SIGKILL",
        }));
      case "hang":
        this.#blocked = n > 300 ? Infinity : this.#world.now + n;
        this.#hangs.push({ from: this.#world.now, until: this.#blocked });
        return;
      case "freeze":
        this.#frozen = n > 300 ? Infinity : this.#world.now + n;
        return;
      case "fall silent":
        this.#beatMs = 0;
        return;
      case "turn unhealthy":
        this.#healthy = false;
        return;
      case "mark failed":
        if (!this.client.options.hasClusterMap || !callable.markFailed.includes(state)) return;
        return this.#call((id) => ({ type: "markFailed", id }));
      case "close link":
        return this.#close(0);
      case "exit":
        return this.end({ code: n % 3, signal: null });
      case "crash":
        return this.end({ code: null, signal: "SIGSEGV" });
    }
  }

  #call(input: (id: number) => ClientInput, settled?: (how: "resolve" | "reject") => void): void {
    const id = ++this.#lastCall;
    if (settled) this.#settled.set(id, settled);
    this.feed(input(id));
  }

  #register(then: () => void): void {
    if (this.#closed) return;
    this.feed({ type: "connect" });
    this.#world.transport.connect(this.#address).then((link) => {
      if (!this.alive) return link.close();
      this.#linked(link);
      const data = this.client.data.slice();
      this.judge.registering(this, data);
      this.#call((id) => ({
        type: "register",
        id,
        pid: this.pid,
        notice: "",
        linkStoresData: link.storeData !== undefined,
      }), (how) => {
        if (how === "reject") return;
        this.judge.registered(this, data);
        then();
      });
    }, () => this.end({ code: 1, signal: null }));
  }

  #linked(link: Link): void {
    this.#link = link;
    link.receive({
      heartbeat() {},
      frame: (frame) =>
        this.#loop(this.#world.now, () => {
          if (!this.#closed) this.feed({ type: "message", message: decodeServer(frame) });
        }),
      end: () =>
        this.#loop(this.#world.now, () => {
          if (!this.#closed) this.feed({ type: "linkEnd", detail: "ended" });
          this.#closed = true;
        }),
    });
  }

  #store(n: number, crashes: boolean): void {
    const { state } = this.client;
    if (!callable["data.store"].includes(state) || state === "registering") return;
    const bytes = new Uint8Array(n % 5 === 0 ? 40_000 : n % 50 + 3);
    bytes.set([this.pid, this.#lastCall, n & 255]);
    const acknowledge = state === "initialized" ? () => {} : this.judge.storing(bytes);
    this.#call((id) => ({ type: "store", id, bytes }), (how) => {
      if (how === "resolve") acknowledge();
      if (crashes && state !== "initialized") this.end({ code: null, signal: "SIGSEGV" });
    });
  }

  #beat(): void {
    if (this.#beatMs === 0) return;
    const { state } = this.client;
    // A preload reports each turn of the loop before the program is started.
    const tells = state === "started" ||
      (state === "registered" && this.judge.settings.preloaded);
    if (tells && !this.#closed) this.#heartbeat();
    this.#loop(this.#world.now + this.#beatMs, () => this.#beat());
  }

  #heartbeat(): void {
    if (this.#world.now - this.#lastBeat < this.client.options.heartbeatWindow) return;
    this.#lastBeat = this.#world.now;
    this.#link?.heartbeat();
  }

  feed(input: ClientInput): void {
    for (const effect of this.client.step(input, this.#world.now)) {
      if (!this.alive) return;
      this.#carryOut(effect);
    }
    const due = this.client.deadline ?? Infinity;
    if (due >= this.#tickAt || due === Infinity) return;
    this.#tickAt = due;
    this.#loop(due, () => {
      this.#tickAt = Infinity;
      this.feed({ type: "tick" });
    });
  }

  #carryOut(effect: ClientEffect): void {
    switch (effect.type) {
      case "send":
        if (!this.#closed) this.#link?.send(encodeClient(effect.message));
        return;
      case "confirm":
        if (!this.#closed) this.#link?.confirm?.();
        return;
      case "storeInLink":
        this.#link!.storeData!(effect.bytes);
        return this.feed({ type: "storedInLink", id: effect.id });
      case "check":
        return this.#loop(
          this.#world.now + this.script.checkMs,
          () => this.feed({ type: "checked", healthy: this.#healthy, detail: "" }),
        );
      case "resolve":
      case "reject":
        return this.#settle(effect.id, effect.type);
      case "disconnect":
        return this.#close(0);
      case "exit":
        return this.end({ code: 1, signal: null });
    }
  }

  #settle(id: number, how: "resolve" | "reject"): void {
    const settled = this.#settled.get(id);
    this.#settled.delete(id);
    settled?.(how);
  }

  /** Closes its end of the link. The server learns that `eofMs` later. */
  #close(eofMs: number): void {
    if (this.#closed || !this.#link) return;
    this.#closed = true;
    const link = this.#link;
    this.#world.clock.at(this.#world.now + eofMs, () => link.close());
    if (this.alive) this.feed({ type: "linkEnd", detail: "closed" });
  }

  /** A check from outside asks the process whether it is healthy. Its event loop answers. */
  probe(answer: (isHealthy: boolean) => void): void {
    this.#loop(this.#world.now + this.script.checkMs, () => answer(this.#healthy));
  }

  /** The event loop is blocked from now on. */
  hang(): void {
    this.#do({ waitMs: 0, does: "hang", n: Infinity });
  }

  // The end.

  /** A signal is under way. */
  signal(signal: Signal): void {
    const world = this.#world;
    world.clock.at(world.now + world.dice.number() * 2, () => this.#receive(signal));
  }

  #receive(signal: Signal): void {
    const world = this.#world;
    if (!this.alive) return;
    if (signal === "SIGKILL") return this.end({ code: null, signal });
    if (this.#frozen > world.now) {
      if (this.#frozen < Infinity) world.clock.at(this.#frozen, () => this.#receive(signal));
    } else if (this.script.warned === "dies") this.end({ code: null, signal });
    else if (this.script.warned === "exits") {
      this.#loop(world.now + 20, () => this.end({ code: 0, signal: null }));
    }
  }

  /** Ends the process. */
  end(exit: Exit): void {
    if (!this.alive) return;
    this.alive = false;
    const world = this.#world;
    const { linkHeld, eofMs, exitMs } = this.script;
    if (!linkHeld) this.#close(world.dice.number() * eofMs);
    this.#closed = true;
    this.judge.ended(this);
    world.answer(world.now + world.dice.number() * exitMs, () => {
      this.judge.reaped(this, exit);
      this.#onExit(exit);
    });
  }
}
