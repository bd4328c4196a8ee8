// `sam run` of a wrapper, such as `npm start`: the program below it is watched as if `sam` had started it.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { pathToFileURL } from "node:url";
import { type Command, commandTest, page, runtimeName, samCommand } from "../support/command.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, lives, type Stage } from "../support/processes.ts";
import { currentRuntime, newest, quickFixture, runtimePath } from "../support/runtimes.ts";
import { terminal } from "../support/terminal.ts";

const isBun = runtimeName === "bun";
/** The runtime of the programs. Deno has no variable that loads a module into each process. */
const below = runtimePath(runtimeName === "deno" ? "node26" : currentRuntime);
const word = isBun ? "bun" : "node";

/** A web server that knows nothing of SAM. At SIGTERM and SIGINT, it works for a while, and then ends. */
const web = `import { createServer } from "node:http";
import { spawnSync } from "node:child_process";
import process from "node:process";
const foreign = (text) => /SAM_(LINK|WRAPPED)|preload/.test(text);
const atStart = JSON.stringify([process.env, process.execArgv]);
const end = (signal) => {
  console.log("got", signal);
  setTimeout(() => { console.log("done"); process.exit(7); }, Number(process.env.WORK_MS ?? 0));
};
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, end);
createServer(({ url }, response) => {
  if (url === "/hang") hangs();
  if (url === "/crash") process.exit(3);
  if (url === "/end") process.exit(0);
  const later = spawnSync(process.execPath, ["-p", "JSON.stringify(process.env)"]).stdout;
  const all = url === "/env" ? [atStart, JSON.stringify(process.env), String(later)] : [];
  response.end(url === "/env" ? JSON.stringify(all.map(foreign)) : String(process.pid));
}).listen(
  Number(process.env.PORT ?? 0),
  process.env.PORT ? "0.0.0.0" : "127.0.0.1",
  function () { console.log("port", this.address().port); },
);
function hangs() { for (;;); }
`;

/** Starts a program that ends by itself, and then the server. */
const twoPrograms = `${word} build.mjs && ${word} web.mjs; exit $?`;

/** The wrappers, and the name of each in messages. */
const wrappers: readonly (readonly [wrapper: string, ...words: string[]])[] = [
  ["npm", "start"],
  ["npm", "run", "build-and-start"],
  ["npm", "run", "unknown"],
  ["npx", "-c", "npm start"],
  ["sh", "-c", twoPrograms],
  ["./start.sh"],
  ["bun", "run", "start"],
  ["node", "--run", "start"],
];
/** The legs of wrappers that not all of them have. */
const legsOf: Readonly<Record<string, readonly string[]>> = {
  "bun run start": ["bun"],
  "node --run start": ["node22", "node24", "node26"],
};

/** Writes the files of a project. Returns the environment in which its wrappers run. */
function project({ directory }: Stage): Record<string, string> {
  const scripts = {
    start: `${word} web.mjs`,
    "build-and-start": twoPrograms,
    unknown: `${word} wrapper.mjs`,
  };
  writeFileSync(`${directory}/package.json`, JSON.stringify({ scripts }));
  writeFileSync(`${directory}/web.mjs`, web);
  writeFileSync(`${directory}/build.mjs`, "setTimeout(() => {}, 300);");
  writeFileSync(
    `${directory}/wrapper.mjs`,
    `import { spawn } from "node:child_process";
    spawn("${word}", ["web.mjs"], { stdio: "inherit" }).on("exit", (code) => process.exit(code ?? 1));
    for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => {});`,
  );
  writeFileSync(`${directory}/start.sh`, `#!/bin/sh\n${word} web.mjs\nexit $?\n`);
  chmodSync(`${directory}/start.sh`, 0o755);
  return {
    PATH: `${dirname(below)}:${process.env["PATH"]}`,
    NODE_DISABLE_COMPILE_CACHE: "1", // npm's cache would be left behind
    NODE_OPTIONS: "--max-old-space-size=200",
    npm_config_update_notifier: "false",
  };
}

const port = async (run: Command, nth = 1) =>
  (await run.text(new RegExp(`(?:port (\\d+)\\n[^]*){${nth}}`)))[1]!;

