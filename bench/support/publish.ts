// From the JSON of a full run to docs: the charts, the tables, and the numbers in the prose.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { chart } from "./chart.ts";
import { charts } from "./charts.ts";
import { claimed } from "./claims.ts";
import { root } from "./host.ts";
import type { Row } from "./rows.ts";
import { type CheckRuns, checkTable, type Run, summary, tables, unexplained } from "./tables.ts";

/** What a full run writes, and `publish` reads. */
export const published: string = `${root}docs/performance/figures.json`;

/** What `npm run bench:check -- --runs=10` writes. */
export const checkRuns: string = `${root}docs/performance/checks.json`;

function lastRun(): Run {
  return JSON.parse(readFileSync(published, "utf8")) as Run;
}

/** All that is published, with `rows` in the place of what it had of their figures; the others keep the day of their measurement. */
export function withPublished(rows: readonly Row[]): Row[] {
  const { machine, rows: before } = lastRun();
  const date = machine.date.slice(0, 10);
  const figures = new Set([...before, ...rows].map(({ figure }) => figure));
  return [...figures].flatMap((figure) => {
    const of = (all: readonly Row[]) => all.filter((row) => row.figure === figure);
    const anew = of(rows);
    return anew.length > 0 ? anew : of(before).map((row) => ({ date, ...row }));
  });
}

/** What is generated, by its path in the checkout. */
function pages(): ReadonlyMap<string, string> {
  const run = lastRun();
  const pages = new Map<string, string>();
  for (const { file, title, groups } of charts) {
    const drawn = groups(run.rows);
    if (drawn.length > 0) pages.set(`docs/performance/${file}.svg`, chart(title, drawn));
  }
  for (const page of ["docs/performance.md", "README.md"]) {
    pages.set(page, claimed(readFileSync(root + page, "utf8"), run.rows));
  }
  let page = pages.get("docs/performance.md")!;
  page = between(page, "targets", summary(run));
  page = between(page, "figures", tables(run));
  if (existsSync(checkRuns)) {
    const checks = JSON.parse(readFileSync(checkRuns, "utf8")) as CheckRuns;
    page = between(page, "checks", checkTable(checks));
  }
  return pages.set("docs/performance.md", page);
}

/** Puts a text between its two marks. */
function between(page: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name}: begin -->\n`, `<!-- ${name}: end -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page has no marks for the ${name}`);
  return `${page.slice(0, from)}${begin}\n${text}\n${page.slice(to)}`;
}

/** Writes all that is generated. */
export function publish(): void {
  mkdirSync(`${root}docs/performance`, { recursive: true });
  for (const [path, text] of pages()) writeFileSync(root + path, text);
}

/** What is wrong with the page: a number was written by hand, or is of another run; a miss is not explained. */
export function complaints(): string[] {
  const generated = pages();
  const stale = [...generated].filter(([path, text]) =>
    !existsSync(root + path) || readFileSync(root + path, "utf8") !== text
  ).map(([path]) => `${path} is not as it is generated; write it by: npm run bench -- --page`);
  const missed = unexplained(lastRun(), generated.get("docs/performance.md")!)
    .map((goal) => `docs/performance.md does not say why this was missed: ${goal}`);
  return [...stale, ...missed];
}
