// What a figure is made of: rows, each of which is one thing measured, beside its peer, with the target where there is one.
import { type Figures, round } from "./statistics.ts";

/** Something measured. */
export interface Row {
  /** What was measured, as in the table of docs/performance.md. */
  readonly figure: string;
  /** Under which circumstances: the transport, the size … */
  readonly case: string;
  /** The runtime, server and program alike. */
  readonly runtime: string;
  readonly unit: string;
  readonly ours: Figures;
  /** What it is measured against, in the same run. */
  readonly peer?: Peer;
  /** Further ones, for the reader. */
  readonly others?: readonly Peer[];
  readonly target?: Target;
}

/** Somebody else's figures, or a bare runtime's. */
export interface Peer {
  readonly name: string;
  readonly figures: Figures;
}

/** What must hold. */
export interface Target {
  readonly text: string;
  readonly met: boolean;
}

/** A target for the medians: ours at most `factor` times the peer's, plus `more`. */
export function atMost(
  ours: Figures,
  factor: number,
  peer: Figures,
  text: string,
  more = 0,
): Target {
  return { text, met: ours.p50 <= factor * peer.p50 + more };
}

/** What a figure is told. */
export interface Settings {
  /** Whether little time shall be taken: fewer cases, too. */
  readonly quick: boolean;
  /** How many samples, as a part of the full number. */
  readonly scale: number;
  /** The compiled C peer. */
  readonly libsam: string;
}

/** One file of bench/figures. */
export interface Figure {
  rows(settings: Settings): Promise<Row[]>;
}

/** A row for people. */
export function tableLine({ figure, case: which, runtime, unit, ours, peer, target }: Row): string {
  const show = ({ p50, p90, p99 }: Figures) => `${p50} (${p90}, ${p99})`;
  const ratio = peer ? ` ratio ${round(ours.p50 / peer.figures.p50)}` : "";
  const beside = peer ? `; ${peer.name} ${show(peer.figures)};${ratio}` : "";
  const goal = target ? `; ${target.met ? "met" : "MISSED"}: ${target.text}` : "";
  return `${figure} · ${which} · ${runtime}: ${show(ours)} ${unit}${beside}${goal}`;
}
