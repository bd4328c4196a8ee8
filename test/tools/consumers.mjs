// Installs the package as npm would publish it, in fresh folders with nothing else. Each version of Node, and Deno, runs
// the README's first program, which heals itself. TypeScript is strict and has no further types. An Express server from
// the registry hangs under `sam run` and is healed. docs.mjs tests installation from npm and JSR.
//
//   npm run test:consumers
//
// The last line is `N passed, N failed`.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { check, conclude } from "../support/counted.mjs";
import { install, root, run, runtimePaths, runtimesDir } from "../support/setup.mjs";
import { good, must, Shell } from "../support/shell.mjs";

/** The present size, rounded up. Raise it only with a reason in the commit. */
const maxUnpackedBytes = 935_000;

await install(root);
await install(runtimesDir);
const directory = mkdtempSync(join(tmpdir(), "sam-consumers-"));
const env = {
  ...process.env,
  DENO_NO_UPDATE_CHECK: "1",
  NO_COLOR: "1",
  PATH: [dirname(runtimePaths.deno), dirname(runtimePaths.bun), process.env.PATH].join(delimiter),
  XDG_RUNTIME_DIR: directory,
};
const shell = new Shell(env);
const tsc = join(root, "node_modules/.bin/tsc");
const readme = readFileSync(join(root, "README.md"), "utf8");
const program = /^```ts serves\n([\s\S]*?)^```$/m.exec(readme)[1];
const json = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));

/** Makes a new folder with the program in it. */
function folder(name, files) {
  const path = join(directory, name);
  mkdirSync(path);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
  return path;
}

const strict = {
  compilerOptions: {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    module: "nodenext",
    target: "es2022",
    types: [],
    lib: ["ES2023", "ESNext.Disposable", "DOM"],
  },
  include: ["app.ts", "all.ts"],
};
/** The entries that are modules. */
const modulesOf = ({ exports }) => Object.keys(exports).filter((path) => !path.endsWith(".json"));
const subpaths = modulesOf(json("package.json")).map((path) => path.slice(1));
const sources = {
  "app.ts": program,
  "all.ts": subpaths.map((path, at) => `export type * as m${at} from "@x/sam${path}";\n`).join(""),
  "package.json": JSON.stringify({ name: "app", type: "module", private: true }),
  "tsconfig.json": JSON.stringify(strict),
};

let tarball;
await check("the package contains types, no tests, and no more bytes than allowed", async () => {
  const flags = process.argv.includes("--built") ? ["--ignore-scripts"] : [];
  const text = await good("npm", [
    "pack",
    "--json",
    "--silent",
    ...flags,
    "--pack-destination",
    directory,
  ]);
  const [{ filename, files, unpackedSize }] = JSON.parse(text.slice(text.indexOf("[\n")));
  tarball = join(directory, filename);
  const odd = files.map(({ path }) => path).filter((path) =>
    !/^(package\.json|README\.md|LICENSE|dist\/.*\.(js|cjs|js\.map|d\.ts)|dist\/schema\.json)$/
      .test(path)
  );
  must(odd.length === 0, `it holds ${odd.join(", ")}`);
  must(unpackedSize <= maxUnpackedBytes, `${unpackedSize} bytes, at most ${maxUnpackedBytes}`);
  console.log(`        ${files.length} files, ${unpackedSize} bytes`);
});

await check("package.json, deno.json and CHANGELOG.md agree on version and entries", () => {
  const [npm, jsr] = [json("package.json"), json("deno.json")];
  must(npm.version === jsr.version && npm.name === jsr.name, `${npm.version}, ${jsr.version}`);
  must(
    modulesOf(npm).sort().join() === modulesOf(jsr).sort().join(),
    `entries: ${modulesOf(npm)} and ${modulesOf(jsr)}`,
  );
  // npm's provenance demands it, and the links of the README are relative to it.
  const tutorial = readFileSync(join(root, "docs/getting-started.md"), "utf8");
  const clone = /^git clone (\S+)/m.exec(tutorial)[1];
  must(npm.repository.url === `git+${clone}.git`, `${npm.repository.url}, the tutorial: ${clone}`);
  const changes = readFileSync(join(root, "CHANGELOG.md"), "utf8");
  must(changes.includes(`\n## [${npm.version}]`), `CHANGELOG.md says nothing of ${npm.version}`);
});

