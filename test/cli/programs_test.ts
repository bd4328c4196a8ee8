// `sam run` of programs that another program loads or starts: hooks, watchers, wrappers, packages, npx.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { restartsItself } from "../../src/api/program.ts";
import { scripts, wrapperOf } from "../../src/api/wrappers.ts";
import { argumentsOfTask } from "../../src/cli/run/deno_task.ts";
import { type Command, commandTest, page, runtimeName, samCommand } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { eventually } from "../support/processes.ts";
import { currentRuntime, quickFixture as fixture, runtimePath } from "../support/runtimes.ts";

const isNode = runtimeName === "node";
const runtime = runtimePath(currentRuntime);
const run = runtimeName === "deno" ? ["run", "-A", "--no-config"] : [];

/** Ends `sam` with SIGTERM. */
async function end(sam: Command): Promise<void> {
  sam.kill("SIGTERM");
  await sam.exited;
}

commandTest(
  "a program that a CommonJS hook loads runs as it does without sam, and is watched",
  async (sam, { directory }) => {
    const [hook, program] = [`${directory}/hook.js`, `${directory}/app.foo`];
    writeFileSync(
      hook,
      `const atHook = JSON.stringify([String(process.env.SAM_LINK), process.execArgv]);
      require("node:module")._extensions[".foo"] = (module, path) =>
        module._compile("const atHook = " + atHook + ";" +
          require("node:fs").readFileSync(path, "utf8").replace("@hang", "for (;;);"), path);`,
    );
    writeFileSync(
      program,
      `const isMain = require.main === module;
      console.log(JSON.stringify([isMain, process.argv.slice(1), process.execArgv, ...atHook]));
      process.on("uncaughtException", (error, origin) => {
        console.log(error.message, origin);
        setInterval(() => {}, 1000);
      });
      process.on("SIGUSR2", () => { @hang });
      throw new Error("thrown");`,
    );
    const words = ["run", "--json", "--restart", "never", "--time-interval", "300"];
    const hooked = sam([...words, runtime, "-r", hook, program, "a"]);
    const [, line] = await hooked.text(/^(\[.*\])$/m);
    const flags = ["-r", hook];
    assertEquals(JSON.parse(line!), [true, [program, "a"], flags, "undefined", flags]);
    await hooked.text(/^thrown uncaughtException$/m);
    await hooked.event("start");
    process.kill((await hooked.event("spawn")).pid, "SIGUSR2");
    assertEquals((await hooked.event("recovery")).reason, "timeout");
    await hooked.exited;
  },
  { skip: !isNode && "the hooks are Node's" },
);

commandTest(
  "a program that Node loads from no file, or in another process, is watched as soon as the preload runs",
  async (sam, { directory }) => {
    const tests = `${directory}/a.test.mjs`;
    const wait = `setTimeout(() => process.exit(), 2000);
      const look = () => process.env.SAM_LINK ? console.log("link seen") : setImmediate(look);
      look();`;
    writeFileSync(tests, `await new Promise((resolve) => setTimeout(resolve, 1000));`);
    for (const words of [["-e", wait], ["--test", tests]]) {
      const context = process.env["NODE_TEST_CONTEXT"];
      delete process.env["NODE_TEST_CONTEXT"]; // with it, `--test` would run no tests
      const text = sam(["run", "--json", "--restart", "never", runtime, ...words]);
      if (context !== undefined) process.env["NODE_TEST_CONTEXT"] = context;
      await text.event("start");
      await end(text);
      assertEquals(text.stdout.includes("link seen"), false, "a child process can see the link");
    }
  },
  { skip: !isNode && "the modes are Node's" },
);

commandTest(
  "a program whose runtime restarts it after an edit is not killed, and a warning says that it is not watched",
  async (sam, { directory }) => {
    const program = `${directory}/app.mjs`;
    const text = (version: number) =>
      `import process from "node:process";
      let ticks = 0;
      setInterval(() => console.log("version ${version}", process.env.SAM_LINK, ++ticks), 100);`;
    writeFileSync(program, text(1));
    const watch = [...run, "--watch", program];
    const watched = sam(["run", "--json", "--time-interval", "300", runtime, ...watch]);
    await watched.text(/version 1 undefined 3\n/);
    writeFileSync(program, text(2));
    await watched.text(/version 2 undefined 12\n/);
    assertEquals(watched.events().map(({ type }) => type), ["fallback", "spawn"]);
    assertMatch(
      (await watched.event("fallback")).detail,
      /has no effect. To detect hangs, leave out --watch or --hot,/,
    );
    await end(watched);
    const flags = run.slice(1).map((flag) => `--runtime-flag=${flag}`);
    const how = ["--runtime", runtimeName, ...flags, "--runtime-flag=--watch"];
    const module = sam(["run", ...how, program]);
    await module.text(/version 2 undefined 1\n/);
    assertMatch(
      module.stderr,
      /^sam: cannot detect a hang of the program that .*app.mjs runs, only its exit. To detect hangs, leave out --watch/m,
    );
    await end(module);
    const refused = sam(["run", "--preload", ...how, program]);
    assertEquals(await refused.exited, 64);
    assertStringIncludes(refused.stderr, "app.mjs with --watch or --hot");
  },
);

