// A process of the world: the core of the active side, a script to follow, and a link that takes its time.

import { callable, Client, type ClientEffect, type ClientInput } from "../../src/core/client.ts";
import {
  type ClientMessage,
  decodeClient,
  decodeServer,
  encodeClient,
  encodeServer,
  type ServerMessage,
} from "../../src/core/frame.ts";
import type { Signal } from "../../src/core/signals.ts";
import type { World } from "./core_world.ts";

/** What an instance does, one thing after the other. */
export interface Script {
  readonly spawnMs: number;
  readonly spawnFails: boolean;
  /** What the warn signal does: the default action, a handler that exits, a handler that does nothing. */
  readonly warned: "dies" | "exits" | "ignores";
  /** A grandchild holds the link open when the process has ended. */
  readonly linkHeld: boolean;
  readonly checkMs: number;
  readonly acts: readonly Act[];
  /** What becomes of it when it is a spare: `ms` after its begin, or after the end of the active process. */
  readonly fate: {
    readonly from: "never" | "its begin" | "the end of the active process";
    readonly ms: number;
    readonly does: Deed;
  };
}

export interface Act {
  readonly waitMs: number;
  readonly does: Deed;
  /** Milliseconds, a number of bytes, an exit code: what the deed needs. */
  readonly n: number;
}

export type Deed =
  | "register"
  | "start"
  | "beat"
  | "check"
  | "store"
  | "store and crash"
  | "warn signal"
  | "hang"
  | "fall silent"
  | "turn unhealthy"
  | "stop"
  | "finalize"
  | "mark failed"
  | "close link"
  | "exit"
  | "crash";

type End = { readonly code: number | null; readonly signal: Signal | null };

export class Process {
  alive = true;
  readonly #world: World;
  readonly #script: Script;
  readonly #client: Client;
  /** Its process id, which no other process has. */
  readonly #pid: number;
  /** The instance that it is; null for a spare. */
  instance: number | null;
  #linked = false;
  /** The server has closed its end. */
  #cut = false;
  /** The event loop is blocked until then. */
  #blocked = 0;
  #beatMs = 0;
  #lastBeat = -Infinity;
  #healthy = true;
  #lastUp = 0;
  #lastDown = 0;
  #lastCall = 0;
  readonly #settled = new Map<number, (how: "resolve" | "reject") => void>();

  constructor(world: World, script: Script, pid: number, instance: number | null) {
    this.#world = world;
    this.#script = script;
    this.#pid = pid;
    this.instance = instance;

    this.#client = new Client({ timeInterval: 100, maxDataSize: 1e6 });
    this.#follow(0);
    if (instance === null) this.meet("its begin");
  }

