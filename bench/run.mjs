// `npm run bench [-- NAME…]`: bench/NAME.ts, or each of bench/*.ts, one process per file.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { build, install, root } from "../test/support/setup.mjs";

await install(root);
const complaints = await build();
if (complaints !== "") console.error(complaints);

const names = process.argv.length > 2
  ? process.argv.slice(2)
  : readdirSync(import.meta.dirname).filter((file) => file.endsWith(".ts")).sort();
for (const name of names) {
  const file = join(root, ".build/bench", `${name.replace(/\.ts$/, "")}.js`);
  const { status } = spawnSync(process.execPath, ["--expose-gc", file], { stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}
