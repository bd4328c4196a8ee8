// What happens inside a process is measured by mitata (programs/heartbeat.ts), what happens between processes by drivers of
// our own. Runs figures one after the other, prints each row as it is there, and writes them all to a JSON file. All figures in
// full are the ones of docs/performance.md, which is written anew.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { root } from "./support/host.ts";
import { thisMachine } from "./support/machine.ts";
import { publish, published, withPublished } from "./support/publish.ts";
import { type Figure, type Measurement, type Row, tableLine } from "./support/rows.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    libsam: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    only: { type: "string", default: "" }, // a part of the name of a measurement
    publish: { type: "boolean", default: false }, // the figures named take the place of those that are published
  },
});

/** bench/figures, in the order of docs/performance.md. */
const all = ["heartbeat", "cpu", "hang", "crash", "data", "startup", "many", "memory", "quorum"];
const unknown = positionals.filter((name) => !all.includes(name));
if (unknown.length > 0) throw new Error(`no figure ${unknown.join()}; there are ${all.join(", ")}`);

const machine = thisMachine();
const rows: Row[] = [];
/** What could not be measured, and what else took so long. */
const failures: string[] = [];
const seconds: Record<string, number> = {};
const began = performance.now();
const partial = `${root}.build/bench.json`;
for (const name of positionals.length > 0 ? positionals : all) {
  const from = performance.now();
  const figure = await import(`./figures/${name}.js`) as Figure;
  const why = figure.missing?.();
  if (why !== undefined) {
    if (positionals.includes(name)) throw new Error(`"${name}" cannot be measured: ${why}`);
    console.log(`"${name}" is left out: ${why}`);
    continue;
  }
  const settings = { depth: values.quick ? "quick" : "full", libsam: values.libsam } as const;
  const wanted = figure.measurements(settings).filter(({ name }) => name.includes(values.only));
  for (const measurement of wanted) {
    for (const row of await taken(measurement)) {
      rows.push(row);
      console.log(tableLine(row));
    }
    write(partial, rows); // what there is, whatever happens next
  }
  seconds[name] = secondsSince(from);
}
const isWhole = !values.quick && values.only === "";
const isPublished = isWhole && (values.publish || positionals.length === 0);
const out = isPublished ? published : partial;
write(out, values.publish ? withPublished(rows) : rows);
if (isPublished) publish();

const targets = rows.flatMap((row) => row.targets ?? []);
const met = targets.filter((target) => target.met).length;
console.log(
  `${met} of ${targets.length} targets met; ${secondsSince(began)} s: ${JSON.stringify(seconds)}`,
);
console.log(`written to ${out}`);
if (failures.length > 0) {
  console.log(`not measured, because they failed twice:\n  ${failures.join("\n  ")}`);
  process.exitCode = 1;
}

/** A measurement that has failed is made once more: an odd moment does not spoil a run. */
async function taken(measurement: Measurement): Promise<Row[]> {
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
