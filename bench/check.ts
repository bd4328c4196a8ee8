// `npm run bench:check`: fails if something became slower beside the C library than docs/performance/figures.json says, by more
// than a factor. A noisy machine must not make it fail. Therefore both sides are measured in turn, the best sample of each
// side counts (noise only adds time), and a slow ratio is measured again: it fails only if it is slow in each attempt.
//
// `npm run bench:check -- --runs=10` shows that this works: every other run keeps both cores busy. The results go to
// docs/performance/checks.json.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { busyCores } from "./support/busy.ts";
import { figure, peer } from "./support/names.ts";
import { checkRuns, publish, published } from "./support/publish.ts";
import { type Figure, type Measurement, peersOf, type Row } from "./support/rows.ts";
import { round } from "./support/statistics.ts";
import type { CheckRun } from "./support/tables.ts";

/** A ratio fails if it is higher than the published one by this factor. */
const factor = 3;
const attempts = 5;

/** The names of libsam's figures in the rows. */
const libsamPeers: readonly string[] = [peer.hcSend, peer.dataStore, peer.libsam];

const { values } = parseArgs({
  options: {
    libsam: { type: "string", default: "" },
    runs: { type: "string", default: "1" },
    /** A part of the name of a measurement. */
    only: { type: "string", default: "" },
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
    `compared ${run.compared} ratios in ${run.seconds} s: measured ${run.remeasured} again, ` +
      `${run.slow.length} are slow`,
  );
  for (const name of run.slow) {
    console.log(
      `  more than ${factor} × the published ratio to libsam in ${attempts} attempts: ${name}`,
    );
  }
}
if (runs.some(({ slow }) => slow.length > 0)) process.exitCode = 1;
if (count > 1) {
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(checkRuns, `${JSON.stringify({ date, factor, attempts, runs }, null, 1)}\n`);
  publish();
}

/** Compares all ratios once. */
async function check(busy: boolean): Promise<CheckRun> {
  const began = performance.now();
  const run = { busy, seconds: 0, compared: 0, remeasured: 0, slow: [] as string[] };
  const stop = busy ? await busyCores() : () => {};
  try {
    for (const name of ["heartbeat", "data", "hang", "crash"]) {
      const { measurements } = await import(`./figures/${name}.js`) as Figure;
      for (const measurement of measurements(settings)) {
        if (measurement.name.includes(values.only)) await compare(measurement, run);
      }
    }
  } finally {
    stop();
  }
  return { ...run, seconds: Math.round((performance.now() - began) / 1000) };
}

/** Adds the names of the ratios that are slow in each attempt. A measurement that fails in each attempt counts as slow. */
async function compare(
  measurement: Measurement,
  run: { compared: number; remeasured: number; slow: string[] },
): Promise<void> {
  let suspects: readonly string[] | undefined;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const rows = await rowsOf(measurement);
    if (!rows) continue;
    const slow = rows.filter(isSlow).map(nameOf);
    if (!suspects) {
      run.compared += rows.length;
      run.remeasured += slow.length;
    }
    const before: readonly string[] = suspects ?? slow;
    suspects = slow.filter((name) => before.includes(name));
    if (suspects.length === 0) return;
  }
  run.slow.push(...suspects ?? [measurement.name]);
}

async function rowsOf(measurement: Measurement): Promise<Row[] | undefined> {
  try {
    return (await measurement.rows()).filter((row) => libsamPeer(row));
  } catch (error) {
    console.log(`${measurement.name} failed:`, error);
    return undefined;
  }
}

function isSlow(row: Row): boolean {
  const before = known.find((each) => nameOf(each) === nameOf(row));
  if (!before) throw new Error(`${nameOf(row)} is not in ${published}. Run: npm run bench`);
  const [now, then] = [ratio(row), ratio(before)];
  const slow = now > factor * then;
  console.log(`${slow ? "slow" : "ok  "} ${nameOf(row)}: ${round(now)}, published ${round(then)}`);
  return slow;
}

function libsamPeer(row: Row) {
  return peersOf(row).find(({ name }) => libsamPeers.includes(name));
}

/** This library's figure divided by libsam's. */
function ratio(row: Row): number {
  const { figures } = libsamPeer(row)!;
  // The lateness of a warning varies by chance, and is below the 1 ms resolution of a runtime's timer.
  if (row.figure === figure.hang) return (row.sam.p50 + 1) / (figures.p50 + 1);
  return row.sam.min / figures.min;
}
