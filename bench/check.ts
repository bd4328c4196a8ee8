// `npm run bench:check`: fails when something has become slower beside the C library than docs/performance says, by more
// than a factor. A noisy machine is no reason to fail: what looks slow is measured again, and only what is slow each time
// counts. Both sides are measured in turn in the same run, so a slow machine is slow for both.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { rows as dataRows } from "./figures/data.ts";
import { rows as heartbeatRows } from "./figures/heartbeat.ts";
import { published } from "./support/publish.ts";
import type { Row } from "./support/rows.ts";
import { round } from "./support/statistics.ts";

/** So many times the published ratio is too much. */
const factor = 3;
const attempts = 4;

const { values } = parseArgs({
  options: { libsam: { type: "string", default: "" }, quick: { type: "boolean" } },
});
const settings = { quick: true, scale: 0.25, libsam: values.libsam };
const known = (JSON.parse(readFileSync(published, "utf8")) as { rows: Row[] }).rows;

const ratioOf = ({ ours, peer }: Row) => ours.p50 / peer!.figures.p50;
const nameOf = ({ figure, case: which, runtime }: Row) => `${figure} · ${which} · ${runtime}`;

let suspects: ReadonlySet<string> | undefined;
for (let attempt = 1; attempt <= attempts && suspects?.size !== 0; attempt++) {
  const rows = [...await heartbeatRows(settings), ...await dataRows(settings)];
  const slow = rows.filter((row) => row.peer !== undefined).filter((row) => {
    const name = nameOf(row);
    if (suspects && !suspects.has(name)) return false;
    const before = known.find((each) => nameOf(each) === name);
    if (!before) throw new Error(`${name} is not in ${published}: npm run bench`);
    const [now, then] = [ratioOf(row), ratioOf(before)];
    const isSlow = now > factor * then;
    console.log(`${isSlow ? "slow" : "ok  "} ${name}: ${round(now)}, published ${round(then)}`);
    return isSlow;
  });
  suspects = new Set(slow.map(nameOf));
}
if (suspects!.size > 0) {
  console.log(`${attempts} times more than ${factor} × the published ratio:`);
  for (const name of suspects!) console.log(`  ${name}`);
  process.exitCode = 1;
}
