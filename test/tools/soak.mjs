// A day of supervision in minutes. Fails when memory or file descriptors grow.
//
//   npm run test:soak                          Node 26, Deno and Bun: about ten minutes each on a quiet machine
//   npm run test:soak -- --only node20,bun     some runtimes
//   npm run test:soak -- --part 100            a hundredth of it
//   npm run test:soak -- --soak commands       only the soaks with this word
//
// The driver handles 100,000 recoveries and 10^8 heartbeats over the memory transport, then decodes a million malformed
// frames. Real processes are restarted 2,000 times over each transport that leaves files. Three
// programs are reloaded 1,000 times; every fourth version is broken.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build, install, root, runtimesDir } from "../support/setup.mjs";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "node26,deno,bun" },
    part: { type: "string", default: "1" },
    soak: { type: "string", default: "" },
  },
});
await install(root);
await install(runtimesDir);
const complaints = await build();
if (complaints !== "") {
  console.error(complaints);
  process.exit(1);
}
const { fixtureFor, runtimePath } = await import("../../.build/test/support/runtimes.js");
const { growth, soakFlags } = await import("../../.build/test/support/soak.js");

const of = (whole) => String(Math.ceil(whole / Number(options.part)));
const soaks = [
  ["memory", of(100_000), of(100_000_000)],
  ["frames", of(1_000_000)],
  ["processes", of(2000), "unix"],
  ["processes", of(2000), "shm"],
  ["reloads", of(1000), "commands", "47113"],
  ["reloads", of(1000), "modules", "47113"],
  ["reloads", of(1000), "spare"],
];

/** Runs one soak. Resolves to its report. */
async function soak(runtime, args) {
  const directory = mkdtempSync(join(tmpdir(), "soak-"));
  const output = join(directory, "lines");
  const child = spawn(
    runtimePath(runtime),
    args[0] === "reloads"
      ? [...soakFlags(runtime), fixtureFor(runtime, "faults/soak_reloads"), ...args.slice(1)]
      : [...soakFlags(runtime), fixtureFor(runtime, "faults/soak"), ...args],
    { env: { ...process.env, SAM_TEST_OUTPUT: output }, stdio: ["ignore", "ignore", "inherit"] },
  );
  try {
    const code = await new Promise((resolve) => child.on("exit", resolve));
    if (code !== 0) throw new Error(`${runtime} ${args.join(" ")} ended with ${code}`);
    return readFileSync(output, "utf8").trim().split("\n").map((line) => JSON.parse(line))
      .find(({ event }) => event === "done");
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const mib = (bytes) => (bytes / 2 ** 20).toFixed(1);
let failed = 0;
console.log(
  "| runtime | soak | s | heap, MiB | resident, MiB | descriptors | processes, timers, listeners |\n| --- | --- | --- | --- | --- | --- | --- |",
);
for (const runtime of options.only.split(",")) {
  for (const args of soaks.filter((each) => each.join(" ").includes(options.soak))) {
    const done = await soak(runtime, args);
    const { early, late, seconds } = done;
    const grown = growth(done);
    failed += grown.length;
    const cells = [
      runtime,
      args.join(" "),
      seconds.toFixed(0),
      `${mib(early.heap)} → ${mib(late.heap)}`,
      `${mib(early.rss)} → ${mib(late.rss)}`,
      `${early.descriptors} → ${late.descriptors}`,
      ["processes", "timers", "listeners"].map((what) =>
        what in early ? `${early[what]} → ${late[what]}` : ""
      ).join(", "),
    ];
    console.log(`| ${cells.join(" | ")} |${grown.length > 0 ? ` GROWN: ${grown.join("; ")}` : ""}`);
  }
}
process.exitCode = failed > 0 ? 1 : 0;