const npm = folder("npm", sources);
await check("npm install", async () => {
  await good("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: npm });
});
await check("strict TypeScript accepts the program without further types", async () => {
  await good(tsc, ["-p", "tsconfig.json"], { cwd: npm });
});
for (
  const [name, path] of Object.entries(runtimePaths).filter(([name]) => name.startsWith("node"))
) {
  await check(`${name} runs the program, as JavaScript`, () => shell.heals(`${path} app.js`, npm));
}
await check(
  "Node 26 runs the TypeScript source",
  () => shell.heals(`${runtimePaths.node26} app.ts`, npm),
);
await check("a stack trace has the lines of the sources", async () => {
  const code =
    'import { supervise } from "@x/sam"; try { supervise({}); } catch (e) { console.log(e.stack); }';
  const flags = ["--enable-source-maps", "--input-type=module", "-e", code];
  const output = await good(runtimePaths.node26, flags, { cwd: npm });
  const [, file, line] = /at invalid \(.*\/(src\/[\w/]+\.ts):(\d+):\d+\)/.exec(output) ?? [];
  must(file !== undefined, output);
  const text = readFileSync(join(root, file), "utf8").split("\n")[line - 1];
  must(text.includes("new SamError("), `${file}:${line} is ${text}`);
});
await check("the JSON schema of the configuration file is found by its name", async () => {
  const code =
    'import schema from "@x/sam/schema.json" with { type: "json" }; console.log(schema.title);';
  const output = await good(runtimePaths.node26, ["--input-type=module", "-e", code], { cwd: npm });
  must(output === "Configuration of sam run\n", output);
});
for (const name of ["node22", "node24", "node26"]) {
  await check(`${name}: require("@x/sam")`, async () => {
    const code =
      'const { initialize } = require("@x/sam"); if (typeof initialize !== "function") process.exit(1)';
    await good(runtimePaths[name], ["--input-type=commonjs", "-e", code], { cwd: npm });
  });
}
await check("npx sam", async () => {
  const output = await good("npx", ["--offline", "sam", "run", "--", "sh", "-c", "echo it runs"], {
    cwd: npm,
  });
  must(output.includes("it runs"), output);
  const version = await good("npx", ["--offline", "sam", "--version"], { cwd: npm });
  must(version.trim() === json("package.json").version, version);
});

await check("a hang of a program built by tsc names the line of TypeScript", async () => {
  const source =
    "interface Order {\n  id: number;\n}\nfunction place(order: Order): void {\n  for (;;) order.id++;\n}\n";
  const built = folder("built", { "hang.ts": `${source}setTimeout(place, 200, { id: 4711 });\n` });
  const words = [
    "--sourceMap",
    "--lib",
    "es2022,dom",
    "--types",
    "",
    "--outDir",
    "dist",
    "hang.ts",
  ];
  await good(tsc, words, { cwd: built });
  const sam = ["--offline", "sam", "run", "--time-interval", "1s", "--restart", "never"];
  const { output } = await run("npx", [...sam, join(built, "dist/hang.js")], { cwd: npm, env });
  must(output.includes("/built/hang.ts:5:"), output);
});

await check("Deno runs the package from npm", async () => {
  const deno = folder("deno", {
    "app.ts": program,
    "package.json": JSON.stringify({
      type: "module",
      dependencies: { "@x/sam": `file:${tarball}` },
    }),
    "deno.json": JSON.stringify({ nodeModulesDir: "manual" }),
  });
  await good("npm", ["install", "--offline", "--no-audit", "--no-fund"], { cwd: deno });
  await good(runtimePaths.deno, ["check", "app.ts"], { cwd: deno, env });
  await shell.heals(`${runtimePaths.deno} run -A --no-prompt app.ts`, deno);
});

const server = `import express from "express";

const app = express();
const router = express.Router();
app.use((_request, response, next) => {
  response.set("x-seen", "yes");
  next();
});
router.get("/hello", (_request, response) => void response.send("hello"));
router.get("/hang", () => {
  for (;;);
});
app.use("/api", router);
const { deno, bun } = process.versions;
const server = app.listen(0, "127.0.0.1", () => {
  console.log(deno ? "deno" : bun ? "bun" : "node", "port", server.address().port);
});
`;
const express = folder("express app", {
  "web.js": server,
  "package.json": JSON.stringify({
    name: "app",
    type: "module",
    private: true,
    scripts: { start: "node web.js" },
  }),
});
const hangingLine = 1 + server.split("\n").indexOf("  for (;;);");
const cli = "node_modules/@x/sam/dist/cli.js";

/** Runs the server, sends it a request that hangs it, then waits for an answer to the next one. */
async function healsExpress(runtime, line) {
  const output = await shell.during(line, express, async (running) => {
    const [, first] = await running.said(RegExp(`^${runtime} port (\\d+)\n`, "m"));
    await running.until("server that is ready", async () => {
      const { output } = await run(runtimePaths.node26, [cli, "status", "--json"], {
        cwd: express,
        env,
      });
      return /"state": ?"started"/.test(output);
    });
    await fetch(`http://127.0.0.1:${first}/api/hang`).catch(() => {}); // the instance is killed
    const [, second] = await running.said(/port \d+\n[^]*port (\d+)\n/);
    const response = await fetch(`http://127.0.0.1:${second}/api/hello`);
    must(response.headers.get("x-seen") === "yes" && await response.text() === "hello", "no hello");
  });
  must(
    /\(pid \d+\) ended (by SIG\w+|with exit code 143) after it stopped responding; instance 2 starts now\n/
      .test(output),
    output,
  );
  const isTold = output.includes(`web.js:${hangingLine}`);
  must(isTold === (runtime !== "bun"), `the line is ${isTold ? "" : "not "}told:\n${output}`);
}

await check("npm install express", async () => {
  const words = ["install", "--no-audit", "--no-fund", "express", tarball];
  await good("npm", words, { cwd: express });
});
const words = "run --time-interval 2s";
for (
  const [runtime, line] of [
    ["node", `npx --offline @x/sam ${words} web.js`],
    ["deno", `npx --offline @x/sam ${words} --runtime deno web.js`],
    ["deno", `deno run -A --no-prompt ${cli} ${words} --runtime deno web.js`],
    ["bun", `bun ${cli} ${words} --runtime bun web.js`], // Bun cannot find the line
    ["node", `npx --offline @x/sam ${words} npm start`],
  ]
) {
  await check(`Express recovers from a hang: ${line}`, () => healsExpress(runtime, line));
}
await check(
  "without koffi, Node 24 cannot hold a port for a program on Bun, and says so",
  async () => {
    const words = [cli, "run", "--listen", "18017", "--runtime", "bun", "web.js"];
    const { code, output } = await run(runtimePaths.node24, words, { cwd: express, env });
    must(code === 69 && output.includes("this version of Node needs the package koffi"), output);
  },
);
rmSync(directory, { recursive: true, force: true });
conclude();
