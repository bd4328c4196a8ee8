// The targets of the figures about continuity. They apply to an unchanged program on Node behind the option `listen`.
import { continuity, peer } from "./names.ts";
import { figuresOfPeer, type Row } from "./rows.ts";
import type { Goal } from "./targets.ts";

/** The time that a recovery may add to the start of the bare runtime, in milliseconds. */
const extraMs = 100;

/** The heading of the appendix that explains a miss. */
const reason = "Failed requests and long waits";

/** Selects rows of both kinds of clients, on Node, by the beginning of the case. */
function rowsOf(figures: Readonly<Record<string, string>>, which: RegExp): (row: Row) => boolean {
  return ({ figure, case: name, runtime }) =>
    runtime === "node26" && Object.values(figures).includes(figure) && which.test(name);
}

/** The highest value of a peer in any run. */
function most(row: Row, name: string): number {
  return figuresOfPeer(row, name).max;
}

/** A target that nothing is lost in any run. */
function noneLost(text: string, which: RegExp): Goal {
  return {
    text: `${text}: 0 failed requests`,
    limitText: "0 failed",
    reason,
    appliesTo: rowsOf(continuity.failed, which),
    value: ({ sam }) => sam.max,
    limit: () => 0,
  };
}

/** All targets about continuity, in the order of the appendix. Each applies to the worst run. */
export const continuityGoals: readonly Goal[] = [
  {
    text: "crash, 1 instance behind `listen`: 0 refused requests",
    limitText: "0 refused",
    reason,
    appliesTo: rowsOf(continuity.failed, /^crash, 1 instance/),
    value: (row) => most(row, peer.refused),
    limit: () => 0,
  },
  {
    text: "crash, or hang with 2 instances: failed ≤ connections of the failed instance",
    limitText: "0 failed beyond the connections of the failed instance",
    reason,
    appliesTo: rowsOf(continuity.failed, /^(crash, |hang, 2 instances)/),
    value: (row) => most(row, peer.beyond),
    limit: () => 0,
  },
  {
    text: `crash, 1 instance behind \`listen\`: longest wait ≤ bare start + ${extraMs} ms`,
    limitText: `bare start + ${extraMs} ms`,
    reason,
    appliesTo: rowsOf(continuity.wait, /^crash, 1 instance/),
    value: ({ sam }) => sam.max,
    limit: (row) => figuresOfPeer(row, peer.boot).p50 + extraMs,
  },
  noneLost("reload", /^reload,/),
  noneLost("broken reload", /^broken reload:/),
  noneLost("memory replacement", /^memory replacement,/),
];