for (const [wrapper, ...words] of wrappers) {
  // All legs give a test the same name.
  const line = [wrapper, ...words].join(" ");
  const title = line.replaceAll(`${word} build.mjs && ${word} web`, "build.mjs && web");
  const isHere = legsOf[line]?.includes(currentRuntime) ?? true;
  const options = { timeoutMs: 120_000, skip: isHere ? false : "another runtime has this wrapper" };
  commandTest(
    `below ${title}, a hang and a crash are noticed, and exit code 0 is the end`,
    async (sam, stage) => {
      const env = project(stage);
      const flags = ["--json", "--time-interval", "1s"];
      const run = sam(["run", ...flags, wrapper, ...words], env, stage.directory);
      const { pid, command, startedBy } = await run.event("register");
      assertEquals([command, startedBy], [`${word} web.mjs`, wrapper.replace("./", "")]);
      await run.event("start");
      const first = await port(run);
      assertEquals(await page(first, "/"), String(pid));
      assertEquals(await page(first, "/env"), "[false,false,false]");
      const [status] = JSON.parse(await printed(sam(["status", "--json"])));
      assertEquals(status.programs[0].watched, { pid, command });
      assertEquals(await page(first, "/hang"), undefined);
      const { reason, evidence } = await run.event("recovery");
      assertEquals(reason, "timeout");
      if (!isBun) assertStringIncludes(evidence.stack ?? evidence.noStack ?? "", "at hangs (file:");
      assertEquals(lives(pid), false);

      await run.event("start", 2);
      assertEquals(await page(await port(run, 2), "/crash"), undefined);
      assertEquals((await run.event("recovery", 2)).reason, "exit");

      await run.event("start", 3);
      assertEquals(await page(await port(run, 3), "/end"), undefined);
      assertEquals(await run.exited, 0, run.stderr);
    },
    { ...options, leg: newest },
  );

  commandTest(
    `below ${title}, the program gets SIGTERM once and has its time to end`,
    async (sam, stage) => {
      const env = { ...project(stage), WORK_MS: "2000" };
      const run = sam(["run", "--json", wrapper, ...words], env, stage.directory);
      await run.event("start");
      run.kill("SIGTERM");
      await run.exited;
      assertEquals(run.stdout.match(/got \w+|done/g), ["got SIGTERM", "done"]);
      assertEquals(run.events().filter(({ type }) => type === "kill"), []);
    },
    { ...options, leg: ["node26", "bun"] },
  );
}

/** The standard output of a command. */
async function printed(command: Command): Promise<string> {
  assertEquals(await command.exited, 0, command.stderr);
  return command.stdout;
}

commandTest("at a terminal, Ctrl-C reaches the program below npm once", async (_sam, stage) => {
  const env = { ...project(stage), WORK_MS: "500", XDG_RUNTIME_DIR: stage.directory };
  const line = samCommand().map((each) => `'${each}'`).join(" ");
  const run = terminal(`sh -c "cd '${stage.directory}' && exec ${line} run npm start"`, env);
  await eventually("the watch", () => run.output.includes("watching"));
  assertMatch(
    run.output,
    new RegExp(`sam: watching ${word} web\\.mjs \\(pid \\d+\\), started by npm`),
  );
  run.keys("\x03");
  await run.exited;
  assertEquals(run.output.match(/got \w+|done/g), ["got SIGINT", "done"]);
});

commandTest(
  "below a wrapper, a program that never listens is left alone at first",
  async (sam, stage) => {
    const env = project(stage);
    const run = sam(
      ["run", "--json", "sh", "-c", `${word} build.mjs; exit 0`],
      env,
      stage.directory,
    );
    assertEquals(await run.exited, 0);
    assertEquals(run.events().filter(({ type }) => type === "register"), []);
    assert(!run.stderr.includes("cannot detect"), run.stderr);
  },
);

commandTest("below a wrapper, a spare would run the program, so it is refused", async (sam) => {
  const refused = sam(["run", "--preload", "--standby", "1", "sh", "-c", "exit 0"]);
  assertEquals(await refused.exited, 64);
  assertMatch(
    refused.stderr,
    /^sam: --standby is 1, but SAM cannot hold a program below a wrapper/,
  );
  const unwatched = sam(["run", "--standby", "1", "sh", "-c", 'test -z "$SAM_WRAPPED"']);
  assertEquals(await unwatched.exited, 0);
});

