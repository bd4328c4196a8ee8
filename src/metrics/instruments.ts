/** The metrics as one table, for Prometheus and OpenTelemetry. Names and units are those of OpenTelemetry. */
import type { ServerState } from "../core/server/types.ts";
import type { SupervisorStatus } from "../api/events.ts";

/** A unit of OpenTelemetry (UCUM): seconds, bytes, or in braces the things that are counted. */
export type Unit = "s" | "By" | `{${string}}`;

/** One value of an instrument. Its labels distinguish it from the other values. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The state of a program at the moment of a reading. */
export interface Reading {
  readonly name: string;
  readonly status: SupervisorStatus;
  /** Resident memory; null if it is not known. */
  readonly memoryBytes: number | null;
  /** The number of restarts by reason. */
  readonly restarts: ReadonlyMap<string, number>;
  /** The number of workers of node:cluster that were killed because they stopped responding. */
  readonly killedMembers: number;
}

/** The properties that all instruments have. */
interface Described {
  readonly name: string;
  readonly unit: Unit;
  readonly description: string;
}

/** A value that is read on demand. */
export interface Instrument extends Described {
  /** A counter never decreases. The values of an up-down counter can be added up, those of a gauge cannot. */
  readonly kind: "counter" | "upDownCounter" | "gauge";
  /** Returns the values for one program; none if they are not known. */
  read(program: Reading): readonly Sample[];
}

/** A duration that is recorded each time it is measured. */
export interface DurationInstrument extends Described {
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

/** Returns one sample without labels, or none for null. */
function toSamples(value: number | null): readonly Sample[] {
  return value === null ? [] : [{ labels: {}, value }];
}

export const instruments: readonly Instrument[] = [
  {
    name: "sam.program.state",
    kind: "upDownCounter",
    unit: "{program}",
    description: "1 for the current state of the program, 0 for every other state.",
    read: ({ status }) =>
      states.map((state) => ({ labels: { state }, value: Number(state === status.state) })),
  },
  {
    name: "sam.program.ready",
    kind: "upDownCounter",
    unit: "{program}",
    description: "1 if the program is ready, otherwise 0.",
    read: ({ status }) => toSamples(Number(status.ready)),
  },
  {
    name: "sam.instance.id",
    kind: "gauge",
    unit: "{instance}",
    description: "Number of the current instance; the first is 1.",
    read: ({ status }) => toSamples(status.instanceId),
  },
  {
    name: "sam.restart.count",
    kind: "counter",
    unit: "{restart}",
    description:
      "Restarts for each reason; 'requested' is sam restart, sam reload, or a restart together with another program; 'memory' and 'age' are the limits.",
    read: ({ restarts }) => [...restarts].map(([reason, value]) => ({ labels: { reason }, value })),
  },
  {
    name: "sam.heartbeat.count",
    kind: "counter",
    unit: "{heartbeat}",
    description:
      "Heartbeats by slack: the label is the smallest share of the time interval left in its bucket; 'late' means after the deadline.",
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
    description:
      "Shortest time from a heartbeat of the current instance to its deadline; negative if one came late.",
    read: ({ status }) => toSamples(seconds(status.slack.min)),
  },
  {
    name: "sam.heartbeat.age",
    kind: "gauge",
    unit: "s",
    description: "Time since the last heartbeat of the instance.",
    read: ({ status }) => toSamples(seconds(status.heartbeatAge)),
  },
  {
    name: "sam.member.active",
    kind: "upDownCounter",
    unit: "{member}",
    description: "Workers of node:cluster that are watched.",
    read: ({ status }) => toSamples(status.members.length),
  },
  {
    name: "sam.member.killed",
    kind: "counter",
    unit: "{member}",
    description: "Workers of node:cluster that were killed because they stopped responding.",
    read: ({ killedMembers }) => toSamples(killedMembers),
  },
  {
    name: "sam.data.size",
    kind: "upDownCounter",
    unit: "By",
    description: "Data that the program has stored in the SAM server.",
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
    description: "Time since the program's process started.",
    read: ({ status }) =>
      toSamples(status.spawnedAt === null ? null : seconds(Date.now() - status.spawnedAt)),
  },
];

export const detection: DurationInstrument = {
  name: "sam.detection.duration",
  unit: "s",
  description:
    "Duration of a hang, from the last heartbeat of the instance until SAM decided to replace it.",
};

export const recovery: DurationInstrument = {
  name: "sam.recovery.duration",
  unit: "s",
  description:
    "Time from the decision to replace an instance, or from its end, until the next one is ready.",
};

export const durations: readonly DurationInstrument[] = [detection, recovery];

/** The upper bounds of the histogram buckets for durations, in seconds. */
export const durationBounds: readonly number[] = [
  ...[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
];

function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}
