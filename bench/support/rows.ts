// What a figure is made of: rows, each of which is one thing measured, beside its peer, with its targets where it has any.
import { type Figures, round } from "./statistics.ts";

/** Something measured. */
export interface Row {
  /** What was measured, as in the tables of docs/performance.md. */
  readonly figure: string;
  /** Under which circumstances: the transport, the size … */
  readonly case: string;
  /** The runtime, server and program alike. */
  readonly runtime: string;
  readonly unit: string;
  readonly ours: Figures;
  /** What it is measured against, in the same run. */
  readonly peer?: Peer;
  /** Further ones: other peers, and the floor under this library. */
  readonly others?: readonly Peer[];
  readonly targets?: readonly Target[];
  /** The day, where it is not that of the run. */
  readonly date?: string;
}

/** Somebody else's figures, or a bare runtime's. */
export interface Peer {
  readonly name: string;
  readonly figures: Figures;
}

/** What must hold. */
export interface Target {
  /** What it is part of: rows with the same goal make one line of the summary. */
  readonly goal: string;
  /** What is compared. */
  readonly what: string;
  readonly value: number;
  readonly limit: number;
  readonly met: boolean;
}

/** A target: a value, in the unit of its row, is at most the limit. */
export function target(goal: string, what: string, value: number, limit: number): Target {
  return { goal, what, value: round(value), limit: round(limit), met: value <= limit };
}

/** How much is measured: all; less of it, fewer times; or what `npm run bench:check` compares. */
export type Depth = "full" | "quick" | "check";

/** What a figure is told. */
export interface Settings {
  readonly depth: Depth;
  /** The compiled C peer. */
  readonly libsam: string;
}

/** A part of a figure that can be taken alone, and again. */
export interface Measurement {
  readonly name: string;
  rows(): Promise<Row[]>;
}

/** One file of bench/figures. */
export interface Figure {
  /** Why it cannot be measured here; undefined where it can. */
  missing?(): string | undefined;
  measurements(settings: Settings): Measurement[];
}

/** All that stands beside a row. */
export function peersOf({ peer, others = [] }: Row): readonly Peer[] {
  return peer ? [peer, ...others] : others;
}

/** A row for people. */
export function tableLine(row: Row): string {
  const { figure, case: which, runtime, unit, ours, targets = [] } = row;
  const show = ({ p50, p90, p99 }: Figures) => `${p50} (${p90}, ${p99})`;
  const beside = peersOf(row).map(({ name, figures }) => `; ${name} ${show(figures)}`).join("");
  const goals = targets.map(({ what, value, limit, met }) =>
    `; ${met ? "met" : "MISSED"}: ${what} ${value} <= ${limit}`
  ).join("");
  return `${figure} · ${which} · ${runtime}: ${show(ours)} ${unit}${beside}${goals}`;
}
