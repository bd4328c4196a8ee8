/** Counts restarts and measures durations of each program, from its events. */
import { SamError } from "../errors.ts";
import type { SupervisorEvent } from "../api/events.ts";
import { invalid } from "../api/validate.ts";
import { processState } from "../runtime/procfs.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { SystemFiles } from "../runtime/runtime.ts";
import type { Supervisor } from "../api/supervisor.ts";
import { detection, type DurationInstrument, type Reading, recovery } from "./instruments.ts";

/** The part of a `Supervisor` that a meter uses. */
export type Measured = Pick<Supervisor, "status" | "events">;

export type DurationSink = (
  program: string,
  instrument: DurationInstrument,
  seconds: number,
) => void;

class ProgramMeter {
  readonly #name: string;
  readonly #restarts = new Map<string, number>();
  #killedMembers = 0;
  readonly #supervisor: Measured;
  readonly #events: AsyncIterableIterator<SupervisorEvent>;
  readonly #sink: DurationSink;
  #runtime: SystemFiles | null = null;
  /** The time at which the present failure began, in milliseconds since 1970; null while there is no failure. */
  #downSince: number | null = null;
  /** Number of the instance that the last reload has replaced. Its end is no failure. */
  #replaced: number | null = null;
  /** Number of the last instance that was counted. */
  #instanceId: number;
  /** True while the program ends on request, so that its end is not a failure. */
  #orderly = false;
  /** The reason for the restart that has been requested. */
  #cause: "requested" | "memory" | "age" = "requested";

  constructor(name: string, supervisor: Measured, sink: DurationSink) {
    this.#name = name;
    this.#supervisor = supervisor;
    this.#sink = sink;
    this.#instanceId = supervisor.status.instanceId;
    this.#events = supervisor.events();
    void loadRuntime().then((runtime) => this.#runtime = runtime);
    void this.#follow();
  }

  read(): Reading {
    const { status } = this.#supervisor;
    const seen = status.pid !== null && this.#runtime
      ? processState(this.#runtime, status.pid)
      : undefined;
    return {
      name: this.#name,
      status,
      memoryBytes: seen?.memoryBytes || null,
      restarts: this.#restarts,
      killedMembers: this.#killedMembers,
    };
  }

  close(): void {
    void this.#events.return?.();
  }

  async #follow(): Promise<void> {
    for await (const event of this.#events) this.#record(event);
  }

  #record(event: SupervisorEvent): void {
    if (event.instanceId === this.#replaced) return;
    switch (event.type) {
      case "stopping":
        this.#orderly = true;
        break;
      case "warn":
        this.#downSince ??= event.at;
        break;
      case "exit":
        if (!this.#orderly) this.#downSince ??= event.at;
        break;
      case "recovery": {
        const { reason, evidence: { heartbeatAge }, delay } = event;
        if (delay !== null) this.#count(reason);
        if (reason === "timeout" && heartbeatAge !== null) {
          this.#sink(this.#name, detection, heartbeatAge / 1000);
        }
        break;
      }
      case "member":
        if (event.evidence.signal !== null) this.#killedMembers++;
        break;
      case "spawn":
      case "spare":
        if (event.type === "spare" && event.state !== "promoted") break;
        if (this.#orderly) this.#count(this.#cause);
        this.#orderly = false;
        this.#instanceId = event.instanceId;
        this.#endFailure(event.at);
        break;
      case "reload":
        this.#cause = event.reason;
        break;
      case "reloadFailed":
        this.#cause = "requested";
        break;
      case "reloaded":
        this.#replaced = event.replaced;
        this.#orderly = false;
        // A promoted spare, and the next instance after a restart, were counted already.
        if (event.instanceId !== this.#instanceId) this.#count(this.#cause);
        this.#cause = "requested";
        this.#instanceId = event.instanceId;
        this.#endFailure(event.at);
        break;
      case "stopped":
        this.#downSince = null; // a program that was stopped on purpose does not recover
        break;
      case "start":
      case "check":
        this.#endFailure(event.at);
    }
  }

  #count(reason: string): void {
    this.#restarts.set(reason, (this.#restarts.get(reason) ?? 0) + 1);
  }

  #endFailure(at: number): void {
    if (this.#downSince === null || !this.#supervisor.status.ready) return;
    this.#sink(this.#name, recovery, Math.max(0, at - this.#downSince) / 1000);
    this.#downSince = null;
  }
}

export class Meters {
  readonly #meters = new Map<string, ProgramMeter>();
  readonly #sink: DurationSink;

  constructor(sink: DurationSink) {
    this.#sink = sink;
  }

  read(): readonly Reading[] {
    return [...this.#meters.values()].map((meter) => meter.read());
  }

  /** Measures a program from now on. Returns a function that ends this. Throws INVALID_PARAM. */
  add(name: string, supervisor: Measured): () => void {
    if (typeof name !== "string" || name === "") {
      throw invalid("the name of a program", name, "a non-empty string");
    }
    if (typeof supervisor?.events !== "function") {
      throw invalid(`programs.${name}`, supervisor, "the return value of supervise()");
    }
    if (this.#meters.has(name)) {
      throw new SamError(
        "INVALID_PARAM",
        `a program with the name ${name} is already measured: remove it first, or choose another name`,
      );
    }
    const meter = new ProgramMeter(name, supervisor, this.#sink);
    this.#meters.set(name, meter);
    return () => {
      if (this.#meters.get(name) === meter) this.#meters.delete(name);
      meter.close();
    };
  }

  addAll(programs: Readonly<Record<string, Measured>>): void {
    for (const [name, supervisor] of Object.entries(programs)) this.add(name, supervisor);
  }

  close(): void {
    for (const meter of this.#meters.values()) meter.close();
    this.#meters.clear();
  }
}
