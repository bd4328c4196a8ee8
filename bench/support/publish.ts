// From the JSON of a full run to docs/performance.md: its tables, and its charts.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { chart } from "./chart.ts";
import { root } from "./host.ts";
import type { Machine } from "./machine.ts";
import type { Peer, Row } from "./rows.ts";
import { type Figures, round } from "./statistics.ts";

/** What a full run writes, and `publish` reads. */
export const published: string = `${root}docs/performance/figures.json`;

interface Run {
  readonly machine: Machine;
  readonly rows: readonly Row[];
}

const names: Readonly<Record<string, string>> = { node26: "Node", deno: "Deno", bun: "Bun" };

/** The charts: which rows, and what to call a bar. */
const charts: readonly {
  readonly file: string;
  readonly title: string;
  readonly rows: (row: Row) => boolean;
}[] = [
  {
    file: "heartbeat",
    title: "One heartbeat() in a loop, nanoseconds",
    rows: ({ figure }) => figure === "heartbeat()",
  },
  {
    file: "crash",
    title: "Crash until register() in the next instance, milliseconds",
    rows: ({ figure, case: which }) =>
      figure.startsWith("crash → register()") && which.endsWith(", unix") &&
      !which.includes("NODE_"),
  },
  {
    file: "hang",
    title: "Hang until the warning, later than T = 100 ms by so many milliseconds",
    rows: ({ figure }) => figure.startsWith("hang → warning"),
  },
  {
    file: "many",
    title: "One server, many programs with 10 heartbeats a second each: percent of one core",
    rows: ({ unit }) => unit.startsWith("% of a core"),
  },
  {
    file: "data",
    title: "data.store(), microseconds",
    rows: ({ figure }) => figure === "data.store()",
  },
];

/** Writes docs/performance/*.svg, and the tables between the marks in docs/performance.md. */
export function publish(): void {
  const run = JSON.parse(readFileSync(published, "utf8")) as Run;
  mkdirSync(`${root}docs/performance`, { recursive: true });
  for (const { file, title, rows } of charts) {
    const bars = run.rows.filter(rows).flatMap((row) => [
      { label: `${row.case}, ${names[row.runtime]}`, value: row.ours.p50, ours: true },
      ...[row.peer, ...row.others ?? []].filter((peer): peer is Peer => peer !== undefined)
        .map((peer) => ({ label: peer.name, value: peer.figures.p50, ours: false })),
    ]);
    if (bars.length > 0) writeFileSync(`${root}docs/performance/${file}.svg`, chart(title, bars));
  }
  const page = `${root}docs/performance.md`;
  const text = readFileSync(page, "utf8");
  const marked = /(<!-- figures: begin -->\n)[\s\S]*(<!-- figures: end -->)/;
  if (!marked.test(text)) throw new Error(`${page} has no marks for the figures`);
  writeFileSync(page, text.replace(marked, (_, begin, end) => `${begin}\n${tables(run)}\n${end}`));
}

function tables({ machine, rows }: Run): string {
  const { versions } = machine;
  const list = Object.entries(versions).map(([name, version]) =>
    `${names[name] ?? name} ${version}`
  );
  const figures = [...new Set(rows.map(({ figure }) => figure))];
  return [
    `Measured ${
      machine.date.slice(0, 10)
    } on ${machine.cpu}, ${machine.memoryGiB} GiB, ${machine.system}, Linux ${machine.kernel}; ` +
    `${list.join(", ")}. Each cell: p50 (p90, p99).`,
    ...figures.map((figure) => {
      const unit = rows.find((row) => row.figure === figure)!.unit;
      const lines = rows.filter((row) => row.figure === figure).map(line);
      const head = [
        "| case | runtime | here | peer | ratio | target |",
        "| --- | --- | --- | --- | --- | --- |",
      ];
      return [`### ${figure} (${unit})`, "", ...head, ...lines].join("\n");
    }),
  ].join("\n\n") + "\n";
}

function line({ case: which, runtime, ours, peer, others = [], target }: Row): string {
  const beside = [...(peer ? [peer] : []), ...others]
    .map(({ name, figures }) => `${name} ${cell(figures)}`).join("<br>");
  const ratio = peer ? round(ours.p50 / peer.figures.p50) : "";
  const goal = target ? `${target.met ? "✓" : "✗"} ${target.text}` : "";
  return `| ${which} | ${names[runtime] ?? runtime} | ${
    cell(ours)
  } | ${beside} | ${ratio} | ${goal} |`;
}

function cell({ p50, p90, p99 }: Figures): string {
  return p50 === p99 ? `${p50}` : `${p50} (${p90}, ${p99})`;
}
