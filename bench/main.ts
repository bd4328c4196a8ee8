// Runs figures one after the other, prints each row as it is there, and writes them all to a JSON file.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { runtimePath } from "../test/support/runtimes.ts";
import { runtimes } from "./support/host.ts";
import { type Figure, type Row, tableLine } from "./support/rows.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    libsam: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    out: { type: "string", default: ".build/bench.json" },
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
}

const version = (command: string, ...words: string[]) =>
  execFileSync(command, words, { encoding: "utf8" }).trim();
const machine = {
  date: new Date().toISOString(),
  seconds: Math.round((performance.now() - began) / 1000),
  cpu: `${cpus().length} × ${cpus()[0]?.model}`,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  kernel: release(),
  system: /^PRETTY_NAME="(.*)"/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1],
  libsam: version("dpkg-query", "-W", "-f", "${Version}", "libsam4"),
  ...Object.fromEntries(runtimes.map((runtime) => {
    const text = version(runtimePath(runtime), "--version");
    return [runtime, /\d+\.\d+\.\d+/.exec(text)?.[0]];
  })),
};
writeFileSync(values.out, `${JSON.stringify({ machine, rows }, null, 1)}\n`);
const targets = rows.filter(({ target }) => target !== undefined);
const met = targets.filter(({ target }) => target!.met).length;
console.log(
  `${met} of ${targets.length} targets met; ${machine.seconds} s; written to ${values.out}`,
);
