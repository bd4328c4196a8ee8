/**
 * OpenTelemetry metrics of supervised programs, the same that `@x/sam/metrics` has for Prometheus. You pass a meter of
 * `@opentelemetry/api`; this module itself imports nothing of OpenTelemetry.
 *
 * ```ts
 * import { metrics } from "@opentelemetry/api";
 * import { supervise } from "@x/sam";
 * import { openTelemetryMetrics } from "@x/sam/otel";
 *
 * await using job = supervise({ command: "sleep", args: ["1"] }, { recoveryPolicy: "quit" });
 * openTelemetryMetrics(metrics.getMeter("@x/sam"), { job });
 * await job.finished;
 * ```
 *
 * @module
 */
import {
  durationBounds,
  type DurationInstrument,
  durations,
  type Instrument,
  instruments,
} from "./instruments.ts";
import { Meters } from "./program_meter.ts";
import { invalid } from "../api/validate.ts";
import type { Supervisor } from "../api/supervisor.ts";

export type { Supervisor } from "../api/supervisor.ts";

/** The description of an instrument for a meter. */
export interface InstrumentOptions {
  /** A sentence about the instrument. */
  readonly description: string;
  /** The unit of its values, in UCUM notation. */
  readonly unit: string;
  /** Advice for the meter, such as the bounds of histogram buckets. */
  readonly advice?: { readonly explicitBucketBoundaries: number[] };
}

/**
 * The part of OpenTelemetry's `Meter` that SAM uses. `metrics.getMeter(…)` of `@opentelemetry/api` 1.3 or later returns
 * one.
 */
export interface MeterLike {
  /** Creates a histogram. */
  createHistogram(name: string, options: InstrumentOptions): {
    record(value: number, attributes: Record<string, string>): void;
  };
  /** Creates an observable counter. */
  createObservableCounter(name: string, options: InstrumentOptions): unknown;
  /** Creates an observable up-down counter. */
  createObservableUpDownCounter(name: string, options: InstrumentOptions): unknown;
  /** Creates an observable gauge. */
  createObservableGauge(name: string, options: InstrumentOptions): unknown;
  /** Adds a callback that observes several instruments at once. */
  addBatchObservableCallback(
    callback: (result: ObservableResult) => void,
    observables: unknown[],
  ): void;
  /** Removes such a callback. */
  removeBatchObservableCallback(
    callback: (result: ObservableResult) => void,
    observables: unknown[],
  ): void;
}

/** The object that receives the values of observable instruments. */
export interface ObservableResult {
  /** Records the present value of an observable instrument. */
  observe(observable: unknown, value: number, attributes: Record<string, string>): void;
}

/** Metrics of programs for OpenTelemetry; made by `openTelemetryMetrics`. */
export interface OpenTelemetryMetrics {
  /**
   * Adds a program to the metrics. Its name becomes the attribute `program`. Returns a function that removes the program
   * again. Throws INVALID_PARAM if the name is in use.
   */
  add(name: string, program: Supervisor): () => void;
  /** Removes all programs and stops measuring. */
  close(): void;
}

/**
 * Measures programs from now on. Earlier restarts are not counted; earlier heartbeats are.
 *
 * ```ts
 * import { metrics } from "@opentelemetry/api";
 * import { supervise } from "@x/sam";
 * import { openTelemetryMetrics } from "@x/sam/otel";
 *
 * await using job = supervise({ command: "sleep", args: ["60"] }, { recoveryPolicy: "restart" });
 * const measured = openTelemetryMetrics(metrics.getMeter("@x/sam"), { job });
 * measured.close();
 * ```
 *
 * Throws INVALID_PARAM for a value that is not a meter, or not a `Supervisor`.
 */
export function openTelemetryMetrics(
  meter: MeterLike,
  programs: Readonly<Record<string, Supervisor>> = {},
): OpenTelemetryMetrics {
  if (typeof meter?.addBatchObservableCallback !== "function") {
    throw invalid("meter", meter, "a Meter of @opentelemetry/api, 1.3 or later");
  }
  const histograms = new Map<DurationInstrument, ReturnType<MeterLike["createHistogram"]>>();
  for (const each of durations) {
    const advice = { explicitBucketBoundaries: [...durationBounds] };
    histograms.set(each, meter.createHistogram(each.name, { ...descriptionOf(each), advice }));
  }
  const observables = instruments.map((each) => createInstrument(meter, each));
  const meters = new Meters((program, instrument, seconds) =>
    histograms.get(instrument)!.record(seconds, { program })
  );
  const observe = (result: ObservableResult) => {
    for (const program of meters.read()) {
      for (const [at, { read }] of instruments.entries()) {
        for (const { labels, value } of read(program)) {
          result.observe(observables[at], value, { program: program.name, ...labels });
        }
      }
    }
  };
  meters.addAll(programs);
  meter.addBatchObservableCallback(observe, observables);
  return {
    add: (name, program) => meters.add(name, program),
    close() {
      meter.removeBatchObservableCallback(observe, observables);
      meters.close();
    },
  };
}

function createInstrument(meter: MeterLike, instrument: Instrument): unknown {
  const { kind, name } = instrument, options = descriptionOf(instrument);
  switch (kind) {
    case "counter":
      return meter.createObservableCounter(name, options);
    case "upDownCounter":
      return meter.createObservableUpDownCounter(name, options);
    case "gauge":
      return meter.createObservableGauge(name, options);
  }
}

function descriptionOf({ unit, description }: Instrument | DurationInstrument): InstrumentOptions {
  return { unit, description };
}
