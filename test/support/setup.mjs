// Prepares a checkout: installs the packages, compiles dist/ and .build/. Prints nothing unless
// something fails or takes long. Runs on Node 20 with nothing installed: `node
// test/support/setup.mjs`.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { extractExamples } from "./examples.mjs";

export const root = resolve(import.meta.dirname, "../..");
export const runtimesDir = join(root, "test/runtimes");
const runtimes = join(runtimesDir, "node_modules");
/** The executables of the runtimes, once `runtimesDir` is installed. */
export const runtimePaths = {
  node20: join(runtimes, "node-20/bin/node"),
  node22: join(runtimes, "node-22/bin/node"),
  node24: join(runtimes, "node-24/bin/node"),
  node26: join(runtimes, "node-26/bin/node"),
  deno: process.env.SAM_TEST_DENO ?? join(runtimes, "@deno/linux-x64-glibc/deno"),
  bun: join(runtimes, "@oven/bun-linux-x64/bin/bun"),
};

/** Runs a command to its end; resolves to { code, output }. */
export function run(command, args, { cwd = root, env = process.env } = {}) {
  return new Promise((done) => {
    const child = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => output += text);
    }
    child.on("error", (error) => done({ code: 127, output: `${command}: ${error.message}\n` }));
    child.on("close", (code, signal) => done({ code: code ?? signal, output }));
  });
}

/** `npm ci`, when node_modules is missing or was not made from this lock file. */
export async function install(directory) {
  const digest = createHash("sha256").update(readFileSync(join(directory, "package-lock.json")))
    .digest("hex");
  const stamp = join(directory, "node_modules/.installed");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return;
  console.error(`Installing packages of ${directory} …`);
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  if (directory === runtimesDir) args.push("--no-bin-links");
  const { code, output } = await run("npm", args, { cwd: directory });
  if (code !== 0) throw new Error(`npm ci failed in ${directory} (${code})\n${output}`);
  writeFileSync(stamp, digest);
}

/** Compiles to dist/ (the package) and .build/ (everything). Resolves to the compiler's complaints, or "". */
export async function build() {
  extractExamples(root);
  const results = await Promise.all([
    run("npm", ["run", "--silent", "build"]),
    run(join(root, "node_modules/.bin/tsc"), ["-p", "tsconfig.test.json"]),
  ]);
  return results.filter(({ code }) => code !== 0).map(({ output }) => output).join("");
}

/**
 * Path of a deno.json in .build/: the committed one, except that jsr:@std/assert is the copy in
 * test/support/std-assert, which needs no network.
 */
export function offlineDenoConfig() {
  const { imports, compilerOptions, nodeModulesDir } = JSON.parse(
    readFileSync(join(root, "deno.json"), "utf8"),
  );
  const moved = Object.entries(imports).map(([name, target]) => [
    name,
    target.startsWith("./") ? `../../${target.slice(2)}` : target,
  ]);
  const config = {
    imports: Object.fromEntries(moved),
    compilerOptions,
    nodeModulesDir,
    lock: false,
    links: ["../../test/support/std-assert"],
  };
  const directory = join(root, ".build/deno");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "deno.json"), JSON.stringify(config, null, 2));
  return join(directory, "deno.json");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await install(root);
  const complaints = await build();
  if (complaints !== "") {
    console.error(complaints);
    process.exit(1);
  }
}
