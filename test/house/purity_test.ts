// Checks in the sources that the core is pure, and that only some rooms use runtime globals.
// architecture_test.ts checks which room imports which.

import { assert, assertEquals } from "@std/assert";
import { test } from "../support/harness.ts";
import { importsOf, namesIn, readSource, sourcesIn } from "../support/sources.ts";

const impure = [
  "Date",
  "Temporal",
  "performance",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
  "clearTimeout",
  "Promise",
  "async",
  "await",
  "Math.random",
  "crypto",
  "Deno",
  "Bun",
  "process",
  "globalThis",
  "global",
  "self",
  "window",
  "require",
  "fetch",
  "console",
  "eval",
  "Function",
  "Worker",
  "WebSocket",
  "Atomics",
  "SharedArrayBuffer",
  "WeakRef",
  "FinalizationRegistry",
];

/** The forbidden things that a file of the core does. */
function impurities(source: string): string[] {
  const outside = importsOf(source).filter((name) => !name.startsWith("."));
  return [...outside, ...namesIn(source, impure)];
}

const runtimeGlobals = ["Deno", "Bun", "process"];

/**
 * The runtime globals and modules that a file outside src/runtime, src/ffi and src/cli/host uses.
 */
function runtimeUses(source: string): string[] {
  const modules = importsOf(source).filter((name) => /^(node:|bun\b|npm:|jsr:|deno:)/.test(name));
  return [...modules, ...namesIn(source, runtimeGlobals)];
}

test("the core imports no package, and uses no clock, timer, random number or runtime", () => {
  const files = sourcesIn("src/core");
  for (const name of ["client/machine", "wire", "server/restart_policy", "server/machine"]) {
    assert(files.includes(`src/core/${name}.ts`), name);
  }
  for (const file of files) assertEquals(impurities(readSource(file)), [], file);
  assertEquals(impurities(readSource("src/errors.ts")), []);
});

test("only src/runtime, src/ffi and src/cli/host use globals and modules of a runtime", () => {
  const files = [...sourcesIn("src"), ...sourcesIn("transports"), "mod.ts"]
    .filter((file) => !/^src\/(runtime|ffi|cli\/host)\//.test(file));
  for (
    const file of [
      "src/supervisor/driver.ts",
      "src/active/initialize.ts",
      "transports/unix.ts",
      "mod.ts",
    ]
  ) {
    assert(files.includes(file), file);
  }
  for (const file of files) assertEquals(runtimeUses(readSource(file)), [], file);
});

test("impure code in the core is found", () => {
  const bad: readonly (readonly [string, string])[] = [
    ['import fs from "node:fs";', "node:fs"],
    ["import 'node:fs'", "node:fs"],
    ["const later = import(name);", "?"],
    ["const at = Date.now();", "Date"],
    ["const at = new Date;", "Date"],
    ["performance.now()", "performance"],
    ["f(setTimeout)", "setTimeout"],
    ["setInterval(f, 1)", "setInterval"],
    ["setImmediate(f)", "setImmediate"],
    ["queueMicrotask(f)", "queueMicrotask"],
    ["return Math\n  .random();", "Math.random"],
    ["const text = `at ${Date.now()} ms`;", "Date"],
    ["const text = `a ${f({ at: performance.now() })} b`;", "performance"],
    ["/* a */ crypto.randomUUID() // b", "crypto"],
    ["Deno.exit()", "Deno"],
    ["new Bun.Glob(x)", "Bun"],
    ["process?.exit()", "process"],
    ["const all = [...process.argv];", "process"],
    ["globalThis.x", "globalThis"],
    ["const fs = require(x);", "require"],
    ["await fetch(url);", "fetch"],
    ["f({ at: Date.now() })", "Date"],
    ["f('it\\'s', Date, 'x')", "Date"],
  ];
  for (const [source, found] of bad) {
    assert(impurities(source).includes(found), source);
  }
  const good = [
    'import type { Signal } from "../signals.ts";',
    'import { SamError } from "../../errors.ts";',
    "// Date.now() would be impure\n/* setTimeout(f) */",
    'const text = "the process ended; Date and performance";',
    "const text = `the process ${name} has ended, process.exit()`;",
    "const table = { fetch: 1, process: 2 };",
    "settings.process = table.fetch; this.#process; row.Date",
    "const processes = myDate + DateTime + $process;",
    "const url = 'https://example.org'; f(x)",
  ];
  for (const source of good) assertEquals(impurities(source), [], source);
});

test("a runtime global in another room is found", () => {
  const bad = [
    "Deno.env.get(name)",
    'if ("a" in b) process.exit(1);',
    "Bun.spawn([])",
    'import { spawn } from "node:child_process";',
    'const fs = await import("node:fs");',
    'export { x } from "bun";',
    'import { dlopen } from "bun:ffi";',
    'import koffi from "npm:koffi";',
  ];
  for (const source of bad) assert(runtimeUses(source).length > 0, source);
  assertEquals(runtimeUses('const text = "run Deno"; // process.env\nchild.process'), []);
});

test("Deno loads no module of node: with the default transport", () => {
  const loaded = new Set<string>();
  const load = (path: string): void => {
    if (loaded.has(path)) return;
    loaded.add(path);
    for (
      const [, name] of readSource(path).matchAll(
        /^(?:import|export) (?!type)(?:[^;]*?from )?"([^"]+)"/gm,
      )
    ) {
      assert(!name!.startsWith("node:"), `${path} loads ${name}`);
      load(new URL(name!, `file:///${path}`).pathname.slice(1));
    }
  };
  for (const entry of ["mod.ts", "src/runtime/deno.ts", "transports/unix.ts"]) load(entry);
  assert(loaded.has("src/runtime/deno_permissions.ts"), [...loaded].join());
  assert(!loaded.has("src/runtime/node.ts"), "an adapter is loaded by name");
  assert(
    !loaded.has("src/supervisor/driver.ts"),
    "the server's side is loaded where there is a server",
  );
});
