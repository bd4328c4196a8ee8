// `sam run` of programs that something else loads or starts: hooks, watchers, wrappers, packages, npx.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { wrapperAdvice } from "../../src/cli/run/wrappers.ts";
import { restartsItself } from "../../src/api/program.ts";
import { type Command, commandTest, page, runtimeName, samCommand } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { eventually } from "../support/processes.ts";
import { currentRuntime, quickFixture as fixture, runtimePath } from "../support/runtimes.ts";

const isNode = runtimeName === "node";
const runtime = runtimePath(currentRuntime);
const run = runtimeName === "deno" ? ["run", "-A", "--no-config"] : [];

/** Ends `sam` by SIGTERM. */
async function end(sam: Command): Promise<void> {
  sam.kill("SIGTERM");
  await sam.exited;
}

commandTest(
  "a program that a hook of CommonJS loads runs as without sam, and is watched",
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
    const [, told] = await hooked.text(/^(\[.*\])$/m);
    const flags = ["-r", hook];
    assertEquals(JSON.parse(told!), [true, [program, "a"], flags, "undefined", flags]);
    await hooked.text(/^thrown uncaughtException$/m);
    await hooked.event("start");
    process.kill((await hooked.event("spawn")).pid, "SIGUSR2");
    assertEquals((await hooked.event("recovery")).reason, "timeout");
    await hooked.exited;
  },
  { skip: !isNode && "the hooks are Node's" },
);

commandTest(
  "what Node does not load from a file, or not in this process, is watched from the preload on",
  async (sam, { directory }) => {
    const tests = `${directory}/a.test.mjs`;
    const wait = `setTimeout(() => process.exit(), 2000);
      const look = () => process.env.SAM_LINK ? console.log("link seen") : setImmediate(look);
      look();`;
    writeFileSync(tests, `await new Promise((resolve) => setTimeout(resolve, 1000));`);
    for (const words of [["-e", wait], ["--test", tests]]) {
      const context = process.env["NODE_TEST_CONTEXT"];
      delete process.env["NODE_TEST_CONTEXT"]; // with which `--test` would run nothing
      const text = sam(["run", "--json", "--restart", "never", runtime, ...words]);
      if (context !== undefined) process.env["NODE_TEST_CONTEXT"] = context;
      await text.event("start");
      await end(text);
      assertEquals(text.stdout.includes("link seen"), false, "a child process could take the link");
    }
  },
  { skip: !isNode && "the modes are Node's" },
);

commandTest(
  "a program that restarts itself after an edit is not killed, and is told to be unwatched",
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
      /has no effect. To detect hangs, leave out --watch and --hot,/,
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
    assertStringIncludes(refused.stderr, "without --watch and --hot");
  },
);

commandTest(
  "a wrapper that is known is told, with what to do, without a time interval too",
  async (sam, { directory }) => {
    writeFileSync(`${directory}/npm`, "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    const script = sam(["run", `${directory}/npm`, "start"]);
    assertEquals(await script.exited, 0);
    assertMatch(
      script.stderr,
      /^sam: cannot detect a hang of the program that .*npm runs, only its exit. .* \(sam run server.js\), or add a health check/,
    );
    const check = ["--check-command", "true"];
    const checked = sam(["run", ...check, `${directory}/npm`, "start"]);
    assertEquals([await checked.exited, checked.stderr], [0, ""]);
  },
);

test("the list of wrappers knows npm and the like, and no other command", () => {
  const known = [
    ...["npm start", "npx next", "pnpm dlx x", "yarn", "/usr/bin/npm exec x", "bun run start"],
    ...["bun x cowsay", "node --run start", "deno task dev", "deno serve app.ts", "deno app.ts"],
    ...["tsx server.ts", "ts-node-dev app.ts", "nodemon app.js", "next dev", "cross-env A=1 node"],
  ];
  for (const line of known) {
    const [command, ...words] = line.split(" ");
    assert(wrapperAdvice(command!, words) !== undefined, line);
  }
  for (const line of ["redis-server", "sh -c npm", "deno test", "bun test", "true", "./server"]) {
    const [command, ...words] = line.split(" ");
    assertEquals(wrapperAdvice(command!, words), undefined, line);
  }
  for (const flag of ["--watch", "--watch=a,b", "--watch-path", "--watch-path=.", "--hot"]) {
    assert(restartsItself(["--smol", flag]), flag);
  }
  assert(!restartsItself(["--watchdog", "--hotter", "watch"]));
}, { leg: "node24" });

commandTest(
  "a program that has started another process of its runtime is told that nobody watches that",
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
  "an inspector that sam opens does not announce itself to the program's users, and the user's own does",
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
      await variable.text(/(Debugger listening[^]*){2}/, "stderr"); // sam's, and the program's
      await end(variable);
    }
  },
);

test("a flag whose value is a word of its own is kept, or left out, together with its value", () => {
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
  "a directory is the program that its package.json names",
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
  "a sam that a program below npm starts does not take npm for its own parent",
  async (sam) => {
    const inner = ["sh", "-c", 'echo "script: $npm_lifecycle_script."'];
    const outer = sam(["run", "--restart", "never", ...inner], {
      npm_lifecycle_script: "sam run server.js",
    });
    await outer.exited;
    assertEquals(outer.stdout, "script: .\n");
  },
);

commandTest(
  "SIGTERM to npx or npm, which never reaches sam, ends the program too",
  async (_sam, stage) => {
    const npm = {
      npm_lifecycle_script: "'sam' run server.js",
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
    await closed; // by the program, which has the same output
    assertStringIncludes(output, "sam: npm, which started sam, has ended");
  },
);

commandTest(
  "a signal that ends npm and reaches sam as well leaves the program its whole grace period",
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
  "a worker thread of a program does not hand on the flags that sam gave the program",
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
