// Environment variables from files: `--env-file`, `envFile`.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { commandTest, runtimeName } from "../support/command.ts";

const isNode = runtimeName === "node";

/** A program that prints some of its variables. */
const program =
  `console.log(JSON.stringify(["A", "B", "C", "D", "E"].map((name) => process.env[name] ?? null)));`;

commandTest(
  "--env-file sets variables: the last file wins, and --env and the environment win over files",
  async (sam, { directory }) => {
    writeFileSync(`${directory}/print.mjs`, `import process from "node:process"; ${program}`);
    writeFileSync(`${directory}/.env`, `A=1\n# a comment\nB="two words"\nexport C='x'\nD=4\nE=5\n`);
    writeFileSync(`${directory}/more.env`, "B=second\nSAM_RESTART=wrong\n"); // not for sam
    const files = ["--env-file", ".env", "--env-file", `${directory}/more.env`];
    const line = ["run", ...files, "--env", "C=flag", "print.mjs"];
    const run = sam(line, { D: "own", E: "" }, directory);
    assertEquals(await run.exited, 0, run.stderr);
    assertEquals(JSON.parse(run.stdout), ["1", "second", "flag", "own", ""]);
  },
);

commandTest(
  "envFile names files beside the configuration, one or several, and programs may have different ones",
  async (sam, { directory }) => {
    mkdirSync(`${directory}/below`);
    const file = `${directory}/below/sam.config.json`;
    writeFileSync(
      `${directory}/below/print.mjs`,
      `import process from "node:process"; ${program}; setInterval(() => {}, 1000);`,
    );
    writeFileSync(`${directory}/below/one.env`, "\uFEFFA=one\r\nB=b\r\n");
    writeFileSync(`${directory}/below/two.env`, "A=two\n");
    const one = { program: "./print.mjs", envFile: "one.env" };
    const two = { program: "./print.mjs", envFile: ["one.env", "two.env"], env: { B: "own" } };
    const programs = { one, two };
    writeFileSync(file, JSON.stringify({ $schema: "./schema.json", programs }));
    const run = sam(["run", "--config", file], {}, directory);
    await run.text(/^\["one","b",null,null,null\]$/m);
    await run.text(/^\["two","own",null,null,null\]$/m);
    writeFileSync(`${directory}/below/two.env`, "A=new\n");
    const flag = sam(["unit", "--config", file, "--env-file", "own.env"], {}, directory);
    if (isNode) assertEquals(await flag.exited, 9); // for Node, too, the path starts here
    else {assertStringIncludes(
        (await flag.exited, flag.stderr),
        `${directory}/own.env does not exist`,
      );}
    const reload = sam(["reload"]);
    assertEquals(await reload.exited, 0, reload.stderr);
    await run.text(/^\["new","own",null,null,null\]$/m);
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest("a file that does not exist, or cannot be read, is an error", async (sam, stage) => {
  const { directory } = stage;
  const missing = sam(["run", "--env-file", "no.env", "true"], {}, directory);
  const [code, text] = isNode
    ? [9, "no.env: not found"] // Node reads the file before `sam` does
    : [66, `--env-file: ${directory}/no.env does not exist`];
  assertEquals(await missing.exited, code);
  assertStringIncludes(missing.stderr, text);
  const folder = sam(["run", "true"], { SAM_ENV_FILE: "." }, directory);
  assertEquals(await folder.exited, 78);
  assertStringIncludes(folder.stderr, `SAM_ENV_FILE: cannot read ${directory}/.: `);
  const variable = sam(["run", "true"], { SAM_ENV_FILE: "no.env" }, directory);
  assertEquals(await variable.exited, 66);
  assertStringIncludes(variable.stderr, `SAM_ENV_FILE: ${directory}/no.env does not exist`);
  writeFileSync(
    `${directory}/sam.config.json`,
    JSON.stringify({ programs: { web: { program: "true", envFile: [1] } } }),
  );
  const wrong = sam(["run"], {}, directory);
  assertEquals(await wrong.exited, 78);
  assertStringIncludes(wrong.stderr, "programs.web.envFile[0] is 1; it must be a string");
});