commandTest(
  "a warning with advice names a known wrapper, also without a time interval",
  async (sam, { directory }) => {
    writeFileSync(`${directory}/npm`, "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    const script = sam(["run", "--no-preload", `${directory}/npm`, "start"]);
    assertEquals(await script.exited, 0);
    assertMatch(
      script.stderr,
      /^sam: cannot detect a hang of the program that .*npm runs, only its exit\. .* \(sam run web\.js\), or add a health check \(--check-http\)\.\n$/,
    );
    const check = ["--check-command", "true"];
    const checked = sam(["run", "--no-preload", ...check, `${directory}/npm`, "start"]);
    assertEquals([await checked.exited, checked.stderr], [0, ""]);
  },
);

test("the list of wrappers contains npm, npx and similar commands, and no others", () => {
  const known = [
    ...["npm start", "npx next", "pnpm dlx x", "yarn", "/usr/bin/npm exec x", "bun run start"],
    ...["bun x cowsay", "node --run start", "deno task dev", "deno serve app.ts", "deno app.ts"],
    ...["tsx web.ts", "ts-node-dev app.ts", "nodemon app.js", "next dev", "cross-env A=1 node"],
  ];
  for (const line of known) {
    const [command, ...words] = line.split(" ");
    assert(wrapperOf(command!, words, "")?.advice !== undefined, line);
  }
  for (
    const line of ["sh -c npm", "/bin/bash ./start", "nice -n 5 npm start", "env A=1 node a.js"]
  ) {
    const [command, ...words] = line.split(" ");
    assertEquals(wrapperOf(command!, words, ""), { advice: undefined }, line);
  }
  for (const line of ["redis-server", "deno test", "bun test", "true", "./server", "bash"]) {
    const [command, ...words] = line.split(" ");
    assertEquals(wrapperOf(command!, words, ""), undefined, line);
  }
  for (const line of ["#!/bin/sh", "#!/bin/bash -e", "#!/usr/bin/env bash"]) {
    assertEquals(wrapperOf("./start", [], line), {}, line);
  }
  assertEquals(wrapperOf("./start", [], "#!/usr/bin/python3"), undefined);
  for (const flag of ["--watch", "--watch=a,b", "--watch-path", "--watch-path=.", "--hot"]) {
    assert(restartsItself(["--smol", flag]), flag);
  }
  assert(!restartsItself(["--watchdog", "--hotter", "watch"]));
}, { leg: "node24" });

test("the program of a task of Deno is run without deno task, if the task only runs it", () => {
  const files: Readonly<Record<string, object | string>> = {
    "/c/deno.jsonc": '{ "tasks": { "start": "deno run -A c.ts" } }',
    "/c/package.json": { scripts: { start: "deno run -A other.ts" } },
    "/e/deno.json": '{ "tasks": { "start": "deno run -A c.ts", } } // a comment',
    "/e/package.json": { scripts: { start: "deno run -A other.ts" } },
    "/d/deno.json": {
      tasks: {
        start: "deno run -A web.ts",
        both: "deno run a.ts && deno run b.ts",
        test: "deno test",
      },
    },
    "/d/package.json": {
      scripts: { start: "node web.js", old: "deno run --allow-net=a.b:80 old.ts" },
    },
  };
  const argumentsIn = (directory: string, line: string) => {
    const [program, ...args] = line.split(" ");
    const readText = (path: string) => {
      const content = files[path] ?? fail();
      return typeof content === "string" ? content : JSON.stringify(content);
    };
    return argumentsOfTask(program!, args, directory, { readText });
  };
  const cases: readonly (readonly [line: string, program: string | undefined])[] = [
    ["deno task start", "run -A web.ts"],
    ["deno task start --port 80", "run -A web.ts --port 80"],
    ["deno task old", "run --allow-net=a.b:80 old.ts"],
    ["deno task both", undefined],
    ["deno task test", undefined],
    ["deno task missing", undefined],
    ["deno task", undefined],
    ["deno task --cwd x start", undefined],
    ["deno run start", undefined],
    ["npm task start", undefined],
  ];
  for (const [line, program] of cases) {
    assertEquals(argumentsIn("/d", line)?.join(" "), program, line);
  }
  assertEquals(argumentsIn("/elsewhere", "deno task start"), undefined);
  assertEquals(argumentsIn("/c", "deno task start")?.join(" "), "run -A c.ts");
  assertEquals(argumentsIn("/e", "deno task start"), undefined);
}, { leg: "node24" });

function fail(): never {
  throw new Error("no such file");
}

test("wrappers and builds are no programs; other scripts are", () => {
  const modules = "/srv/web/node_modules";
  const wrappers = [
    ...["/usr/lib/node_modules/npm/bin/npm-cli.js start", `${modules}/npm/bin/npx-cli.js next`],
    ...["/usr/lib/node_modules/corepack/dist/pnpm.js start", "/home/a/.cache/yarn.cjs"],
    ...["/srv/web/.yarn/releases/yarn-4.9.1.cjs start", `${modules}/tsx/dist/cli.mjs web.ts`],
    ...[`${modules}/nodemon/bin/nodemon.js web.js`, `${modules}/concurrently/dist/bin/index.js a`],
  ];
  const builds = [
    ...[`${modules}/typescript/bin/tsc -p .`, `${modules}/next/dist/bin/next build`],
    ...[`${modules}/.pnpm/vite@7.0.0/node_modules/vite/bin/vite.js build`],
  ];
  const kindOf = (line: string) =>
    new RegExp(scripts.wrappers).test(line)
      ? "wrapper"
      : new RegExp(scripts.builds).test(line)
      ? "build"
      : "program";
  for (const line of wrappers) assertEquals(kindOf(line), "wrapper", line);
  for (const line of builds) assertEquals(kindOf(line), "build", line);
  const programs = [
    ...[
      "/srv/web/web.js",
      "/srv/npm/web.js start",
      "/srv/web/build/server.js",
      "",
      "/srv/a.js build",
    ],
    ...[`${modules}/next/dist/bin/next start`, `${modules}/vite/bin/vite.js preview`],
    ...[`${modules}/ts-node/dist/bin.js web.ts`, "/srv/pnpm/server.js", "/srv/yarn.config.js"],
  ];
  for (const line of programs) assertEquals(kindOf(line), "program", line);
}, { leg: "node24" });

commandTest(
  "a warning says that a child process of the same runtime is not watched",
  async (sam, { directory }) => {
    const program = `${directory}/parent.mjs`;
    writeFileSync(
      program,
      `import { spawn } from "node:child_process";
      import process from "node:process";
      if (process.argv[2] !== "child") {
        const words = [...${JSON.stringify(run)}, process.argv[1], "child"];
        const { pid } = spawn(process.execPath, words, { stdio: "ignore" });
        console.log("pids", process.pid, pid);
      }
      setInterval(() => {}, 1000);`,
    );
    const flags = run.slice(1).map((flag) => `--runtime-flag=${flag}`);
    const parent = sam(["run", "--json", "--runtime", runtimeName, ...flags, program]);
    const [, pid, child] = await parent.text(/pids (\d+) (\d+)/);
    assertStringIncludes(
      (await parent.event("fallback")).detail,
      `watching process ${pid}, but not its child process ${child}.`,
    );
    await end(parent);
  },
);

commandTest(
  "an inspector that sam opens prints nothing, and one that the user opens prints its address",
  async (sam) => {
    const announced = /Debugger listening|For help|chrome:/;
    const hang = ["--runtime", runtimeName, "--time-interval", "500", "--restart", "never"];
    const flags = run.slice(1).map((flag) => `--runtime-flag=${flag}`);
    const own = sam(["run", "--json", ...hang, ...flags, fixture("cli/server")]);
    const [, port] = await own.text(/port (\d+)\n/);
    await own.event("start");
    await page(port!, "/hang");
    await own.exited;
    assert(!announced.test(own.stderr), own.stderr);
    if (runtimeName === "bun") return;
    const inspect = "--runtime-flag=--inspect=127.0.0.1:0";
    const user = sam(["run", ...hang, ...flags, inspect, fixture("cli/server")]);
    await user.text(announced, "stderr");
    await end(user);
    const options = { NODE_OPTIONS: "--inspect=127.0.0.1:0" };
    if (isNode) {
      const variable = sam(["run", ...hang, fixture("cli/server")], options);
      await variable.text(/(Debugger listening[^]*){2}/, "stderr"); // one from sam, one from the program
      await end(variable);
    }
  },
);

test("a runtime flag and its value in the next word are passed on or left out together", () => {
  const [file, ...words] = samCommand();
  const [given, kept] = {
    node: [
      ["--report-directory", "/tmp", "--title", "t", "--test-reporter", "spec", "--no-warnings"],
      ["--title", "t", "--no-warnings"],
    ],
    deno: [["--inspect-publish-uid", "http", "--location", "http://here/"], "http://here/"],
    bun: [["--conditions", "some", "--smol"], ["--conditions", "some", "--smol"]],
  }[runtimeName as "node" | "deno" | "bun"]!;
  const main = words.length - 1;
  const how = ["run", "--runtime", runtimeName, fixture("cli/flags")];
  const line = [...words.slice(0, main), ...given!, words[main]!, ...how];
  const { stdout, stderr } = spawnSync(file!, line, { encoding: "utf8" });
  assertEquals(JSON.parse(stdout || "null"), kept, stderr);
});

commandTest(
  "a directory stands for the main file in its package.json",
  async (sam, { directory }) => {
    const sources = `${directory}/shop/src`;
    mkdirSync(sources, { recursive: true });
    writeFileSync(`${directory}/shop/package.json`, '{ "main": "./src/main" }');
    writeFileSync(`${sources}/main.js`, 'console.log("main", process.argv.length);');
    const how = ["run", "--runtime", runtimeName, "--no-preload"];
    const here = sam([...how, ".", "a"], {}, `${directory}/shop`);
    assertEquals([await here.exited, here.stdout], [0, "main 3\n"], here.stderr);
    const named = sam(["run", "--json", "--runtime", runtimeName, "./shop/"], {}, directory);
    assertEquals((await named.event("finish")).program, "shop");
    assertEquals(await named.exited, 0);
    const empty = sam([...how, "."], {}, sources);
    assertEquals(await empty.exited, 66);
    assertStringIncludes(empty.stderr, ". is a directory without a main file.");
  },
);

commandTest(
  "a sam that a program below npm starts does not mistake npm for its own parent",
  async (sam) => {
    const inner = ["sh", "-c", 'echo "script: $npm_lifecycle_script."'];
    const outer = sam(["run", "--restart", "never", ...inner], {
      npm_lifecycle_script: "sam run web.js",
    });
    await outer.exited;
    assertEquals(outer.stdout, "script: .\n");
  },
);

commandTest(
  "SIGTERM to npx or npm does not reach sam, but ends the program",
  async (_sam, stage) => {
    const npm = {
      npm_lifecycle_script: "'sam' run web.js",
      XDG_RUNTIME_DIR: stage.directory,
    };
    const line = [...samCommand(), "run", "--runtime", runtimeName, fixture("cli/server")];
    const shell = spawn("sh", ["-c", '"$@"; exit $?', "sh", ...line], {
      env: { ...process.env, ...npm },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [shell.stdout, shell.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => output += text);
    }
    const closed = new Promise((resolve) => shell.on("close", resolve));
    await eventually("the program", () => /port \d+\n/.test(output));
    process.kill(shell.pid!, "SIGTERM");
    await closed; // closes when the program has ended, because the program shares the pipe
    assertStringIncludes(output, "sam: npm, which started sam, has ended");
  },
);

commandTest(
  "if a signal reaches both npm and sam, the program has its whole grace period",
  async (_sam, stage) => {
    const { directory } = stage;
    const program = `${directory}/slow.mjs`;
    writeFileSync(
      program,
      `import process from "node:process";
      process.on("SIGTERM", () => setTimeout(() => { console.log("done"); process.exit(0); }, 2500));
      setInterval(() => {}, 1000);
      console.log("up");`,
    );
    const env = {
      ...process.env,
      npm_lifecycle_script: "sam run slow.mjs",
      XDG_RUNTIME_DIR: directory,
    };
    const line = [...samCommand(), "run", "--runtime", runtimeName, program];
    const shell = spawn("sh", ["-c", '"$@" & echo "sam $!"; wait', "sh", ...line], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [shell.stdout, shell.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => output += text);
    }
    const closed = new Promise((resolve) => shell.on("close", resolve));
    await eventually("the program", () => /^up$/m.test(output));
    process.kill(Number(/^sam (\d+)$/m.exec(output)![1]), "SIGTERM");
    process.kill(shell.pid!, "SIGTERM");
    await closed;
    assertMatch(output, /^done$/m);
  },
);

commandTest(
  "a worker thread of a program does not pass on the flags that sam added",
  async (sam, { directory }) => {
    const program = `${directory}/threads.cjs`;
    writeFileSync(
      program,
      `const { Worker } = require("node:worker_threads");
      new Worker("console.log(JSON.stringify(process.execArgv))", { eval: true });`,
    );
    const words = ["run", "--restart", "never"];
    const threads = sam([...words, runtime, "--no-warnings", program]);
    await threads.exited;
    assertEquals(JSON.parse(threads.stdout), ["--no-warnings"]);
  },
  { skip: !isNode && "the flags are Node's" },
);
