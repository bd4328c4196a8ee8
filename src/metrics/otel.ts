/**
 * Figures about supervised programs for OpenTelemetry, through a meter of `@opentelemetry/api`: the same as
 * `@x/sam/metrics` has for Prometheus. This module imports nothing of OpenTelemetry: the meter is yours.
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

/** How an instrument is described to a meter. */
export interface InstrumentOptions {
  /** What it measures. */
  readonly description: string;
  /** In what. */
  readonly unit: string;
  /** What is known about its values. */
  readonly advice?: { readonly explicitBucketBoundaries: number[] };
}

/** The part of OpenTelemetry's `Meter` that is used; `metrics.getMeter(…)` of `@opentelemetry/api` 1.3 or later is one. */
export interface MeterLike {
  /** As OpenTelemetry has it. */
  createHistogram(name: string, options: InstrumentOptions): {
    record(value: number, attributes: Record<string, string>): void;
  };
  /** As OpenTelemetry has it. */
  createObservableCounter(name: string, options: InstrumentOptions): unknown;
  /** As OpenTelemetry has it. */
  createObservableUpDownCounter(name: string, options: InstrumentOptions): unknown;
  /** As OpenTelemetry has it. */
  createObservableGauge(name: string, options: InstrumentOptions): unknown;
  /** As OpenTelemetry has it. */
  addBatchObservableCallback(
    callback: (result: ObservableResult) => void,
    observables: unknown[],
  ): void;
  /** As OpenTelemetry has it. */
  removeBatchObservableCallback(
    callback: (result: ObservableResult) => void,
    observables: unknown[],
  ): void;
}

/** Takes the values of observable instruments. */
export interface ObservableResult {
  /** As OpenTelemetry has it. */
  observe(observable: unknown, value: number, attributes: Record<string, string>): void;
}

/** Programs, measured for OpenTelemetry. */
export interface OpenTelemetryMetrics {
  /**
   * Measures one more program, under a name that becomes the attribute `program`; returns how that is ended. Throws
   * INVALID_PARAM where the name is taken.
   */
  add(name: string, program: Supervisor): () => void;
  /** Measures no more. */
  close(): void;
}

/**
 * Measures programs from now on.
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
 * Throws INVALID_PARAM for what is no meter, or no `Supervisor`.
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
    histograms.set(each, meter.createHistogram(each.name, { ...described(each), advice }));
  }
  const observables = instruments.map((each) => created(meter, each));
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

function created(meter: MeterLike, instrument: Instrument): unknown {
  const { kind, name } = instrument, options = described(instrument);
  switch (kind) {
    case "counter":
      return meter.createObservableCounter(name, options);
    case "upDownCounter":
      return meter.createObservableUpDownCounter(name, options);
    case "gauge":
      return meter.createObservableGauge(name, options);
  }
}

function described({ unit, description }: Instrument | DurationInstrument): InstrumentOptions {
  return { unit, description };
}
