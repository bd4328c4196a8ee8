// The charts of docs/performance.md: which rows are in which, and what their bars are called.
import type { Bar, BarKind, Group } from "./chart.ts";
import { peersOf, type Row } from "./rows.ts";
import { figuresOf } from "./statistics.ts";

/** A file in docs/performance. */
export interface Chart {
  readonly file: string;
  readonly title: string;
  groups(rows: readonly Row[]): Group[];
}

export const runtimeNames: Readonly<Record<string, string>> = {
  node26: "Node",
  deno: "Deno",
  bun: "Bun",
};

export const charts: readonly Chart[] = [
  {
    file: "heartbeat",
    title: "One heartbeat() in a loop, nanoseconds",
    groups: (rows) => byCase(rows.filter(({ figure }) => figure === "heartbeat()")),
  },
  {
    file: "hang",
    title: "Hang until the warning: later than T = 100 ms by so many milliseconds",
    groups: (rows) => byCase(rows.filter(({ figure }) => figure.startsWith("hang → warning"))),
  },
  {
    file: "crash",
    title: "Crash until register() in the next instance, milliseconds",
    groups: (rows) =>
      byCase(
        rows.filter(({ figure, case: which }) =>
          figure.startsWith("crash → register()") && which.endsWith(", unix")
        ),
        ({ figure }) => figure.endsWith("standby") ? ", standby" : ", no standby",
      ),
  },
  {
    file: "data",
    title: "data.store(), microseconds",
    groups: (rows) => byCase(rows.filter(({ figure }) => figure === "data.store()")),
  },
  {
    file: "many",
    title: "One server, many applications with 10 heartbeats a second each: % of a core",
    groups: (rows) => byCase(rows.filter(({ figure }) => figure.startsWith("one server, many"))),
  },
];

/** A group for each case: this library's bars by runtime, then each other's, once. */
function byCase(rows: readonly Row[], suffix: (row: Row) => string = () => ""): Group[] {
  const cases = [...new Set(rows.map((row) => row.case))];
  return cases.map((which) => {
    const some = rows.filter((row) => row.case === which);
    const ours = some.map((row): Bar => ({
      label: `${runtimeNames[row.runtime]}${suffix(row)}`,
      value: row.ours.p50,
      p99: row.ours.p99,
      kind: "ours",
    }));
    const peers = some.flatMap((row) =>
      peersOf(row).map(({ name, figures }) => ({
        // What is bare is so on one runtime; others are the same whatever this library runs on.
        label: isBare(name) ? `${runtimeNames[row.runtime]}, ${name}` : name,
        kind: (isBare(name) ? "floor" : "peer") as BarKind,
        figures,
      }))
    );
    const labels = [...new Set(peers.map(({ label }) => label))];
    const others = labels.map((label): Bar => {
      const same = peers.filter((peer) => peer.label === label);
      const middle = (values: number[]) => figuresOf(values).p50;
      return {
        label,
        value: middle(same.map(({ figures }) => figures.p50)),
        p99: middle(same.map(({ figures }) => figures.p99)),
        kind: same[0]!.kind,
      };
    });
    const kinds: readonly BarKind[] = ["ours", "peer", "floor"];
    const bars = kinds.flatMap((kind) => [...ours, ...others].filter((bar) => bar.kind === kind));
    return { heading: which, bars };
  });
}

function isBare(name: string): boolean {
  return name.includes("bare") || name === "performance.now()";
}
