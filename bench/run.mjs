// `npm run bench [-- NAME…]`: the figures of bench/figures, all or those named; prints a table and writes JSON. `npm run
// bench:quick` takes fewer cases and samples, `npm run bench:check` compares with what was published, `npm run bench --
// --page` writes docs/performance.md anew from the JSON. Installs packages (npm) and compiles what it needs; the C library
// and a compiler must be there: it says how.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { build, install, offlineDenoConfig, root, runtimesDir } from "../test/support/setup.mjs";

const needed = [
  ["the C library to compare with", "/usr/include/corosync/sam.h"],
  ["a C compiler", "/usr/bin/gcc"],
].filter(([, path]) => !existsSync(path));
if (needed.length > 0) {
  for (const [what, path] of needed) console.error(`missing: ${what} (${path})`);
  console.error("on Debian: sudo apt-get install libsam-dev gcc libc6-dev");
  process.exit(1);
}

await install(root);
await install(runtimesDir);
const words = process.argv.slice(2);
const program = ["check", "page"].find((name) => words.includes(`--${name}`)) ?? "main";
const rest = words.filter((word) => word !== `--${program}`);
if (program === "main" && !words.includes("--quick")) {
  await install(join(root, "bench/peers")); // PM2
}
const complaints = await build();
if (complaints !== "") {
  console.error(complaints);
  process.exit(1);
}
offlineDenoConfig();

mkdirSync(join(root, ".build/bench"), { recursive: true });
const libsam = compile("peers/libsam.c", "-lsam");
compile("programs/beater.c");
const options = program === "page" ? [] : [`--libsam=${libsam}`];
const run = [join(root, `.build/bench/${program}.js`), ...options, ...rest];
process.exitCode = spawnSync(process.execPath, run, { stdio: "inherit" }).status ?? 1;

/** Compiles a program in C to .build/bench. */
function compile(source, ...libraries) {
  const program = join(root, ".build/bench", basename(source, ".c"));
  const from = join(root, "bench", source);
  const gcc = spawnSync("gcc", ["-O2", "-Wall", "-o", program, from, ...libraries], {
    stdio: "inherit",
  });
  if (gcc.status !== 0) process.exit(1);
  return program;
}
