// `npm run bench [-- NAME…]` measures the figures in bench/figures, all or the named ones. It prints each row and writes a JSON
// file. `npm run bench:quick` takes fewer cases and samples. `npm run bench:check` compares with the published figures.
// `npm run bench -- --page` writes docs/performance.md and its appendix again from the JSON file. It installs npm packages and
// compiles programs; the C library and a compiler must be installed.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { build, install, offlineDenoConfig, root, runtimesDir } from "../test/support/setup.mjs";

const missing = [
  ["the C library libsam", "/usr/include/corosync/sam.h"],
  ["a C compiler", "/usr/bin/gcc"],
].filter(([, path]) => !existsSync(path));
if (missing.length > 0) {
  for (const [name, path] of missing) console.error(`missing: ${name} (${path})`);
  console.error("On Debian: sudo apt-get install libsam-dev gcc libc6-dev");
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
const errors = await build();
if (errors !== "") {
  console.error(errors);
  process.exit(1);
}
offlineDenoConfig();

mkdirSync(join(root, ".build/bench"), { recursive: true });
const libsam = compile("peers/libsam.c", "-lsam");
compile("programs/tiny_program.c");
const options = program === "page" ? [] : [`--libsam=${libsam}`];
const run = [join(root, `.build/bench/${program}.js`), ...options, ...rest];
process.exitCode = spawnSync(process.execPath, run, { stdio: "inherit" }).status ?? 1;

/** Compiles a C program to .build/bench and returns its path. */
function compile(source, ...libraries) {
  const program = join(root, ".build/bench", basename(source, ".c"));
  const from = join(root, "bench", source);
  const gcc = spawnSync("gcc", ["-O2", "-Wall", "-o", program, from, ...libraries], {
    stdio: "inherit",
  });
  if (gcc.status !== 0) process.exit(1);
  return program;
}
