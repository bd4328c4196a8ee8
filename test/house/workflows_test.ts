// The workflows of the repository: an attacker who takes over an action, or a pull request, cannot publish anything.
import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "../support/harness.ts";
import { sourceFixture } from "../support/runtimes.ts";

const folder = sourceFixture("../../.github/workflows/").replace(/ts$/, "");
const workflows = readdirSync(folder).map((name) => ({
  name,
  text: readFileSync(`${folder}/${name}`, "utf8"),
}));

/** The jobs of a workflow, by their names. Each begins with its name, indented by two spaces. */
function jobsOf(text: string): Map<string, string> {
  const [, jobs] = text.split(/^jobs:\n/m);
  const parts = jobs!.split(/^ {2}(\w+):\n/m).slice(1);
  return new Map(
    parts.flatMap((part, at) => at % 2 === 0 ? [[part, parts[at + 1]!] as const] : []),
  );
}

test("workflows pin each action by its hash, and name its version", () => {
  assertGreater(workflows.length, 4);
  for (const { name, text } of workflows) {
    for (const [, action] of text.matchAll(/uses: (.*)/g)) {
      assertMatch(action!, /^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, name);
    }
  }
}, { leg: "node26" });

test("workflows may only read the repository, and do not run twice at a time", () => {
  for (const { name, text } of workflows) {
    const [outer] = text.split(/^jobs:\n/m);
    assertMatch(outer!, /^permissions:\n {2}contents: read\n(?! )/m, name);
    assertMatch(outer!, /^concurrency:\n/m, name);
    for (const [job, body] of jobsOf(text)) {
      assertMatch(body, /timeout-minutes: \d+/, `${name}, ${job}`);
    }
  }
}, { leg: "node26" });

test("a job that can identify itself as this repository uses only actions of GitHub", () => {
  const trusted = workflows.flatMap(({ name, text }) =>
    [...jobsOf(text)].filter(([, body]) => /id-token: write/.test(body))
      .map(([job, body]) => ({ name, job, body }))
  );
  assertEquals(trusted.map(({ name, job }) => `${name} ${job}`), [
    "publish.yml attest",
    "publish.yml npm",
    "publish.yml jsr",
  ]);
  for (const { body } of trusted) {
    for (const [, action] of body.matchAll(/uses: (\S+)/g)) {
      assert(action!.startsWith("actions/"), action);
    }
  }
  for (const { job, body } of trusted) {
    const foreign = job === "jsr"
      ? /npm (install|run|test)|npm ci (?!--ignore-scripts)/
      : /checkout|npm (ci|install|run|test)/;
    assertEquals(foreign.test(body), false, job);
  }
}, { leg: "node26" });
