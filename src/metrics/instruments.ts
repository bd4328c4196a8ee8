/** What is measured, as data: one table for Prometheus and OpenTelemetry, whose names and units these are. */
import type { ServerState } from "../core/server/types.ts";
import type { SupervisorStatus } from "../api/events.ts";

/** A unit of OpenTelemetry (UCUM); in braces what is counted. */
export type Unit = "s" | "By" | `{${string}}`;

/** One value, and what tells it from the others of its instrument. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What is known of a program when somebody asks. */
export interface Reading {
  readonly name: string;
  readonly status: SupervisorStatus;
  /** Resident memory; null where that is not known. */
  readonly memoryBytes: number | null;
  /** How many restarts there were, by reason. */
  readonly restarts: ReadonlyMap<string, number>;
}

/** What all instruments have. */
interface Named {
  readonly name: string;
  readonly unit: Unit;
  readonly description: string;
}

/** Something that is read when somebody asks. */
export interface Instrument extends Named {
  /** A counter never goes back; values of an up-down counter can be added up, those of a gauge cannot. */
  readonly kind: "counter" | "upDownCounter" | "gauge";
  /** The values for one program; none where nothing is known. */
  read(program: Reading): readonly Sample[];
}

/** How long something took, each time that it happens. */
export interface DurationInstrument extends Named {
  readonly unit: "s";
}

const states: readonly ServerState[] = [
  "idle",
  "pending",
  "spawning",
  "launched",
  "registered",
  "waiting",
  "started",
  "finalized",
  "warned",
  "killing",
  "stopping",
  "backoff",
  "stopped",
  "finished",
];

/** The sample of a value without labels of its own; none for null. */
function toSamples(value: number | null): readonly Sample[] {
  return value === null ? [] : [{ labels: {}, value }];
}

/** What is read. */
export const instruments: readonly Instrument[] = [
  {
    name: "sam.program.state",
    kind: "upDownCounter",
    unit: "{program}",
    description: "1 for the state that the program is in, 0 for the others.",
    read: ({ status }) =>
      states.map((state) => ({ labels: { state }, value: Number(state === status.state) })),
  },
  {
    name: "sam.program.ready",
    kind: "upDownCounter",
    unit: "{program}",
    description: "1 when the program is started, or healthy by its check, else 0.",
    read: ({ status }) => toSamples(Number(status.ready)),
  },
  {
    name: "sam.instance.id",
    kind: "gauge",
    unit: "{instance}",
    description: "The id of the present instance.",
    read: ({ status }) => toSamples(status.instanceId),
  },
  {
    name: "sam.restart.count",
    kind: "counter",
    unit: "{restart}",
    description: "Restarts by what led to them: the reason of a recovery, or requested.",
    read: ({ restarts }) => [...restarts].map(([reason, value]) => ({ labels: { reason }, value })),
  },
  {
    name: "sam.heartbeat.count",
    kind: "counter",
    unit: "{heartbeat}",
    description:
      "Signs of life by slack: at least this share of the time interval was left, and less than the next; late: none.",
    read: ({ status }) =>
      status.slack.buckets.map(({ from, total }) => ({
        labels: { slack: from === null ? "late" : String(from) },
        value: total,
      })),
  },
  {
    name: "sam.heartbeat.slack",
    kind: "gauge",
    unit: "s",
    description: "The least of the time interval that was left at a sign of life of the instance.",
    read: ({ status }) => toSamples(seconds(status.slack.min)),
  },
  {
    name: "sam.heartbeat.age",
    kind: "gauge",
    unit: "s",
    description: "Time since the last sign of life of the instance.",
    read: ({ status }) => toSamples(seconds(status.heartbeatAge)),
  },
  {
    name: "sam.data.size",
    kind: "upDownCounter",
    unit: "By",
    description: "Data that the program has stored with its server.",
    read: ({ status }) => toSamples(status.dataSize),
  },
  {
    name: "process.memory.usage",
    kind: "upDownCounter",
    unit: "By",
    description: "Resident memory of the program's process.",
    read: ({ memoryBytes }) => toSamples(memoryBytes),
  },
  {
    name: "process.uptime",
    kind: "gauge",
    unit: "s",
    description: "Time since the program's process was started.",
    read: ({ status }) =>
      toSamples(status.spawnedAt === null ? null : seconds(Date.now() - status.spawnedAt)),
  },
];

/** From the last sign of life of an instance that fell silent to the decision to replace it. */
export const detection: DurationInstrument = {
  name: "sam.detection.duration",
  unit: "s",
  description: "From the last sign of life of an instance that fell silent to the decision.",
};

/** From the decision, or the end of an instance, to a next one that is ready. */
export const recovery: DurationInstrument = {
  name: "sam.recovery.duration",
  unit: "s",
  description: "From the decision to replace an instance, or its end, to a next one that is ready.",
};

/** How long things took. */
export const durations: readonly DurationInstrument[] = [detection, recovery];

/** The upper bounds of the buckets of durations, in seconds. */
export const durationBounds: readonly number[] = [
  ...[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
];

function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}
