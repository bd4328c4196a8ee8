// `npm run bench [-- --quick] [-- NAME…]`: the figures of bench/figures, all or those named; prints a table and writes
// JSON. `npm run bench:check` compares with what was written. Installs and compiles what it needs; the C peer needs
// Debian's libsam-dev and gcc.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { build, install, offlineDenoConfig, root, runtimesDir } from "../test/support/setup.mjs";

await install(root);
await install(runtimesDir);
const complaints = await build();
if (complaints !== "") {
  console.error(complaints);
  process.exit(1);
}
offlineDenoConfig();

mkdirSync(join(root, ".build/bench"), { recursive: true });
if (!existsSync("/usr/include/corosync/sam.h")) {
  console.error("the C peer needs libsam: apt-get install libsam-dev gcc");
  process.exit(1);
}
const libsam = compile("peers/libsam.c", "-lsam");
compile("programs/beater.c");

const [check, ...others] = process.argv.slice(2);
const [program, rest] = check === "--check" ? ["check", others] : ["main", process.argv.slice(2)];
const words = [join(root, `.build/bench/${program}.js`), `--libsam=${libsam}`, ...rest];
process.exitCode = spawnSync(process.execPath, words, { stdio: "inherit" }).status ?? 1;

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
