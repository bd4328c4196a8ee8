// The tables of docs/performance.md: one line for each target, and all rows in full.
import { runtimeNames } from "./charts.ts";
import type { Machine } from "./machine.ts";
import { peersOf, type Row, type Target } from "./rows.ts";
import { type Figures, round } from "./statistics.ts";

/** What a run writes. */
export interface Run {
  readonly machine: Machine;
  readonly seconds: number;
  /** Measurements that failed: their rows are missing. */
  readonly failures: readonly string[];
  readonly rows: readonly Row[];
}

/** Which section of the page says why a goal is missed. */
const reasons: readonly (readonly [RegExp, string])[] = [
  [/^server CPU.*shared memory/, "The server's processor time, shared memory"],
  [/^server CPU/, "The server's processor time, Unix socket and pipe"],
  [/^hang → warning/, "Warnings"],
  [/standby: 1/, "A crash with a standby"],
  [/standby: 0/, "A crash without a standby"],
  [/^`data\.store/, "data.store() over a pipe"],
  [/^start-up/, "Start-up"],
  [/^(cost per|1,000) application/, "Many applications"],
  [/^server memory/, "The server's memory"],
  [/^quorum lost/, "Loss of quorum"],
];

/** The section for a goal, if there is one. */
function reasonFor(goal: string): string | undefined {
  return reasons.find(([pattern]) => pattern.test(goal))?.[1];
}

/** What was missed, and the page does not say why. */
export function unexplained({ rows }: Run, page: string): string[] {
  const missed = rows.flatMap(({ targets = [] }) => targets).filter(({ met }) => !met);
  return [...new Set(missed.map(({ goal }) => goal))].filter((goal) => {
    const heading = reasonFor(goal);
    return heading === undefined || !page.includes(`\n### ${heading}\n`);
  });
}

/** One line for each target. */
export function summary({ rows, failures }: Run): string {
  const all = rows.flatMap(({ runtime, targets = [] }) =>
    targets.map((target) => ({ ...target, runtime }))
  );
  const goals = [...new Set(all.map(({ goal }) => goal))];
  const lines = goals.map((goal) => {
    const some = all.filter((target) => target.goal === goal);
    const cells = Object.keys(runtimeNames).map((runtime) =>
      verdict(some.filter((target) => target.runtime === runtime))
    );
    const reason = some.every(({ met }) => met) ? undefined : reasonFor(goal);
    const why = reason === undefined ? "" : `[why](#${anchor(reason)})`;
    return `| ${goal} | ${cells.join(" | ")} | ${why} |`;
  });
  const met = all.filter((target) => target.met).length;
  return [
    `**${met} of ${all.length} targets were met.** ✓ met, ✗ missed; the number is the worst case, as a part of what was ` +
    "allowed: 0.5 is half of it, 2 is twice as much.",
    ...failures.map((name) => `Not measured in this run, because it failed: ${name}.`),
    [
      `| target | ${Object.values(runtimeNames).join(" | ")} | |`,
      "| --- | --- | --- | --- | --- |",
      ...lines,
    ].join("\n"),
  ].join("\n\n") + "\n";
}

function verdict(targets: readonly Target[]): string {
  if (targets.length === 0) return "";
  const part = ({ value, limit }: Target) => limit > 0 ? Math.max(0, value / limit) : value;
  const worst = Number(Math.max(...targets.map(part)).toPrecision(3));
  const missed = targets.filter(({ met }) => !met).length;
  if (missed === 0) return `✓ ${worst}`;
  return `✗ ${worst}${targets.length > 1 ? ` (${missed} of ${targets.length})` : ""}`;
}

/** As GitHub makes the anchor of a heading. */
function anchor(heading: string): string {
  return heading.toLowerCase().replaceAll(/[^\w\s-]/g, "").replaceAll(" ", "-");
}

/** Every row. */
export function tables({ machine, rows }: Run): string {
  const { versions } = machine;
  const today = machine.date.slice(0, 10);
  const list = Object.entries(versions).map(([name, version]) =>
    `${runtimeNames[name] ?? name} ${version}`
  );
  const figures = [...new Set(rows.map(({ figure }) => figure))];
  return [
    `Measured ${today} on ${machine.cpu}, ${machine.memoryGiB} GiB, ${machine.system}, ` +
    `Linux ${machine.kernel}; ${list.join(", ")}. Each cell: p50 (p90, p99).`,
    ...figures.map((figure) => {
      const { unit, date } = rows.find((row) => row.figure === figure)!;
      const lines = rows.filter((row) => row.figure === figure).map(line);
      const head = [
        "| case | runtime | here | beside it | ratio | target |",
        "| --- | --- | --- | --- | --- | --- |",
      ];
      const isNew = date === undefined || date === today;
      const when = isNew ? [] : [`Measured ${date}, and not again since.`, ""];
      return [`### ${figure} (${unit})`, "", ...when, ...head, ...lines].join("\n");
    }),
  ].join("\n\n") + "\n";
}

function line(row: Row): string {
  const { case: which, runtime, ours, peer, targets = [] } = row;
  const beside = peersOf(row).map(({ name, figures }) => `${name} ${cell(figures)}`).join("<br>");
  const ratio = peer && peer.figures.p50 > 0 ? round(ours.p50 / peer.figures.p50) : "";
  const goals = targets.map(({ what, value, limit, met }) =>
    `${met ? "✓" : "✗"} ${what}: ${value} ≤ ${limit}`.replace("≤", met ? "≤" : ">")
  ).join("<br>");
  const name = runtimeNames[runtime] ?? runtime;
  return `| ${which} | ${name} | ${cell(ours)} | ${beside} | ${ratio} | ${goals} |`;
}

function cell({ n, p50, p90, p99 }: Figures): string {
  return n === 1 ? `${p50}` : `${p50} (${p90}, ${p99})`;
}

/** How `npm run bench:check` ended, each time. */
export interface CheckRuns {
  readonly date: string;
  readonly factor: number;
  readonly attempts: number;
  readonly runs: readonly CheckRun[];
}

/** One of them. */
export interface CheckRun {
  /** Whether both cores were kept busy. */
  readonly busy: boolean;
  readonly seconds: number;
  /** So many ratios. */
  readonly compared: number;
  /** So many of them looked slow at first. */
  readonly again: number;
  /** The names of those that were slow each time. */
  readonly slow: readonly string[];
}

/** A line for each run of the check. */
export function checkTable({ date, factor, attempts, runs }: CheckRuns): string {
  const lines = runs.map(({ busy, seconds, compared, again, slow }, nth) =>
    `| ${nth + 1} | ${busy ? "yes" : "no"} | ${seconds} | ${compared} | ${again} | ${
      slow.length === 0 ? "passed" : `failed: ${slow.join("; ")}`
    } |`
  );
  return [
    `Run ${runs.length} times on ${date}; worse than ${factor} × the published ratio, ${attempts} times in a row, fails:`,
    "",
    "| run | both cores busy | seconds | ratios | looked slow at first | |",
    "| --- | --- | --- | --- | --- | --- |",
    ...lines,
  ].join("\n") + "\n";
}
