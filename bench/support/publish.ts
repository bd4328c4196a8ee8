// Writes the generated parts of the documentation from docs/performance/figures.json: tables and charts.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { chart } from "./chart.ts";
import { highlights } from "./highlights.ts";
import { root } from "./host.ts";
import type { Row } from "./rows.ts";
import {
  allFigures,
  type CheckRuns,
  checkTable,
  machineText,
  overview,
  replacedTable,
  type Run,
  targetTable,
  unexplained,
} from "./tables.ts";

/** The file that a full run writes. */
export const published: string = `${root}docs/performance/figures.json`;

/** The file that `npm run bench:check -- --runs=10` writes. */
export const checkRuns: string = `${root}docs/performance/checks.json`;

const folder = "docs/performance";
const page = "docs/performance.md";
const appendix = `${folder}/appendix.md`;

function lastRun(): Run {
  return JSON.parse(readFileSync(published, "utf8")) as Run;
}

/** Replaces the figures of `rows` in the published rows. The other figures keep the day of their measurement. */
export function withPublished(rows: readonly Row[]): Row[] {
  const { machine, rows: before } = lastRun();
  const date = machine.date.slice(0, 10);
  const figures = new Set([...before, ...rows].map(({ figure }) => figure));
  return [...figures].flatMap((figure) => {
    const of = (all: readonly Row[]) => all.filter((row) => row.figure === figure);
    const measured = of(rows);
    return measured.length > 0 ? measured : of(before).map((row) => ({ date, ...row }));
  });
}

/** The content of all generated files, by their paths in the repository. */
function generated(): ReadonlyMap<string, string> {
  const run = lastRun();
  const files = new Map<string, string>();
  for (const { file, title, groups } of highlights) {
    const drawn = groups(run.rows);
    if (drawn.length > 0) files.set(`${folder}/${file}.svg`, chart(title, drawn));
  }
  files.set(page, filled(page, { overview: overview(run) }));
  const checks = existsSync(checkRuns) &&
    checkTable(JSON.parse(readFileSync(checkRuns, "utf8")) as CheckRuns);
  return files.set(
    appendix,
    filled(appendix, {
      machine: machineText(run),
      targets: targetTable(run),
      replaced: replacedTable(run),
      ...(checks && { checks }),
      figures: allFigures(run),
    }),
  );
}

/** The text of a page, with `parts` between their marks: `<!-- NAME: begin -->` and `<!-- NAME: end -->`. */
function filled(path: string, parts: Readonly<Record<string, string>>): string {
  let text = readFileSync(root + path, "utf8");
  for (const [name, part] of Object.entries(parts)) {
    const [begin, end] = [`<!-- ${name}: begin -->\n`, `<!-- ${name}: end -->`];
    const [from, to] = [text.indexOf(begin), text.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`${path} has no marks for "${name}"`);
    text = `${text.slice(0, from)}${begin}\n${part}\n\n${text.slice(to)}`;
  }
  return text;
}

/** The charts in the folder that are not generated any more. */
function oldCharts(files: ReadonlyMap<string, string>): string[] {
  return readdirSync(root + folder).filter((name) => name.endsWith(".svg"))
    .map((name) => `${folder}/${name}`).filter((path) => !files.has(path));
}

/** Writes all generated files. */
export function publish(): void {
  mkdirSync(root + folder, { recursive: true });
  const files = generated();
  for (const [path, text] of files) writeFileSync(root + path, text);
  for (const path of oldCharts(files)) rmSync(root + path);
}

/** The problems of the generated files: a difference from figures.json, or a missed target without an explanation. */
export function complaints(): string[] {
  const files = generated();
  const write = "Run: npm run bench -- --page";
  const stale = [...files].filter(([path, text]) =>
    !existsSync(root + path) || readFileSync(root + path, "utf8") !== text
  ).map(([path]) => `${path} does not match docs/performance/figures.json. ${write}`);
  const old = oldCharts(files).map((path) => `${path} is not a chart of ${page}. ${write}`);
  const charts = highlights.filter(({ file, heading }) =>
    !files.get(page)!.includes(`\n## ${heading}\n`) ||
    !files.get(page)!.includes(`](performance/${file}.svg)`)
  ).map(({ file, heading }) => `${page} has no section "${heading}" with the chart ${file}.svg.`);
  const missed = unexplained(lastRun(), files.get(appendix)!)
    .map((target) => `${appendix} does not explain why this target was missed: ${target}`);
  return [...stale, ...old, ...charts, ...missed];
}
