// The parts of a figure: each row is one measurement of this library, beside the peers measured in the same run.
import type { Figures } from "./statistics.ts";

/** One measurement. */
export interface Row {
  /** The measured quantity, as in the tables of docs/performance/appendix.md; see names.ts. */
  readonly figure: string;
  /** The circumstances: the transport, the size … */
  readonly case: string;
  /** The runtime of the server and of the program. */
  readonly runtime: string;
  readonly unit: string;
  /** This library. */
  readonly sam: Figures;
  /** The first thing to compare with, measured in the same run. */
  readonly peer?: Peer;
  /** Further peers, and floors: bare runtimes that do the same without this library. */
  readonly others?: readonly Peer[];
  /** The day of the measurement, if it is older than the run. */
  readonly date?: string;
}

/** Figures to compare with. */
export interface Peer {
  readonly name: string;
  readonly figures: Figures;
}

/** The amount of measurement: everything; fewer cases and samples; or only what `npm run bench:check` compares. */
export type Depth = "full" | "quick" | "check";

/** The settings of a run. */
export interface Settings {
  readonly depth: Depth;
  /** The path of the compiled bench/peers/libsam.c. */
  readonly libsam: string;
}

/** A part of a figure that can run alone, and be repeated. */
export interface Measurement {
  readonly name: string;
  rows(): Promise<Row[]>;
}

/** The exports of a file in bench/figures. */
export interface Figure {
  /** Returns the reason why this machine cannot measure the figure; undefined if it can. */
  missing?(): string | undefined;
  measurements(settings: Settings): Measurement[];
}

/** All peers of a row. */
export function peersOf({ peer, others = [] }: Row): readonly Peer[] {
  return peer ? [peer, ...others] : others;
}

/** The figures of one peer; an error if the row does not have it. */
export function figuresOfPeer(row: Row, name: string): Figures {
  const found = peersOf(row).find((peer) => peer.name === name);
  if (!found) throw new Error(`"${row.figure}", ${row.case}: no peer is called "${name}"`);
  return found.figures;
}