commandTest(
  "below a wrapper, a program that has reached its age limit is replaced",
  async (sam, stage) => {
    const [fixed] = await freePorts(1);
    const env = { ...project(stage), PORT: String(fixed) };
    const options = ["run", "--json", "--max-age", "3s"];
    const run = sam([...options, "npm", "start"], env, stage.directory);
    const { pid } = await run.event("register");
    assertEquals((await run.event("reload")).reason, "age");
    await run.event("exit"); // of the old instance
    assert(!lives(pid));
    const next = await eventually("the watch of the replacement", async () => {
      const [status] = JSON.parse(await printed(sam(["status", "--json"])));
      return status.programs[0].watched?.pid;
    });
    assert(lives(next));
    assertEquals(run.events().filter(({ type }) => type === "reloadFailed"), []);
    run.kill("SIGTERM");
    await run.exited;
  },
);

for (const order of ["before", "while", "after"]) {
  commandTest(
    `below a wrapper, a program that initializes ${order} it listens registers itself`,
    async (sam, stage) => {
      const env = project(stage);
      writeFileSync(
        `${stage.directory}/own.mjs`,
        `import { initialize } from "${pathToFileURL(quickFixture("../../mod"))}";
        import { createServer } from "node:http";
        const start = () => initialize({ timeInterval: 2000, recoveryPolicy: "restart" });
        const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        const early = ${order === "before"} ? await start() : undefined;
        createServer().listen(0, async () => {
          if (${order !== "while"}) await pause(300);
          const own = early ?? await start();
          await own.register();
          await own.start();
          console.log("has started");
        });`,
      );
      const run = sam(
        ["run", "--json", "sh", "-c", `${word} own.mjs; exit $?`],
        env,
        stage.directory,
      );
      await run.text(/has started/);
      run.kill("SIGTERM");
      await run.exited;
      assertEquals(run.events().filter(({ type }) => type === "recovery"), []);
    },
  );
}

