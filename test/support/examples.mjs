// Turns every TypeScript example of the README, the docs and the doc comments into a program in test/generated/, with
// the package's name replaced by its sources. The compiler checks all of them. test/house/examples_test.ts runs them.
//
//   ```ts            runs to its end, with exit status 0
//   ```ts serves     prints something, then goes on until it is stopped, or ends by itself
//   ```ts cluster    like `serves`, on a node of Corosync (test/cluster/examples_test.ts)
//   ```ts imported   is imported or started by a test of its own
//
// An example that begins with the comment `// name.ts` becomes test/generated/name.ts. Tests and other examples can
// import it.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const folders = ["docs", "src", "transports"];

/** Writes the programs, and test/generated/examples.json, their list. */
export function extractExamples(root) {
  const target = join(root, "test/generated");
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  const files = [
    "README.md",
    "mod.ts",
    ...folders.flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true })
        .map((name) => join(folder, name))
        .filter((name) => /\.(md|ts)$/.test(name))
        .sort()
    ),
  ];
  const examples = [];
  for (const file of files) {
    const text = readFileSync(join(root, file), "utf8");
    const blocks = text.matchAll(/^((?: {3}| )\* |)```ts(?: ([\w-]+))?\n([\s\S]*?)^\1```$/gm);
    for (const [, margin, kind = "runs", body] of blocks) {
      const own = /^ *(?:\* )?\/\/ (\w+)\.ts\b/.exec(body)?.[1];
      const name = own ?? `${file.replace(/\W+/g, "_")}_${examples.length}`;
      const lines = body.split("\n").map((line) =>
        line.startsWith(margin.trimEnd()) ? line.slice(margin.length) : line
      );
      const code = lines.join("\n")
        .replace(/"@x\/sam\/(corosync|metrics|testing)"/g, '"../../src/$1/mod.ts"')
        .replaceAll('"@x/sam/otel"', '"../../src/metrics/otel.ts"')
        .replaceAll('"@x/sam/cli"', '"../../src/cli/main.ts"')
        .replaceAll('"@x/sam"', '"../../mod.ts"');
      writeFileSync(join(target, `${name}.ts`), `${code}\nexport {};\n`);
      examples.push({ name, file, kind });
    }
  }
  writeFileSync(join(target, "examples.json"), JSON.stringify(examples, null, 2));
  return examples;
}
