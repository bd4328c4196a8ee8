// Runs figures one after the other, prints each row as it is there, and writes them all to a JSON file. All figures in
// full are the ones of docs/performance.md, which is written anew.
import { readdirSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { root } from "./support/host.ts";
import { thisMachine } from "./support/machine.ts";
import { publish, published } from "./support/publish.ts";
import { type Figure, type Row, tableLine } from "./support/rows.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    libsam: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
  },
});

const all = readdirSync(new URL("./figures/", import.meta.url))
  .filter((file) => file.endsWith(".js")).map((file) => file.slice(0, -".js".length)).sort();
const unknown = positionals.filter((name) => !all.includes(name));
if (unknown.length > 0) throw new Error(`no figure ${unknown.join()}; there are ${all.join(", ")}`);

const rows: Row[] = [];
const began = performance.now();
for (const name of positionals.length > 0 ? positionals : all) {
  const figure = await import(`./figures/${name}.js`) as Figure;
  const settings = { quick: values.quick, scale: values.quick ? 0.25 : 1, libsam: values.libsam };
  for (const row of await figure.rows(settings)) {
    rows.push(row);
    console.log(tableLine(row));
  }
  write(`${root}.build/bench.json`); // what there is, should the next figure fail
}
const isPublished = !values.quick && positionals.length === 0;
const out = isPublished ? published : `${root}.build/bench.json`;
write(out);
if (isPublished) publish();

function write(file: string): void {
  const seconds = Math.round((performance.now() - began) / 1000);
  const json = JSON.stringify({ machine: thisMachine(), seconds, rows }, null, 1);
  writeFileSync(file, `${json}\n`);
}
const targets = rows.filter(({ target }) => target !== undefined);
const met = targets.filter(({ target }) => target!.met).length;
console.log(`${met} of ${targets.length} targets met; written to ${out}`);
