// The tables of docs/performance.md and docs/performance/appendix.md.
import { highlights } from "./highlights.ts";
import type { Machine } from "./machine.ts";
import { isBare, peer, runtimeNames } from "./names.ts";
import { peersOf, type Row } from "./rows.ts";
import type { Figures } from "./statistics.ts";
import { type Goal, goals, replacedResult, type Target, targetsOf } from "./targets.ts";

/** The content of docs/performance/figures.json. */
export interface Run {
  readonly machine: Machine;
  readonly seconds: number;
  /** The names of measurements that failed, and have no rows. */
  readonly failures: readonly string[];
  readonly rows: readonly Row[];
}

const runtimes = Object.keys(runtimeNames);
const runtimeHeads = Object.values(runtimeNames);

/** A cell must fit into a line of a terminal. */
const mostInCell = 80;

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const cells = [head, ...lines].flat();
  const long = cells.find((cell) => cell.length > mostInCell);
  if (long !== undefined) throw new Error(`more than ${mostInCell} characters in a cell: ${long}`);
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...lines.map(line)].join("\n");
}

/** The figures of docs/performance.md, with links to their sections. */
export function overview({ rows }: Run): string {
  const lines = highlights.map(({ heading, cells }) => [
    `[${heading}](#${anchor(heading)})`,
    ...cells(rows),
  ]);
  return table(["", "@x/sam", "alternative", "bare runtime"], lines);
}

/** The machine, the versions and the day. */
export function machineText({ machine, failures, rows }: Run): string {
  const { versions } = machine;
  const list = Object.entries(versions).map(([name, version]) =>
    `${runtimeNames[name] ?? name} ${version}`
  );
  return [
    `Measured on ${
      machine.date.slice(0, 10)
    }: ${machine.cpu}, ${machine.memoryGiB} GiB, ${machine.system},`,
    `Linux ${machine.kernel}; ${list.join(", ")}.`,
    ...failures.map((name) => `A measurement failed and is missing here: ${name}.`),
    ...missingFloors(rows).map((name) =>
      `The floor "${name}" is new in the benchmark. The next full run measures it.`
    ),
  ].join("\n");
}

/** The floors that the benchmark measures, but that an older run does not have. */
function missingFloors(rows: readonly Row[]): string[] {
  const names = new Set(rows.flatMap(peersOf).map(({ name }) => name));
  return Object.values(peer).filter((name) => isBare(name) && !names.has(name));
}

interface AppliedTarget extends Target {
  readonly runtime: string;
}

function appliedTargets({ rows }: Run): AppliedTarget[] {
  return rows.flatMap((row) =>
    targetsOf(row).map((target) => ({ ...target, runtime: row.runtime }))
  );
}

/** The number of targets that were met. */
function targetCount(run: Run): string {
  const all = appliedTargets(run);
  const met = all.filter(({ isMet }) => isMet).length;
  return `${met} of ${all.length} targets were met.`;
}

/** All targets, with one line for each. */
export function targetTable(run: Run): string {
  const all = appliedTargets(run);
  const lines = goals.map((goal) => {
    const some = all.filter((target) => target.goal === goal);
    const cells = runtimes.map((runtime) =>
      verdict(some.filter((target) => target.runtime === runtime))
    );
    const isMissed = some.some(({ isMet }) => !isMet);
    return [goal.text, ...cells, isMissed && goal.reason ? `[why](#${anchor(goal.reason)})` : ""];
  });
  return [targetCount(run), "", table(["target", ...runtimeHeads, ""], lines)].join("\n");
}

function verdict(targets: readonly Target[]): string {
  if (targets.length === 0) return "";
  const part = ({ value, limit }: Target) => limit === 0 ? value : Math.max(0, value / limit);
  const worst = Number(Math.max(...targets.map(part)).toPrecision(3));
  const missed = targets.filter(({ isMet }) => !isMet).length;
  if (missed === 0) return `✓ ${worst}`;
  return `✗ ${worst}${targets.length > 1 ? ` (${missed} of ${targets.length})` : ""}`;
}

/** The targets that replaced earlier ones, with the results of both. */
export function replacedTable({ rows }: Run): string {
  const lines = goals.flatMap((goal) => {
    const { replaces } = goal;
    if (!replaces) return [];
    const some = rows.filter((row) => goal.appliesTo(row));
    const before = some.filter((row) => replacedResult(replaces, row)).length;
    const now = some.flatMap(targetsOf).filter((target) => target.goal === goal && target.isMet);
    const count = some.length;
    return [[
      replaces.text,
      `${before} of ${count}`,
      replaces.newText,
      `${now.length} of ${count}`,
      replaces.why,
    ]];
  });
  const kept = goals.filter(({ replaces }) => !replaces).length;
  return [
    table(["old target", "met", "new target", "met", "reason"], lines),
    "",
    `The other ${kept} targets did not change.`,
  ].join("\n");
}

