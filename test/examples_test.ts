// Every example of the README, the docs and the doc comments runs, on this runtime, as its reader would run it.
import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkConfig } from "../src/cli/config.ts";
import { flagOf, optionFlags, parseText, programFlags, Settings } from "../src/cli/flags.ts";
import { remoteOptions } from "../src/cli/remote.ts";
import { runOptions } from "../src/cli/run.ts";
import { parseWords } from "../src/cli/words.ts";
import { test } from "./support/harness.ts";
import { withoutLeaks } from "./support/leaks.ts";
import {
  currentRuntime,
  documentation,
  fixture,
  newest,
  runtimePath,
  sourceFixture,
} from "./support/runtimes.ts";

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

/** The words of a line, as a shell takes it apart, up to a comment. */
function wordsOf(line: string): string[] {
  return [...line.replace(/ +#.*$/, "").matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)]
    .map(([, single, double, bare]) => single ?? double ?? bare!);
}

test("every command of sam in README and docs is one that it takes", () => {
  const pages = readdirSync(documentation, { recursive: true })
    .map((name) => `docs/${name}`).filter((name) => name.endsWith(".md"));
  const start = /(?:npx|bunx|deno run -A|)\s*(?:jsr:|)(?:@x\/|)sam(?:\/cli|)/.source;
  const command = `${start} ((?:run|status|events|restart|stop|signal|completion)\\b.*)`;
  let runs = 0;
  for (const name of ["README.md", ...pages]) {
    const text = readFileSync(join(documentation, "..", name), "utf8");
    const blocks = [...text.matchAll(/^ *```sh\n([^]*?)^ *```$/gm)].map(([, block]) => block!);
    const lines = [
      ...blocks.flatMap((block) => [...block.matchAll(RegExp(`^ *${command}$`, "gm"))]),
      ...[...text.matchAll(/`([^`\n]+)`/g)]
        .flatMap(([, span]) => [...span!.matchAll(RegExp(`^(?:SAM_\\S+ |)${command}$`, "g"))]),
    ];
    for (const [line, given] of lines) {
      const [first, ...words] = wordsOf(given!);
      try {
        if (first === "run") {
          for (const [flag, text] of parseWords(words, runOptions, true).given) {
            const row = [...programFlags, ...optionFlags].find((row) => flagOf(row) === flag);
            if (row) parseText(flag, row.kind, text);
          }
          runs++;
        } else if (first === "completion") assertMatch(words[0]!, /^(bash|zsh|fish)$/);
        else parseWords(words, remoteOptions[first as "status"], false);
      } catch (error) {
        throw new Error(`${name}: ${line}`, { cause: error });
      }
    }
  }
  assert(runs > 10, `${runs} are found`);
});

const configurations = examples.filter(({ name }) =>
  readFileSync(sourceFixture(`../generated/${name}`), "utf8").includes("const config: SamConfig")
);
test("every configuration in docs and doc comments is one that sam takes", async () => {
  assertGreater(configurations.length, 2);
  for (const { name, file } of configurations) {
    const { default: config } = await import(fixture(`../generated/${name}`));
    const files = { exists: () => true, firstLine: () => "" };
    const around = { cwd: "/d", runtime: "node", files } as const;
    const { programs } = checkConfig(file, config, [], () => new Settings(), around);
    assertGreater(programs.length, 0);
  }
});
