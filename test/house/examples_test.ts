// Runs every example of the README, the docs and the doc comments on this runtime, as its reader
// would.
import { assert, assertGreater, assertMatch } from "@std/assert";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkConfig } from "../../src/cli/run/check_config.ts";
import { flagOf, optionFlags, parseText, programFlags } from "../../src/cli/command_line/flags.ts";
import { Settings } from "../../src/cli/command_line/settings.ts";
import { remoteOptions, runOptions } from "../../src/cli/command_line/commands.ts";
import { parseWords } from "../../src/cli/command_line/words.ts";
import { examples, runExample } from "../support/example.ts";
import { test } from "../support/harness.ts";
import { withoutLeaks } from "../support/leaks.ts";
import { noFiles } from "../support/no_files.ts";
import { documentation, fixture, newest, sourceFixture } from "../support/runtimes.ts";

test("README, docs and doc comments have examples", () => {
  for (const part of ["README.md", "docs/errors.md", "mod.ts", "src/active/initialize.ts"]) {
    assertGreater(examples.filter(({ file }) => file === part).length, 0);
  }
});

for (const example of examples) {
  const { name, file, kind } = example;
  if (kind !== "runs" && kind !== "serves") continue;
  const fn = () => withoutLeaks(() => runExample(example));
  test(`the example ${name} of ${file} ${kind}`, fn, { leg: ["node20", ...newest] });
}

test("another test uses each example that does not run here", () => {
  const folder = join(documentation, "../test");
  const tests = ["transports", "testing"].flatMap((room) =>
    readdirSync(join(folder, room)).map((name) => join(room, name))
  ).filter((name) => name.endsWith("_test.ts"))
    .map((name) => readFileSync(join(folder, name), "utf8")).join("");
  for (const { name, kind } of examples) {
    assert(kind !== "imported" || tests.includes(`generated/${name}`), name);
  }
});

/** The words of a command line as a shell splits it, up to a comment. */
function wordsOf(line: string): string[] {
  return [...line.replace(/ +#.*$/, "").matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)]
    .map(([, single, double, bare]) => single ?? double ?? bare!);
}

test("sam accepts every command line of sam in README and docs", () => {
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
test("sam accepts every configuration in docs and doc comments", async () => {
  assertGreater(configurations.length, 2);
  for (const { name, file } of configurations) {
    const { default: config } = await import(fixture(`../generated/${name}`));
    const around = { cwd: "/d", runtime: "node", files: noFiles, cores: 2 } as const;
    const { programs } = checkConfig(file, config, [], () => new Settings(), around);
    assertGreater(programs.length, 0);
  }
});
