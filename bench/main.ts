// Measures figures one after the other, prints each row, and writes all rows to a JSON file. A full run of all figures replaces
// docs/performance/figures.json and writes docs/performance.md again.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { root } from "./support/host.ts";
import { thisMachine } from "./support/machine.ts";
import { publish, published, withPublished } from "./support/publish.ts";
import type { Figure, Measurement, Row } from "./support/rows.ts";
import { terminalLine } from "./support/tables.ts";
import { targetsOf } from "./support/targets.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    libsam: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    /** A part of the name of a measurement. */
    only: { type: "string", default: "" },
    /** Replaces the published figures of the same names. */
    publish: { type: "boolean", default: false },
  },
});

/** The files in bench/figures, in the order of the appendix. */
const all = [
  "continuity",
  "heartbeat",
  "cpu",
  "hang",
  "crash",
  "data",
  "startup",
  "many",
  "memory",
  "quorum",
];
const unknown = positionals.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  throw new Error(`no figure is called ${unknown.join(", ")}. The figures are: ${all.join(", ")}.`);
}

const machine = thisMachine();
const rows: Row[] = [];
/** The names of measurements that failed twice. */
const failures: string[] = [];
const seconds: Record<string, number> = {};
const began = performance.now();
const partial = `${root}.build/bench.json`;
for (const name of positionals.length > 0 ? positionals : all) {
  const from = performance.now();
  const figure = await import(`./figures/${name}.js`) as Figure;
  const why = figure.missing?.();
  if (why !== undefined) {
    if (positionals.includes(name)) {
      throw new Error(`the figure "${name}" cannot be measured: ${why}`);
    }
    console.log(`skipped the figure "${name}": ${why}`);
    continue;
  }
  const settings = { depth: values.quick ? "quick" : "full", libsam: values.libsam } as const;
  const wanted = figure.measurements(settings).filter(({ name }) => name.includes(values.only));
  for (const measurement of wanted) {
    for (const row of await rowsOf(measurement)) {
      rows.push(row);
      console.log(terminalLine(row));
    }
    write(partial, rows); // an interrupted run keeps its rows
  }
  seconds[name] = secondsSince(from);
}
const isWhole = !values.quick && values.only === "";
const isPublished = isWhole && (values.publish || positionals.length === 0);
const out = isPublished ? published : partial;
write(out, values.publish ? withPublished(rows) : rows);
if (isPublished) publish();

const targets = rows.flatMap(targetsOf);
const met = targets.filter(({ isMet }) => isMet).length;
console.log(
  `${met} of ${targets.length} targets met in ${secondsSince(began)} s: ${JSON.stringify(seconds)}`,
);
console.log(`written to ${out}`);
if (failures.length > 0) {
  console.log(`these measurements failed twice and have no rows:\n  ${failures.join("\n  ")}`);
  process.exitCode = 1;
}

/** Repeats a measurement that fails, once: a chance failure does not spoil a run. */
async function rowsOf(measurement: Measurement): Promise<Row[]> {
  for (let attempt = 1; attempt <= 2; attempt++) {
    try {
      return await measurement.rows();
    } catch (error) {
      console.log(`${measurement.name} failed, attempt ${attempt}:`, error);
    }
  }
  failures.push(measurement.name);
  return [];
}

function secondsSince(moment: number): number {
  return Math.round((performance.now() - moment) / 1000);
}

function write(file: string, rows: readonly Row[]): void {
  const run = { machine, seconds: secondsSince(began), failures, rows };
  writeFileSync(file, `${JSON.stringify(run, null, 1)}\n`);
}
