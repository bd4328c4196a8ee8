/** What is counted of one program from its events, beside what its status says. */
import { SamError } from "../errors.ts";
import type { SupervisorEvent } from "../api/events.ts";
import { invalid } from "../api/validate.ts";
import { processState } from "../runtime/procfs.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { SystemFiles } from "../runtime/runtime.ts";
import type { Supervisor } from "../api/supervisor.ts";
import { detection, type DurationInstrument, type Reading, recovery } from "./instruments.ts";

/** What is asked of a `Supervisor`. */
export type Measured = Pick<Supervisor, "status" | "events">;

/** Is told how long something took. */
export type DurationSink = (
  program: string,
  instrument: DurationInstrument,
  seconds: number,
) => void;

/** One program, measured. */
class ProgramMeter {
  readonly #name: string;
  readonly #restarts = new Map<string, number>();
  readonly #supervisor: Measured;
  readonly #events: AsyncIterableIterator<SupervisorEvent>;
  readonly #sink: DurationSink;
  #runtime: SystemFiles | null = null;
  /** When the last instance was given up, or ended; null while nothing must be recovered. */
  #downSince: number | null = null;
  /** Its end was asked for. */
  #orderly = false;

  constructor(name: string, supervisor: Measured, sink: DurationSink) {
    this.#name = name;
    this.#supervisor = supervisor;
    this.#sink = sink;
    this.#events = supervisor.events();
    void loadRuntime().then((runtime) => this.#runtime = runtime);
    void this.#follow();
  }

  /** What is known now. */
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
    };
  }

  /** Reads no more events. */
  close(): void {
    void this.#events.return?.();
  }

  async #follow(): Promise<void> {
    for await (const event of this.#events) this.#hear(event);
  }

  #hear(event: SupervisorEvent): void {
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
      case "spawn":
      case "spare":
        if (event.type === "spare" && event.state !== "promoted") break;
        if (this.#orderly) this.#count("requested");
        this.#orderly = false;
        this.#recovered(event.at);
        break;
      case "stopped":
        this.#downSince = null; // what was stopped on purpose need not recover
        break;
      case "start":
      case "check":
        this.#recovered(event.at);
    }
  }

  #count(reason: string): void {
    this.#restarts.set(reason, (this.#restarts.get(reason) ?? 0) + 1);
  }

  #recovered(at: number): void {
    if (this.#downSince === null || !this.#supervisor.status.ready) return;
    this.#sink(this.#name, recovery, Math.max(0, at - this.#downSince) / 1000);
    this.#downSince = null;
  }
}

/** The programs that are measured, by their names. */
export class Meters {
  readonly #meters = new Map<string, ProgramMeter>();
  readonly #sink: DurationSink;

  constructor(sink: DurationSink) {
    this.#sink = sink;
  }

  /** What is known now of each. */
  read(): readonly Reading[] {
    return [...this.#meters.values()].map((meter) => meter.read());
  }

  /** Measures a program from now on; returns how that is ended. Throws INVALID_PARAM. */
  add(name: string, supervisor: Measured): () => void {
    if (typeof name !== "string" || name === "") {
      throw invalid("the name of a program", name, "a text that is not empty");
    }
    if (typeof supervisor?.events !== "function") {
      throw invalid(`programs.${name}`, supervisor, "what supervise() returns");
    }
    if (this.#meters.has(name)) {
      throw new SamError("INVALID_PARAM", `a program ${name} is measured already: remove it first`);
    }
    const meter = new ProgramMeter(name, supervisor, this.#sink);
    this.#meters.set(name, meter);
    return () => {
      if (this.#meters.get(name) === meter) this.#meters.delete(name);
      meter.close();
    };
  }

  /** The same for several. */
  addAll(programs: Readonly<Record<string, Measured>>): void {
    for (const [name, supervisor] of Object.entries(programs)) this.add(name, supervisor);
  }

  /** Measures none of them any more. */
  close(): void {
    for (const meter of this.#meters.values()) meter.close();
    this.#meters.clear();
  }
}
