// `npm run check`: types, lint, format, words, documentation and packaging. `npm run fmt` (--fix)
// formats first, and writes test/house/messages.txt. `npm run check -- tsc` runs only the checks
// with "tsc" in their names. `npm run docs` is one of them: the API reference, in .build/docs.

import { install, offlineDenoConfig, root, run, runtimesDir } from "../support/setup.mjs";
import { extractExamples } from "../support/examples.mjs";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

await install(root);
await install(runtimesDir);
extractExamples(root);

const deno = process.env.SAM_TEST_DENO ??
  join(runtimesDir, "node_modules/@deno/linux-x64-glibc/deno");
const bin = (name) => join(root, "node_modules/.bin", name);
const { name, exports } = JSON.parse(readFileSync(join(root, "deno.json"), "utf8"));
const entries = Object.values(exports).map((path) => path.replace("./", ""));
const declarations = entries.map((entry) => `dist/${entry.replace(/ts$/, "d.ts")}`);
const folders = ["src", "transports", "test", "bench", "examples"]
  .filter((folder) => existsSync(join(root, folder)));

const fix = process.argv.filter((word) => word === "--fix");
/** A warning fails these checks too, except for imports of packages that only the user names. */
const clean = ["deno publish --dry-run"];
const checks = [
  ["deno fmt --check", deno, ["fmt", "--check"]],
  ["deno lint", deno, ["lint"]],
  ["deno check", deno, ["check", `--config=${offlineDenoConfig()}`, "mod.ts", ...folders]],
  ["deno doc --lint", deno, ["doc", "--lint", ...entries]],
  ["deno doc --html", deno, [
    ...["doc", "--html", `--name=${name}`, "--output=.build/docs"],
    ...entries,
  ]],
  ["docs/performance.md says what was measured", deno, ["run", "-A", "bench/page.ts", "--check"]],
  ["deno publish --dry-run", deno, ["publish", "--dry-run", "--allow-dirty"]],
  ["the mutants can still be made", "node", ["test/tools/mutants.mjs", "--texts"]],
  ["words: comments, docs, messages", "node", ["test/tools/words.mjs", ...fix]],
  ["cspell", bin("cspell"), [
    ...["lint", "--config=test/house/cspell.json", "--no-progress", "--no-summary", "--relative"],
  ]],
  ["tsc (tests)", bin("tsc"), ["-p", "tsconfig.test.json", "--noEmit"]],
  ["tsc (package)", "npm", ["run", "build"]],
  ["tsc (a user without @types/node)", bin("tsc"), [
    ...["--ignoreConfig", "--noEmit", "--strict", "--module", "nodenext", "--types", ""],
    ...["--lib", "ES2023,ESNext.Disposable,DOM", ...declarations],
  ]],
  ["publint", bin("publint"), ["--strict"]],
  ["attw", bin("attw"), ["--pack", ".", "--profile", "esm-only"]],
];
if (fix.length > 0) checks.unshift(["deno fmt", deno, ["fmt"]]);
const part = process.argv.slice(2).find((word) => !word.startsWith("--")) ?? "";
const wanted = checks.filter(([name]) => name.includes(part));
if (wanted.length === 0) throw new Error(`no check is called "${part}"`);

const env = { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", DO_NOT_TRACK: "1" };
let failed = 0;
for (const [name, command, args] of wanted) {
  const { code, output } = await run(command, args, { env });
  const passed = code === 0 &&
    !(clean.includes(name) && /warning\[(?!unanalyzable-dynamic-import)/.test(output));
  console.log(`${passed ? "ok" : "FAILED"}  ${name}`);
  if (passed) continue;
  failed++;
  console.log(output);
}
if (failed > 0) {
  console.log(`${failed} of ${wanted.length} checks failed`);
  process.exitCode = 1;
}
