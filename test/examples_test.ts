// Every example of the README, the docs and the doc comments runs, on this runtime, as its reader would run it.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "./support/harness.ts";
import { withoutLeaks } from "./support/leaks.ts";
import { currentRuntime, fixture, newest, runtimePath, sourceFixture } from "./support/runtimes.ts";

interface Example {
  readonly name: string;
  readonly file: string;
  readonly kind: "runs" | "serves" | "no-run";
}

const list = readFileSync(sourceFixture("../generated/examples").replace(/ts$/, "json"), "utf8");
const examples = JSON.parse(list) as Example[];

test("there are examples in README, docs and doc comments", () => {
  for (const part of ["README.md", "docs/errors.md", "mod.ts", "src/sam.ts"]) {
    assertGreater(examples.filter(({ file }) => file === part).length, 0);
  }
});

for (const { name, file, kind } of examples) {
  if (kind === "no-run") continue; // compiled with all the others
  test(`the example ${name} of ${file} ${kind}`, () =>
    withoutLeaks(async () => {
      const flags = currentRuntime === "deno" ? ["run", "-A", "--no-check", "--no-config"] : [];
      const child = spawn(
        runtimePath(currentRuntime),
        [...flags, fixture(`../generated/${name}`)],
        { stdio: ["ignore", "pipe", "pipe"] },
      );
      let output = "";
      child.stderr.on("data", (text) => output += text);
      child.stdout.on("data", (text) => {
        output += text;
        if (kind === "serves") process.kill(child.pid!, "SIGTERM");
      });
      const code = await new Promise((resolve) => child.on("close", resolve));
      if (kind === "runs") assertEquals(code, 0, output);
      else assert((code === 0 || code === 143) && output !== "", `exit ${code}: ${output}`);
    }), { leg: ["node20", ...newest] });
}