  /** A spare meets its fate, if this is where that begins. */
  meet(from: Script["fate"]["from"]): void {
    const { fate } = this.#script;
    if (fate.from !== from) return;
    this.#loop(
      this.#world.now + fate.ms,
      () => this.#do({ waitMs: 0, does: fate.does, n: fate.ms }),
    );
  }

  get nextTick(): number {
    return this.alive ? Math.max(this.#client.deadline ?? Infinity, this.#blocked) : Infinity;
  }

  /** Runs on the process's event loop, when that is free. */
  #loop(time: number, run: () => void): void {
    this.#world.at(time, () => {
      if (!this.alive) return;
      if (this.#blocked > this.#world.now) this.#loop(this.#blocked, run);
      else run();
    });
  }

  #follow(index: number): void {
    const act = this.#script.acts[index];
    if (!act) return;
    this.#loop(this.#world.now + act.waitMs, () => {
      const next = () => {
        if (this.alive) this.#follow(index + 1);
      };
      // A spare may be parked for long: what it is to do then, it does as the next instance.
      const parks = act.does === "register" && this.instance === null &&
        this.#client.state === "initialized";
      if (parks) return this.#register(next);
      this.#do(act);
      next();
    });
  }

  #do({ does, n }: Act): void {
    switch (does) {
      case "register":
        if (this.#client.state !== "initialized") return;
        return this.#register();
      case "start":
      case "stop":
      case "finalize":
        if (callable[does].includes(this.#client.state)) this.#call((id) => ({ type: does, id }));
        return;
      case "beat":
        this.#beatMs = Math.max(1, n);
        return this.#beat();
      case "check":
        if (this.#client.state !== "registered" || this.#client.timeInterval === 0) return;
        return this.feed({ type: "useHealthCheck", on: true });
      case "store":
      case "store and crash":
        return this.#store(n, does === "store and crash");
      case "warn signal":
        if (!callable.setWarnSignal.includes(this.#client.state)) return;
        return this.#call((id) => ({
          type: "setWarnSignal",
          id,
          signal: n % 2 === 0 ? "SIGTERM" : "SIGKILL",
        }));
      case "hang":
        this.#blocked = n > 300 ? Infinity : this.#world.now + n;
        return;
      case "fall silent":
        this.#beatMs = 0;
        return;
      case "turn unhealthy":
        this.#healthy = false;
        return;
      case "mark failed":
        if (!this.#client.hasClusterMap || !callable.markFailed.includes(this.#client.state)) {
          return;
        }
        return this.#call((id) => ({ type: "markFailed", id }));
      case "close link":
        return this.#close();
      case "exit":
        return this.#end({ code: n % 3, signal: null });
      case "crash":
        return this.#end({ code: null, signal: "SIGSEGV" });
    }
  }

  #call(input: (id: number) => ClientInput, settled?: (how: "resolve" | "reject") => void): void {
    const id = ++this.#lastCall;
    if (settled) this.#settled.set(id, settled);
    this.feed(input(id));
  }

  #register(then = () => {}): void {
    this.#linked = true;
    const { data } = this.#client;
    // If this one is the first:
    if (this.instance !== null) this.#world.stores.push({ bytes: data, acknowledged: false });
    this.#call((id) => ({ type: "register", id, pid: this.#pid, notice: "" }), (how) => {
      if (how === "reject") return;
      if (this.#world.firstRegistered === this.instance) this.#world.handedOver(data);
      else this.#world.restored(this.#client.data);
      then();
    });
  }

  #store(n: number, crashes: boolean): void {
    const { state } = this.#client;
    if (!callable["data.store"].includes(state) || state === "registering") return;
    const bytes = new Uint8Array(n % 5 === 0 ? 40_000 : n % 50 + 3);
    bytes.set([this.#pid, this.#lastCall, n & 255]);
    const linked = state !== "initialized";
    const store = { bytes, acknowledged: false };
    if (linked) this.#world.stores.push(store);
    this.#call((id) => ({ type: "store", id, bytes }), (how) => {
      if (!linked) return;
      if (how === "resolve") store.acknowledged = true;
      if (crashes) this.#end({ code: null, signal: "SIGSEGV" });
    });
  }

  #beat(): void {
    if (this.#beatMs === 0 || !this.alive) return;
    if (this.#client.state === "started") this.#heartbeat();
    this.#loop(this.#world.now + this.#beatMs, () => this.#beat());
  }

  #heartbeat(): void {
    if (this.#world.now - this.#lastBeat < this.#client.heartbeatWindow) return;
    this.#lastBeat = this.#world.now;
    this.#up("heartbeat", () => this.#world.hear(this, { type: "heartbeat" }));
  }

  feed(input: ClientInput): void {
    for (const effect of this.#client.step(input, this.#world.now)) {
      if (!this.alive) return;
      this.#carryOut(effect);
    }
  }

  #carryOut(effect: ClientEffect): void {
    switch (effect.type) {
      case "send":
        return this.#send(effect.message);
      case "confirm":
        return this.#up("heartbeat", () => this.#world.hear(this, { type: "heartbeat" }));
      case "check":
        return this.#loop(
          this.#world.now + this.#script.checkMs,
          () => this.feed({ type: "checked", healthy: this.#healthy, detail: "" }),
        );
      case "resolve":
      case "reject": {
        const settled = this.#settled.get(effect.id);
        this.#settled.delete(effect.id);
        settled?.(effect.type);
        return;
      }
      case "disconnect":
        return this.#close();
      case "exit":
        return this.#end({ code: 1, signal: null });
    }
  }

  // The link.

  #send(message: ClientMessage): void {
    const frame = encodeClient(message);
    const what = message.type === "checkBegin"
      ? "check begins"
      : message.type === "checkEnd"
      ? message.healthy ? "healthy" : "unhealthy"
      : null;
    this.#up(what, () => {
      if (message.type === "markFailed") this.#world.markedFailed();
      this.#world.hear(this, { type: "message", message: decodeClient(frame) });
    });
  }

  /** To the server, in order; the judge hears of it when it is there, the server when it reads it. */
  #up(what: Parameters<World["arrived"]>[0] | null, input: () => void): void {
    if (!this.#linked) return;
    const world = this.#world;
    this.#lastUp = Math.max(this.#lastUp, world.now + world.random() * world.plan.maxDelay);
    world.at(this.#lastUp, () => {
      if (what !== null && world.process === this && !this.#cut) world.arrived(what);
    });
    world.toServer(this.#lastUp, () => {
      if (!this.#cut) input();
    });
  }

  /** From the server. */
  deliver(message: ServerMessage): void {
    if (!this.#linked) return;
    const frame = encodeServer(message);
    const world = this.#world;
    this.#lastDown = Math.max(this.#lastDown, world.now + world.random() * world.plan.maxDelay);
    this.#loop(this.#lastDown, () => {
      if (this.#linked) this.feed({ type: "message", message: decodeServer(frame) });
    });
  }

  #close(): void {
    if (!this.#linked) return;
    this.#up(null, () => this.#world.hear(this, { type: "linkEnd" }));
    this.#linked = false;
    if (this.alive) this.feed({ type: "linkEnd", detail: "closed" });
  }

  /** The server has buried this instance. */
  cut(): void {
    this.#cut = true;
  }

  // The end.

  signal(signal: Signal): void {
    const world = this.#world;
    world.at(world.now + world.random() * 2, () => {
      if (!this.alive) return;
      if (signal === "SIGKILL" || this.#script.warned === "dies") {
        return this.#end({ code: null, signal });
      }
      if (this.#script.warned === "exits") {
        this.#loop(world.now + 20, () => this.#end({ code: 0, signal: null }));
      }
    });
  }

  #end(end: End): void {
    if (!this.alive) return;
    this.alive = false;
    if (!this.#script.linkHeld) this.#close();
    const world = this.#world;
    if (world.process === this) world.spare?.meet("the end of the active process");
    world.toServer(world.now + world.random() * 5, () => {
      if (world.process === this) world.ended(end);
      world.hear(this, { type: "exit", ...end });
    });
  }
}