/** Missed targets without an explanation in the appendix. */
export function unexplained(run: Run, appendix: string): string[] {
  const missed = new Set(appliedTargets(run).filter(({ isMet }) => !isMet).map(({ goal }) => goal));
  return [...missed].filter(({ reason }) =>
    reason === undefined || !appendix.includes(`\n### ${reason}\n`)
  ).map(({ text }) => text);
}

/** The anchor that GitHub gives to a heading. */
function anchor(heading: string): string {
  return heading.toLowerCase().replaceAll(/[^\w\s-]/g, "").replaceAll(" ", "-");
}

/** All rows: a table for each figure. */
export function allFigures({ machine, rows }: Run): string {
  const names = [...new Set(rows.map((row) => row.figure))];
  return names.map((name) => {
    const some = rows.filter((row) => row.figure === name);
    const { unit, date = machine.date } = some[0]!;
    const isOld = date.slice(0, 10) !== machine.date.slice(0, 10);
    const cases = [...new Set(some.map((row) => row.case))];
    const lines = cases.flatMap((which) => caseLines(some.filter((row) => row.case === which)));
    return [
      `### ${name} (${unit})`,
      "",
      ...(isOld ? [`Measured on ${date.slice(0, 10)}.`, ""] : []),
      table(["case", "", ...runtimeHeads], lines),
    ].join("\n");
  }).join("\n\n");
}

/** The lines of one case: this library, its peers, its targets. */
function caseLines(rows: readonly Row[]): string[][] {
  const byRuntime = runtimes.map((runtime) => rows.find((row) => row.runtime === runtime));
  const line = (name: string, cellOf: (row: Row) => string | undefined) => [
    ...["", name],
    ...byRuntime.map((row) => row && cellOf(row) || ""),
  ];
  const peerNames = [...new Set(rows.flatMap(peersOf).map(({ name }) => name))];
  const applied = new Set(rows.flatMap(targetsOf).map(({ goal }) => goal));
  const [[, ...first], ...rest] = [
    line("**@x/sam**", ({ sam }) => cell(sam)),
    ...peerNames.map((name) =>
      line(name, (row) => {
        const found = peersOf(row).find((peer) => peer.name === name);
        return found && cell(found.figures);
      })
    ),
    ...[...applied].map((goal: Goal) =>
      line(`target: ${goal.limitText}`, (row) => {
        const target = targetsOf(row).find((target) => target.goal === goal);
        return target &&
          `${target.isMet ? "✓" : "✗"} ${target.value} ${target.isMet ? "≤" : ">"} ${target.limit}`;
      })
    ),
  ] as [string[], ...string[][]];
  return [[rows[0]!.case, ...first], ...rest];
}

function cell({ n, p50, p90, p99, min, max }: Figures): string {
  if (min === max) return `${p50}`;
  return n < fewest ? `${p50} (${min} to ${max})` : `${p50} (${p90}, ${p99})`;
}

/** A 99th percentile of fewer samples says nothing. */
const fewest = 5;

/** A row for the terminal. */
export function terminalLine(row: Row): string {
  const beside = peersOf(row).map(({ name, figures }) => `; ${name} ${cell(figures)}`).join("");
  const results = targetsOf(row).map(({ goal, value, limit, isMet }) =>
    `; ${isMet ? "met" : "MISSED"}: ${goal.limitText}: ${value} ${isMet ? "<=" : ">"} ${limit}`
  ).join("");
  const name = runtimeNames[row.runtime] ?? row.runtime;
  return `${row.figure}, ${row.case}, ${name}: ${cell(row.sam)} ${row.unit}${beside}${results}`;
}

/** The content of docs/performance/checks.json: the results of repeated runs of `npm run bench:check`. */
export interface CheckRuns {
  readonly date: string;
  readonly factor: number;
  readonly attempts: number;
  readonly runs: readonly CheckRun[];
}

/** The result of one run of `npm run bench:check`. */
export interface CheckRun {
  /** True if both cores were kept busy. */
  readonly busy: boolean;
  readonly seconds: number;
  /** The number of ratios that were compared. */
  readonly compared: number;
  /** The number of ratios that looked slow in the first attempt. */
  readonly remeasured: number;
  /** The names of the ratios that were slow in each attempt. */
  readonly slow: readonly string[];
}

/** The results of repeated runs of `npm run bench:check`. */
export function checkTable({ date, factor, attempts, runs }: CheckRuns): string {
  const lines = runs.map(({ busy, seconds, compared, remeasured, slow }, nth) => [
    `${nth + 1}`,
    busy ? "yes" : "no",
    `${seconds} s`,
    `${compared}`,
    `${remeasured}`,
    slow.length === 0 ? "passed" : `failed (${slow.length})`,
  ]);
  return [
    `${runs.length} runs on ${date}. A ratio fails if it is above ${factor} × the published one in ${attempts} attempts.`,
    "",
    table(["run", "busy cores", "duration", "ratios", "measured again", "result"], lines),
  ].join("\n");
}
