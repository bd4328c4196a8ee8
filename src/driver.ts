/**
 * The loop around the server's core: input → `Server.step` → carry out the effects → arm one timer. It owns the process,
 * the endpoint and the link of the present instance, and is the only place where an effect becomes an act.
 */
import type { Endpoint, Link, Transport } from "../transports/transport.ts";
import type { ClusterMap, QuorumSource } from "./cluster/cluster.ts";
import { decodeClient, encodeServer } from "./core/frame.ts";
import { Server } from "./core/server.ts";
import type {
  ExitStatus,
  MapKeys,
  Problem,
  ServerEffect,
  ServerEvent,
  ServerInput,
  ServerSettings,
} from "./core/server_types.ts";
import type { Signal } from "./core/signals.ts";
import { SamError } from "./errors.ts";
import { linkVariable } from "./runtime/birth.ts";
import type { Child, Command, Runtime } from "./runtime/runtime.ts";

/** What a driver drives. */
export interface DriverParts {
  readonly runtime: Runtime;
  readonly transport: Transport;
  readonly settings: ServerSettings;
  readonly command: () => Promise<Command>;
  readonly quorum: QuorumSource | undefined;
  readonly clusterMap: ClusterMap | undefined;
}

/** What happens outside the core. */
export type DriverEvent =
  /** The transport works, but slower than it could. */
  | { readonly type: "fallback"; readonly side: "server" | "program"; readonly detail: string }
  /** Something failed that supervision survives: a signal, the cluster, a malformed frame, a stray error. */
  | { readonly type: "problem"; readonly error: SamError };

/** Who is told. */
export interface DriverSink {
  event(event: ServerEvent | DriverEvent, instanceId: number): void;
  finish(status: ExitStatus): void;
}

interface Instance {
  endpoint: Endpoint | null;
  child: Child | null;
  link: Link | null;
  /** The process that registered, where it is not the one that was spawned (a wrapper stands between). */
  below: number | null;
  sampled: number;
}

const tick: ServerInput = { type: "tick" };
const heartbeat: ServerInput = { type: "heartbeat" };
/** A timer takes no longer delay. */
const maxDelayMs = 2 ** 31 - 1;

/** One program under supervision. */
export class Driver {
  /** The state machine; to be read only. */
  readonly server: Server;

  readonly #parts: DriverParts;
  readonly #sink: DriverSink;
  #instance: Instance | null = null;
  #inputs: ServerInput[] = [];
  #stepping = false;
  #cancelTimer: (() => void) | null = null;
  #armedFor = Infinity;
  #settling = false;
  #endQuorum: (() => void) | null = null;
  #finished = false;
  /** Cluster map operations, one after the other. */
  #mapped: Promise<void> = Promise.resolve();

  constructor(parts: DriverParts, sink: DriverSink) {
    this.#parts = parts;
    this.#sink = sink;
    const [seed] = crypto.getRandomValues(new Uint32Array(1));
    this.server = new Server(parts.settings, seed!);
  }

  /** Starts the first instance. */
  begin(): void {
    this.#watchQuorum();
    this.#feed({ type: "begin" });
  }

  /** Ends the program and then supervision. `delivered`: the program got this signal from elsewhere. */
  shutdown(signal: Signal | null, delivered = false): void {
    this.#feed({ type: "shutdown", signal, delivered });
  }

  /** Ends the present instance and starts the next. */
  restart(): void {
    this.#feed({ type: "restart" });
  }