commandTest(
  "below a wrapper, a child process keeps the options that its parent gives it, and is watched",
  async (sam, stage) => {
    const env = project(stage);
    const given = {
      NODE_OPTIONS: "--max-old-space-size=333",
      BUN_OPTIONS: "--smol",
      PATH: env.PATH,
    };
    writeFileSync(
      `${stage.directory}/parent.mjs`,
      `import { spawn } from "node:child_process";
      import process from "node:process";
      const other = "process.exit(process.env.NODE_OPTIONS || process.env.SAM_LINK ? 1 : 0)";
      const bare = spawn(process.execPath, ["-e", other], { env: {} });
      const linked = { SAM_LINK: "other", SAM_WRAPPED: "", NODE_OPTIONS: "", BUN_OPTIONS: "" };
      const test = 'test "$SAM_LINK$SAM_WRAPPED$NODE_OPTIONS$BUN_OPTIONS" = other';
      const inner = spawn("sh", ["-c", test], { env: linked });
      for (const each of [bare, inner]) each.on("exit", (code) => console.log("checked", code));
      spawn("node_that_does_not_exist").on("error", () => {});
      spawn(process.execPath, ["child.mjs"], { stdio: "inherit", env: ${JSON.stringify(given)} })
        .on("exit", (code) => process.exit(code));`,
    );
    writeFileSync(
      `${stage.directory}/child.mjs`,
      `import { createServer } from "node:http";
      import process from "node:process";
      const { NODE_OPTIONS, BUN_OPTIONS, SAM_LINK, SAM_WRAPPED } = process.env;
      console.log("child", JSON.stringify([NODE_OPTIONS, BUN_OPTIONS, SAM_LINK, SAM_WRAPPED]));
      createServer().listen(0);`,
    );
    const run = sam(
      ["run", "--json", "sh", "-c", `${word} parent.mjs; exit $?`],
      env,
      stage.directory,
    );
    assertEquals(
      (await run.event("register")).command,
      `${runtimeName === "bun" ? "bun" : "node"} child.mjs`,
    );
    await run.text(/(checked 0[^]*){2}/);
    const [, line] = await run.text(/child (.*)\n/);
    assertEquals(JSON.parse(line!), [given.NODE_OPTIONS, given.BUN_OPTIONS, null, null]);
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest(
  "below a wrapper, the processes that a build starts, and detached ones, are not watched",
  async (sam, stage) => {
    const env = project(stage);
    const listens = `import { createServer } from "node:http";
      const server = createServer().listen(0, () => setTimeout(() => server.close(), 300));`;
    const parent = (detached: boolean) =>
      `const { spawn } = require("node:child_process");
      spawn(process.execPath, ["listens.mjs"], { stdio: "inherit", detached: ${detached} });`;
    mkdirSync(`${stage.directory}/node_modules/tool`, { recursive: true });
    writeFileSync(`${stage.directory}/node_modules/tool/cli.js`, parent(false));
    writeFileSync(`${stage.directory}/daemon.cjs`, parent(true));
    writeFileSync(`${stage.directory}/listens.mjs`, listens);
    const line =
      `${word} node_modules/tool/cli.js build; ${word} daemon.cjs; ${word} web.mjs; exit $?`;
    const run = sam(["run", "--json", "sh", "-c", line], env, stage.directory);
    assertEquals((await run.event("register")).command, `${word} web.mjs`);
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest(
  "below a wrapper, a program that may not read the files of SAM is left alone",
  async (sam, stage) => {
    const env = project(stage);
    const line = `node --permission --allow-fs-read=${stage.directory} web.mjs; exit $?`;
    const run = sam(["run", "--json", "sh", "-c", line], env, stage.directory);
    const first = await port(run);
    await page(first, "/end");
    assertEquals(await run.exited, 0, run.stderr);
    assertEquals(run.events().filter(({ type }) => type === "register"), []);
  },
  {
    skip: currentRuntime === "node24"
      ? false
      : "Node 26 has more permissions, and older versions fewer",
  },
);

commandTest(
  "between two programs below a wrapper, no process is watched",
  async (sam, stage) => {
    const env = project(stage);
    const line = `${word} web.mjs; echo over; sleep 30`;
    const run = sam(["run", "--json", "sh", "-c", line], env, stage.directory);
    await run.event("start");
    await page(await port(run), "/end");
    await run.event("stop");
    const [status] = JSON.parse(await printed(sam(["status", "--json"])));
    assertEquals([status.programs[0].state, status.programs[0].watched], ["launched", null]);
    run.kill("SIGTERM");
    await run.exited;
  },
);

for (const transport of ["unix", "shm"]) {
  commandTest(
    `when a wrapper starts its program again, the next process is watched, with ${transport}`,
    async (sam, stage) => {
      const env = project(stage);
      const line = `${word} web.mjs; ${word} web.mjs; ${word} web.mjs; exit $?`;
      const flags = ["--json", "--time-interval", "1s", "--transport", transport];
      const run = sam(["run", ...flags, "sh", "-c", line], env, stage.directory);
      for (const nth of [1, 2]) {
        await run.event("start", nth);
        assertEquals(await page(await port(run, nth), "/crash"), undefined);
        await run.event("stop", nth);
      }
      await run.event("start", 3);
      const { pid, command, instanceId } = await run.event("register", 3);
      const last = await port(run, 3);
      assertEquals([await page(last, "/"), instanceId], [String(pid), 1]);
      const [status] = JSON.parse(await printed(sam(["status", "--json"])));
      assertEquals(status.programs[0].watched, { pid, command });
      assertEquals(await page(last, "/hang"), undefined);
      assertEquals((await run.event("recovery")).reason, "timeout");
      assertEquals(lives(pid), false);
      await run.event("start", 4);
      run.kill("SIGTERM");
      await run.exited;
    },
  );
}

commandTest(
  "if a wrapper goes on after its program, a line says that SAM watches the next one",
  async (sam, stage) => {
    const env = project(stage);
    const words = ["sh", "-c", `${word} web.mjs; sleep 604`];
    const run = sam(["run", "--json", ...words], env, stage.directory);
    await run.event("start");
    await page(await port(run), "/end");
    assertMatch(
      (await run.event("fallback")).detail,
      /^the program that sh ran has ended, and sh goes on: SAM watches the next program/,
    );
    assertEquals(run.events().filter(({ type }) => type === "warn"), []);
    run.kill("SIGTERM");
    await run.exited;
  },
);
