// `npm run bench:check`: fails when something has become slower beside the C library than docs/performance says, by more
// than a factor. A noisy machine is no reason to fail: both sides are measured in turn, the best sample of each is what
// counts (noise only ever adds), and what looks slow is measured again: only what is slow each time is.
//
// `npm run bench:check -- --runs=10` shows that: it checks so often, every second time with both cores busy, and writes
// how each run ended to docs/performance/checks.json.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { busyCores } from "./support/busy.ts";
import { checkRuns, publish, published } from "./support/publish.ts";
import { type Figure, type Measurement, peersOf, type Row } from "./support/rows.ts";
import { round } from "./support/statistics.ts";
import type { CheckRun } from "./support/tables.ts";

/** So many times the published ratio is too much. */
const factor = 3;
const attempts = 5;

/** Who is compared with, by the names that libsam has in the tables. */
const originals = ["sam_hc_send", "sam_data_store", "libsam"];

const { values } = parseArgs({
  options: {
    libsam: { type: "string", default: "" },
    runs: { type: "string", default: "1" },
    only: { type: "string", default: "" }, // a part of the name of a measurement
  },
});
const settings = { depth: "check", libsam: values.libsam } as const;
const known = (JSON.parse(readFileSync(published, "utf8")) as { rows: Row[] }).rows;
const nameOf = ({ figure, case: which, runtime }: Row) => `${figure} · ${which} · ${runtime}`;

const count = Number(values.runs);
const runs: CheckRun[] = [];
for (let nth = 1; nth <= count; nth++) {
  const run = await check(nth % 2 === 0);
  runs.push(run);
  console.log(
    `${run.compared} ratios compared in ${run.seconds} s, ${run.again} looked slow at first, ` +
      `${run.slow.length} are`,
  );
  for (const name of run.slow) {
    console.log(`  ${attempts} times more than ${factor} × the published ratio to libsam: ${name}`);
  }
}
if (runs.some(({ slow }) => slow.length > 0)) process.exitCode = 1;
if (count > 1) {
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(checkRuns, `${JSON.stringify({ date, factor, attempts, runs }, null, 1)}\n`);
  publish();
}

/** Compares everything once. */
async function check(busy: boolean): Promise<CheckRun> {
  const began = performance.now();
  const run = { busy, seconds: 0, compared: 0, again: 0, slow: [] as string[] };
  const stop = busy ? await busyCores() : () => {};
  try {
    for (const name of ["heartbeat", "data", "hang", "crash"]) {
      const figure = await import(`./figures/${name}.js`) as Figure;
      for (const measurement of figure.measurements(settings)) {
        if (measurement.name.includes(values.only)) await compare(measurement, run);
      }
    }
  } finally {
    stop();
  }
  return { ...run, seconds: Math.round((performance.now() - began) / 1000) };
}

/** Adds the names of what is slow in each attempt; what fails in each is slow as a whole. */
async function compare(
  measurement: Measurement,
  run: { compared: number; again: number; slow: string[] },
): Promise<void> {
  let suspects: readonly string[] | undefined;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const rows = await rowsOf(measurement);
    if (!rows) continue;
    const slow = rows.filter(isSlow).map(nameOf);
    if (!suspects) {
      run.compared += rows.length;
      run.again += slow.length;
    }
    const before: readonly string[] = suspects ?? slow;
    suspects = slow.filter((name) => before.includes(name));
    if (suspects.length === 0) return;
  }
  run.slow.push(...suspects ?? [measurement.name]);
}

async function rowsOf(measurement: Measurement): Promise<Row[] | undefined> {
  try {
    return (await measurement.rows()).filter((row) => original(row));
  } catch (error) {
    console.log(`${measurement.name} failed:`, error);
    return undefined;
  }
}

function isSlow(row: Row): boolean {
  const before = known.find((each) => nameOf(each) === nameOf(row));
  if (!before) throw new Error(`${nameOf(row)} is not in ${published}: npm run bench`);
  const [now, then] = [ratio(row), ratio(before)];
  const slow = now > factor * then;
  console.log(`${slow ? "slow" : "ok  "} ${nameOf(row)}: ${round(now)}, published ${round(then)}`);
  return slow;
}

function original(row: Row) {
  return peersOf(row).find(({ name }) => originals.includes(name));
}

/** This library's figure, as so many of libsam's. */
function ratio(row: Row): number {
  const { figures } = original(row)!;
  // How late a warning is varies with the moment, and is less than the millisecond of a runtime's timer.
  if (row.figure.startsWith("hang")) return (row.ours.p50 + 1) / (figures.p50 + 1);
  return row.ours.min / figures.min;
}
