/**
 * The loop around the server's state machine: it feeds inputs to `Server.step`, carries out the effects and sets one timer. It owns the
 * process, the endpoint and the link of the current instance, and those of the spare.
 */
import type { ServerTransport } from "../../transports/transport.ts";
import type { ClusterMap, QuorumSource } from "../api/cluster.ts";
import type { DriverEvent, MemberStatus, SupervisorStatus } from "../api/events.ts";
import { ClusterBridge } from "./cluster_bridge.ts";
import { Server } from "../core/server/machine.ts";
import type {
  ExitStatus,
  ServerEffect,
  ServerEvent,
  ServerInput,
  ServerSettings,
} from "../core/server/types.ts";
import type { Signal } from "../core/signals.ts";
import type { Slack } from "../core/server/slack.ts";
import { SamError } from "../errors.ts";
import type { Guard } from "./instance/guard.ts";
import { Instance, type InstanceRuntime } from "./instance/instance.ts";
import { statusOf, Workers } from "./instance/workers.ts";
import { commandLineOf } from "../runtime/procfs.ts";
import type { Command } from "../runtime/runtime.ts";
import { Timekeeper } from "./timekeeper.ts";

export { guardOf } from "./instance/guard.ts";
export { bindRuntime } from "./instance/instance.ts";

/** The parts of a driver. */
export interface DriverParts {
  readonly runtime: InstanceRuntime;
  readonly transport: ServerTransport;
  /** Loads the transport that is used if `transport` cannot be opened. */
  readonly otherTransport?: () => Promise<ServerTransport>;
  readonly settings: ServerSettings;
  readonly command: () => Promise<Command>;
  /** Without a guard, a program may outlive a killed server, and child processes may outlive their program. */
  readonly guard?: Guard | undefined;
  readonly killMode?: "group" | "process";
  readonly quorum: QuorumSource | undefined;
  readonly clusterMap: ClusterMap | undefined;
  /** The seed of the backoff's jitter. Default random; set it to repeat a run. */
  readonly seed?: number;
}

/** Receives the events and the end. */
export interface DriverSink {
  event(event: ServerEvent | DriverEvent, instanceId: number): void;
  /** HTTP requests wait and none finishes, or one has finished again. Called only with the setting `progressLimit`. */
  progress?(healthy: boolean, detail: string): void;
  /** The next instance is due, and `allowStart()` starts it. Called only if the setting `asksBeforeStart` is on. */
  askToStart?(): void;
  /** A spare is due, and `allowSpare()` starts it. */
  askToStartSpare?(): void;
  finish(status: ExitStatus): void;
}

/** One program under supervision. */
export class Driver {
  /** The state machine. Read its getters only; inputs go through this driver. */
  readonly server: Server;

  readonly #parts: DriverParts;
  readonly #sink: DriverSink;
  #instance: Instance | null = null;
  #spare: Instance | null = null;
  #watched: SupervisorStatus["watched"] = null;
  /** The workers of node:cluster below the instance; null before it starts one. */
  #workers: Workers | null = null;
  /** The ends of spares, and of the output of past instances. The end of supervision waits for them. */
  readonly #pendingEnds = new Set<Promise<void>>();
  #inputs: ServerInput[] = [];
  #stepping = false;
  readonly #timekeeper: Timekeeper;
  readonly #cluster: ClusterBridge | null;
  #finished = false;
  /** True once `finish` was called: the sink gets nothing more. */
  #over = false;
  readonly #onGuardLimit = (detail: string) => {
    if (this.#parts.killMode === "process") return; // the guard ends no child processes then
    this.#emit({ type: "fallback", side: "server", detail });
  };