  /** Reports what went wrong without harm to supervision. */
  report(error: unknown, what: string): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#emit({
      type: "problem",
      error: new SamError("LIBRARY", `${what}: ${message}`, { cause: error }),
    });
  }

  /** Looks for heartbeats that wake nobody. */
  sample(): void {
    const instance = this.#instance;
    if (!instance?.link?.sample) return;
    const count = instance.link.sample();
    if (count === instance.sampled) return;
    instance.sampled = count;
    this.#feed(heartbeat);
  }

  #emit(event: DriverEvent): void {
    this.#sink.event(event, this.server.instanceId);
  }

  #feed(input: ServerInput): void {
    if (this.#finished) return;
    this.#inputs.push(input);
    if (this.#stepping) return;
    this.#stepping = true;
    for (let next = this.#inputs.shift(); next; next = this.#inputs.shift()) {
      for (const effect of this.server.step(next, this.#parts.runtime.now())) {
        this.#carryOut(effect);
      }
    }
    this.#stepping = false;
    this.#arm();
  }

  #carryOut(effect: ServerEffect): void {
    switch (effect.type) {
      case "spawn":
        void this.#spawn();
        break;
      case "signal":
        this.#signal(effect.signal);
        break;
      case "send":
        this.#instance?.link?.send(encodeServer(effect.message));
        break;
      case "bury":
        this.#bury();
        break;
      case "map":
        this.#map(effect.keys);
        break;
      case "unmap":
        this.#unmap();
        break;
      case "emit":
        this.#sink.event(effect.event, effect.instanceId);
        break;
      case "finish":
        this.#finish(effect.status);
    }
  }

  // The process.

  async #spawn(): Promise<void> {
    const { runtime, transport, command } = this.#parts;
    const instance: Instance = { endpoint: null, child: null, link: null, below: null, sampled: 0 };
    this.#instance = instance;
    const ours = () => this.#instance === instance;
    try {
      const line = await command();
      const endpoint = instance.endpoint = await transport.open(runtime);
      const { address } = endpoint;
      const linkText = (text: string) => ({ [linkVariable]: `${transport.name}:${text}` });
      const child = instance.child = typeof address === "string"
        ? await runtime.spawn({ ...line, env: { ...line.env, ...linkText(address) } })
        : await runtime.spawn(line, (descriptor) => linkText(address(descriptor)));
      this.#feed({ type: "spawned", pid: child.pid });
      child.exited.then((exit) => ours() && this.#feed({ type: "exit", ...exit }));
      endpoint.accept(child, (link) => {
        if (ours()) this.#linked(instance, link);
        else link.close();
      });
    } catch (error) {
      this.#feed({ type: "spawnFailed", error: problemOf(error) });
    }
  }

  #linked(instance: Instance, link: Link): void {
    const ours = () => this.#instance === instance;
    instance.link = link;
    instance.endpoint!.close();
    if (link.sample) instance.sampled = link.sample();
    if (link.notice) this.#emit({ type: "fallback", side: "server", detail: link.notice });
    link.receive({
      heartbeat: () => ours() && this.#feed(heartbeat),
      frame: (frame) => ours() && this.#receive(instance, frame),
      end: () => {
        if (!ours()) return;
        instance.link = null;
        this.#feed({ type: "linkEnd" });
      },
    });
  }

  #receive(instance: Instance, frame: Uint8Array): void {
    try {
      const message = decodeClient(frame);
      if (message.type === "hello") {
        if (message.notice) {
          this.#emit({ type: "fallback", side: "program", detail: message.notice });
        }
        if (
          message.pid !== instance.child!.pid &&
          this.#parts.runtime.descends(message.pid, instance.child!.pid)
        ) {
          instance.below = message.pid;
        }
      }
      // Heartbeats before a start or an answer are older than it: they are counted first.
      this.sample();
      this.#feed({ type: "message", message });
    } catch (error) {
      this.report(error, "the program sent what is no frame; its link is closed");
      instance.link?.close();
    }
  }

  #signal(signal: Signal): void {
    const instance = this.#instance;
    instance?.child?.kill(signal);
    if (instance?.below) this.#killBelow(instance.below, signal);
  }

  #killBelow(pid: number, signal: Signal): void {
    try {
      this.#parts.runtime.kill(pid, signal);
    } catch (error) {
      this.report(
        error,
        `cannot send ${signal} to process ${pid}, which registered below the one that was spawned`,
      );
    }
  }

  #bury(): void {
    const instance = this.#instance;
    this.#instance = null;
    if (!instance) return;
    if (instance.below !== null) this.#killBelow(instance.below, "SIGKILL");
    instance.link?.close();
    instance.endpoint?.close();
    if (!instance.link) instance.child?.stream?.close();
  }

  #finish(status: ExitStatus): void {
    this.#finished = true;
    this.#cancelTimer?.();
    this.#bury();
    this.#endQuorum?.();
    this.#mapped.then(() => this.#sink.finish(status));
  }

  // The clock.

  /** Arms the timer for the next deadline or sampling; a later one than armed for is found out when it fires. */
  #arm(): void {
    if (this.#finished || this.#settling) return;
    const due = this.#due();
    if (due === undefined || due >= this.#armedFor) return;
    this.#cancelTimer?.();
    this.#armedFor = due;
    const { runtime } = this.#parts;
    const delay = Math.min(Math.max(0, due - runtime.now()), maxDelayMs);
    this.#cancelTimer = runtime.schedule(() => this.#wake(), delay, true);
  }

  #due(): number | undefined {
    const { deadline, state } = this.server;
    const { timeInterval } = this.#parts.settings;
    if (!this.#parts.transport.sampled || state !== "started" || timeInterval === 0) {
      return deadline;
    }
    return Math.min(
      deadline ?? Infinity,
      this.#parts.runtime.now() + Math.max(1, timeInterval / 16),
    );
  }

  async #wake(): Promise<void> {
    this.#armedFor = Infinity;
    this.#cancelTimer = null;
    const { runtime } = this.#parts;
    this.sample();
    const isDue = () => {
      const { deadline } = this.server;
      return !this.#finished && deadline !== undefined && deadline <= runtime.now();
    };
    if (isDue()) {
      // Heartbeats that have arrived are read before a deadline is judged.
      this.#settling = true;
      await runtime.settle();
      this.#settling = false;
      this.sample();
      if (isDue()) this.#feed(tick);
    }
    this.#arm();
  }

  // The cluster.

  async #watchQuorum(): Promise<void> {
    const { quorum } = this.#parts;
    if (!quorum) return;
    try {
      const end = await quorum.watch((quorate) =>
        this.#feed({ type: "quorum", quorate: quorate === true })
      );
      if (this.#finished) end();
      else this.#endQuorum = end;
    } catch (error) {
      this.report(error, "the quorum source failed, so the cluster counts as not quorate");
      this.#feed({ type: "quorum", quorate: false });
    }
  }

  #map(keys: MapKeys): void {
    const names = {
      recovery: "recovery",
      pollPeriod: "poll_period",
      lastUpdated: "last_updated",
      state: "state",
    } as const;
    for (const [key, name] of Object.entries(names)) {
      const value = keys[key as keyof MapKeys];
      if (value !== undefined) this.#inMap((map) => map.set(this.#mapKey(name), value));
    }
  }

  #unmap(): void {
    for (const name of ["recovery", "poll_period", "last_updated", "state"]) {
      this.#inMap((map) => map.delete(this.#mapKey(name)));
    }
  }

  #mapKey(name: string): string {
    return `resources.process.${this.#parts.runtime.pid}.${name}`;
  }

  #inMap(operation: (map: ClusterMap) => void | Promise<void>): void {
    const map = this.#parts.clusterMap!;
    this.#mapped = this.#mapped.then(() => operation(map)).catch((error) =>
      this.report(error, "the cluster map failed")
    );
  }
}

function problemOf(error: unknown): Problem {
  if (error instanceof SamError) {
    return { code: error.code, message: error.message, cause: error.cause };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: "LIBRARY", message: `cannot start the program: ${message}`, cause: error };
}