  constructor(parts: DriverParts, sink: DriverSink) {
    this.#parts = parts;
    this.#sink = sink;
    const seed = parts.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
    this.server = new Server(parts.settings, seed);
    const { quorum, clusterMap, runtime, transport, settings } = parts;
    this.#timekeeper = new Timekeeper({
      runtime,
      server: this.server,
      timeInterval: settings.timeInterval,
      isSampled: transport.sampled ?? false,
      pid: () => this.#instance?.pid,
      sample: () => this.sample(),
      feed: (input) => this.#feed(input),
    });
    this.#cluster = quorum || clusterMap
      ? new ClusterBridge(
        { quorum, clusterMap, runtime },
        (error, action) => this.report(error, action),
        (input) => this.#feed(input),
      )
      : null;
    parts.guard?.enter(this.#onGuardLimit);
  }

  /** Starts the first instance. */
  begin(): void {
    this.#timekeeper.begin();
    this.#cluster?.watch();
    this.#feed({ type: "begin" });
  }

  /** Starts the instance that is due. */
  allowStart(): void {
    this.#feed({ type: "allowStart" });
  }

  /** Starts the spare that is due. */
  allowSpare(): void {
    this.#feed({ type: "spare", input: { type: "allowStart" } });
  }

  /** Ends the program and then supervision. `delivered`: the program got this signal from the terminal already. */
  shutdown(signal: Signal | null, delivered = false): void {
    this.#feed({ type: "shutdown", signal, delivered });
  }

  /** Ends the current instance and starts the next. */
  restart(): void {
    this.#feed({ type: "restart" });
  }

  /** Starts a spare of the new code before the first instance starts. */
  prepareSpare(): void {
    this.#feed({ type: "prepareSpare" });
  }

  /** Takes over the stored data of an earlier supervision of the program. */
  adopt(bytes: Uint8Array): void {
    this.#feed({ type: "linkData", bytes });
  }

  /** Gives no instance id up to `upTo` to a later instance. */
  reserveIds(upTo: number): void {
    this.#feed({ type: "reserveIds", upTo });
  }

  /** Lets a replacement that takes over accept connections. */
  accept(): void {
    this.#feed({ type: "accept" });
  }

  /** Ends the program until `restart()`. */
  halt(): void {
    this.#feed({ type: "halt" });
  }

  /** Sends a signal to the current instance. */
  signal(signal: Signal): void {
    this.#instance?.signal(signal);
  }

  /** Starts a recovery because a check from outside found the program unhealthy. */
  unhealthy(reason: "unhealthy" | "startup", detail: string): void {
    this.#feed({ type: "unhealthy", reason, detail });
  }

  /** Emits the event `problem`, for an error that supervision survives: `FAILURE: message of the error`. */
  report(error: unknown, failure: string): void {
    try {
      const message = error instanceof Error ? error.message : String(error);
      const code = error instanceof SamError ? error.code : "LIBRARY";
      this.#emit({
        type: "problem",
        error: new SamError(code, `${failure}: ${message}`, { cause: error }),
      });
    } catch {
      // The sink itself failed: supervision goes on.
    }
  }

  /** Milliseconds since the last heartbeat; null before the first one, and when no more are expected. */
  get heartbeatAge(): number | null {
    this.sample();
    const { lastHeartbeat, pid, state } = this.server;
    if (lastHeartbeat === null || pid === null || state === "finalized") return null;
    return this.#parts.runtime.now() - lastHeartbeat;
  }

  /** The program below a wrapper; null if there is none, or if it has ended and its wrapper goes on. */
  get watched(): SupervisorStatus["watched"] {
    return this.server.state === "launched" ? null : this.#watched;
  }

  /** The workers of node:cluster, and the time since the last heartbeat of each. */
  get members(): readonly MemberStatus[] {
    return statusOf(this.server.members.registered, this.#parts.runtime.now());
  }

  /** The time that was left before the deadline when each heartbeat came. */
  get slack(): Slack {
    this.sample();
    return this.server.slack;
  }

  /** The size of the program's stored data, in bytes. */
  get dataSize(): number {
    return this.#instance?.storedSize ?? this.server.dataSize;
  }

  /** Polls for heartbeats that do not wake the server. */
  sample(): void {
    this.#instance?.sample();
  }

  #emit(event: DriverEvent): void {
    if (this.#over) return;
    this.#sink.event(event, this.server.instanceId);
  }

  #feed(input: ServerInput): void {
    if (this.#finished) return;
    this.#inputs.push(input);
    if (this.#stepping) return;
    this.#stepping = true;
    for (let next = this.#inputs.shift(); next; next = this.#inputs.shift()) {
      for (const effect of this.server.step(next, this.#parts.runtime.now())) {
        try {
          this.#carryOut(effect);
        } catch (error) {
          this.report(error, `the internal step "${effect.type}" of the SAM server failed`);
        }
      }
    }
    this.#stepping = false;
    this.#timekeeper.arm();
    this.#workers?.arm();
  }

  #carryOut(effect: ServerEffect): void {
    switch (effect.type) {
      case "askToStart":
        this.#sink.askToStart?.();
        break;
      case "spawn":
        this.#instance = this.#start();
        break;
      case "askToStartSpare":
        this.#sink.askToStartSpare?.();
        break;
      case "spawnSpare":
        this.#spare = this.#start();
        break;
      case "promote":
        this.#instance = this.#spare;
        this.#spare = null;
        break;
      case "killSpare":
        this.#killSpare();
        break;
      case "examine":
        this.#instance?.examine(effect, this.#timekeeper.isBusy);
        break;
      case "signal":
        this.#instance?.end(effect.signal);
        break;
      case "delivered":
        this.#instance?.markDelivered();
        break;
      case "passOn":
      case "reopen":
      case "letGo":
        this.#instance?.[effect.type]();
        break;
      case "send":
        this.#instance?.send(effect.message);
        break;
      case "progress":
        this.#sink.progress?.(effect.healthy, effect.detail);
        break;
      case "sendSpare":
        this.#spare?.send(effect.message);
        break;
      case "member":
        this.#workers ??= this.#makeWorkers();
        this.#workers.carryOut(effect.key, effect.effect);
        break;
      case "cleanUp":
        this.#bury();
        break;
      case "map":
        this.#cluster!.map(effect.keys);
        break;
      case "unmap":
        this.#cluster!.unmap();
        break;
      case "emit":
        this.#sink.event(this.#completed(effect.event), effect.instanceId);
        break;
      case "finish":
        this.#finish(effect.status);
    }
  }

  /** Adds to the registration of a program below a wrapper what the program is. */
  #completed(event: ServerEvent): ServerEvent {
    const pid = this.#instance?.pid;
    if (event.type !== "register" || pid === undefined || pid === this.server.pid) return event;
    const { runtime, settings } = this.#parts;
    const command = commandLineOf(runtime, pid);
    const startedBy = settings.program.slice(settings.program.lastIndexOf("/") + 1);
    if (command === undefined) return event;
    this.#watched = { pid, command };
    return { ...event, command, startedBy };
  }

  #start(): Instance {
    const instance: Instance = new Instance(this.#parts, {
      input: (input) => this.#takeInput(instance, input),
      fallback: (side, detail) => this.#emit({ type: "fallback", side, detail }),
      problem: (error, failure) => this.report(error, failure),
    });
    return instance;
  }

  #makeWorkers(): Workers {
    const { runtime, settings: { timeInterval } } = this.#parts;
    return new Workers({
      runtime,
      timeInterval,
      pid: () => this.#instance?.pid,
      open: (key) => this.#instance?.openWorker(key),
      find: (key) => this.server.members.get(key),
      feed: (key, input) => this.#feed({ type: "member", key, input }),
      fallback: (detail) => this.#emit({ type: "fallback", side: "server", detail }),
      problem: (error, failure) => this.report(error, failure),
    });
  }

  /** Feeds an input of the current instance or of the spare. Inputs of past instances are ignored. */
  #takeInput(instance: Instance, input: ServerInput): void {
    if (instance === this.#instance) return this.#feed(input);
    if (instance !== this.#spare) return;
    switch (input.type) {
      case "spawned":
      case "spawnFailed":
      case "exit":
      case "linkEnd":
        return this.#feed({ type: "spare", input });
      case "orphaned":
        return this.#feed({ type: "spare", input: { type: "exit" } });
      case "message":
        if (input.message.type === "hello") {
          this.#feed({ type: "spare", input: { type: "hello", message: input.message } });
        }
    }
  }

  #killSpare(): void {
    const spare = this.#spare;
    this.#spare = null;
    if (!spare) return;
    this.#delayFinish(spare.destroy());
  }

  /** Makes the end of supervision wait for `end`. */
  #delayFinish(end: Promise<void>): void {
    const pending = end.finally(() => this.#pendingEnds.delete(pending));
    this.#pendingEnds.add(pending);
  }

  #bury(): void {
    this.#workers?.close();
    this.#workers = null;
    const instance = this.#instance;
    this.#instance = null; // its inputs are ignored from here on
    this.#watched = null;
    if (!instance) return;
    const rest = instance.bury();
    if (rest) this.#delayFinish(rest);
  }

  #finish(status: ExitStatus): void {
    this.#finished = true;
    this.#timekeeper.end();
    this.#bury();
    const over = Promise.all([this.#cluster?.end(), ...this.#pendingEnds])
      .then(() => this.#parts.guard?.leave(this.#onGuardLimit));
    void over.then(() => {
      this.#over = true;
      this.#sink.finish(status);
    });
  }
}
