// `sam run` of real wrappers from npm, as users start their servers: npm, npx, pnpm, yarn, tsx, ts-node and nodemon, with Express,
// NestJS and Next.js below them. The program below the wrapper must be watched as if `sam` had started it itself. It must see the
// same environment as without `sam`.
//
//   npm run test:wrappers                   all wrappers, on Node 20, 22, 24 and 26
//   npm run test:wrappers -- --short        on Node 24, without Next.js, and tsx only below npx
//   npm run test:wrappers -- pnpm "npx tsx" the wrappers whose command lines begin with these words
//
// The wrappers and the package are installed in .build/wrappers. The last line is `N passed, N failed`.

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { check, conclude } from "../support/counted.mjs";
import { freePort, Installed } from "../support/installed.mjs";
import { next } from "../support/server_programs.mjs";
import { install, root, run, runtimePaths, runtimesDir } from "../support/setup.mjs";
import { good, must, Shell } from "../support/shell.mjs";
import { workerProject, workerScenes } from "../support/worker_scenes.mjs";
import { projects } from "../support/wrapper_programs.mjs";

const limitMs = 60_000;
const nodeOptions =
  "--max-old-space-size=300 --require ./own.cjs --import ./own.mjs --inspect=127.0.0.1:0";
const bunOptions = "--smol --preload=./own.cjs";

const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: {
    short: { type: "boolean", default: false },
    built: { type: "boolean", default: false },
  },
});

await install(root);
await install(runtimesDir);
const installed = new Installed("wrappers", [runtimePaths.node24, runtimePaths.bun]);
const { home } = installed;
/** The package in a folder with a space in its name, because wrappers pass its path on in variables that contain several words. */
const spaced = join(home, "with a space/@x/sam");
const bin = join(home, "node_modules/.bin");
const packages = [
  ...["pnpm@10", "yarn@1", "tsx@4", "ts-node@10", "nodemon@3"],
  ...["express@5", "typescript@5", "@types/node@24", "@types/express@5"],
  ...["@nestjs/core@11", "@nestjs/common@11", "@nestjs/platform-express@11"],
  ...["reflect-metadata@0.2", "rxjs@7"],
];

/**
 * The command lines after `sam run`. `command` matches that of the watched process. It is left out for a wrapper that is itself
 * the process of the program. A wrapper that `waits` goes on after the end of its program. `place` matches the stack trace of a
 * hang, which Bun does not have. `versions` are those of Node.
 */
const wrappers = [
  { line: "npm start", project: "express", command: /^node web\.js/ },
  { line: "npm run start:bun", project: "express", command: /^bun web\.js$/, isBun: true },
  { line: "pnpm start", project: "express", command: /^node web\.js/ },
  { line: "yarn start", project: "express", command: /^node web\.js/ },
  { line: "npx tsx web.ts", project: "typescript", command: /web\.ts$/ },
  { line: "tsx web.ts", project: "typescript", command: /web\.ts$/, isLong: true },
  { line: "ts-node web.ts", project: "typescript" },
  { line: "npx ts-node web.ts", project: "typescript", command: /web\.ts$/, isLong: true },
  {
    line: "node --run start",
    project: "express",
    command: /^node web\.js/,
    versions: [24, 22, 26],
    isLong: true,
  },
  { line: "sh -c 'node web.js; exit'", project: "express", command: /^node web/, isLong: true },
  { line: "bun run start:bun", project: "express", command: /^bun web/, isBun: true, isLong: true },
  { line: "deno task start", project: "deno", isDeno: true, isLong: true },
  { line: "nodemon web.js", project: "express", command: /^node web\.js/, waits: true },
  { line: "npm start", project: "typescript", command: /^node dist\/web\.js/ },
  { line: "npm run start:prod", project: "nest", command: /^node dist\/main\.js/ },
  {
    line: "npm start",
    project: "next",
    command: /^next-server/,
    timeInterval: "2s",
    place: /^at .*app\/hang\/route\.js:2:/, // the build removes the name of the function
    isLong: true,
  },
];

/** The environment of a user who has set NODE_OPTIONS and BUN_OPTIONS. */
async function environment(version) {
  return {
    ...installed.env,
    PATH: [
      dirname(runtimePaths[`node${version}`]),
      bin,
      dirname(runtimePaths.deno),
      installed.env.PATH,
    ].join(delimiter),
    HOME: join(installed.env.TMPDIR, "home"),
    PORT: String(await freePort()),
    NODE_OPTIONS: nodeOptions,
    BUN_OPTIONS: bunOptions,
    npm_config_update_notifier: "false",
    NEXT_TELEMETRY_DISABLED: "1",
    NEXT_MANUAL_SIG_HANDLE: "true", // the program handles SIGTERM itself
  };
}

/** Requests a page of the program. Resolves to its text, or to undefined if there was no answer. */
async function page(env, path) {
  try {
    const signal = AbortSignal.timeout(limitMs);
    const headers = { connection: "close" };
    return await (await fetch(`http://127.0.0.1:${env.PORT}${path}`, { headers, signal })).text();
  } catch {
    return undefined;
  }
}

/** Variables that differ from run to run. SAM marks all processes of a program by a variable with a random name. */
const random = /^(SAM_FAMILY_\w+|NEXT_PRIVATE_START_TIME)$/;

/** The environment that the program and its child process see. Yarn puts a directory with a random name on PATH. */
async function facts(env) {
  const text = await page(env, "/facts");
  must(text?.startsWith("{"), `no facts: ${text}`);
  return JSON.parse(
    text.replaceAll(/yarn--[\d.-]+/g, "yarn"),
    (name, value) => random.test(name) ? undefined : value,
  );
}

/** The first difference between two values, as a text; undefined if they are equal. */
function difference(one, other, path = "") {
  if (typeof one !== "object" || typeof other !== "object") {
    return one === other ? undefined : `${path} is ${one}, without sam ${other}`;
  }
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])];
  return keys.map((key) => difference(one[key], other[key], `${path}.${key}`))
    .find((each) => each !== undefined);
}

/** The command line of `sam run` with a wrapper. */
const samLine = (line, timeInterval) =>
  `exec node '${spaced}/dist/cli.js' run --json --time-interval ${timeInterval} ${line}`;

const lives = (pid) => {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
};

/** Runs one wrapper with `sam run`, and all that can happen to the program below it. */
async function scenes(
  {
    line,
    project,
    command,
    version,
    isBun,
    isDeno,
    waits,
    timeInterval = "1s",
    place = /^at (\w+\.)?hangs /,
  },
) {
  const title = `${line} (${project}, ${isBun ? "Bun" : isDeno ? "Deno" : `Node ${version}`})`;
  const cwd = join(home, project);
  const env = await environment(version);
  const shell = new Shell(env);
  const sam = samLine(line, timeInterval);
  const answers = async () => (await page(env, "/pid")) ?? "";
  let without;
  await check(`${title}: runs without sam`, () =>
    shell.running(line, cwd, async (running) => {
      await running.until("server", answers);
      if (isDeno) return;
      without = await facts(env);
      const { NODE_OPTIONS, BUN_OPTIONS } = without.now.env;
      must(NODE_OPTIONS === nodeOptions && BUN_OPTIONS === bunOptions, "the options do not arrive");
    }));
  if (without === undefined && !isDeno) return;

  await shell.running(sam, cwd, async (running) => {
    let known = 0;
    let said = 0;
    /** Waits for the next event of a type in this scene. */
    const event = (type) =>
      running.until(
        `event ${type}`,
        () => running.events.slice(known).find((each) => each.type === type),
      );
    const scene = (what, action) =>
      check(`${title}: ${what}`, async () => {
        known = running.events.length;
        said = running.output.length;
        try {
          await action();
        } catch (error) {
          const more = running.output.slice(said);
          throw new Error(
            error.message.includes(more) ? error.message : `${error.message}\n${more}`,
          );
        }
      });
    let pid;
    /** Waits until the program is watched. */
    const watched = async () => {
      const registered = await event("register");
      await event("start");
      pid = Number(await running.until("server", answers));
      must(registered.pid === pid, `process ${registered.pid} is watched, the server is ${pid}`);
      return registered;
    };
    await scene("the program is watched", async () => {
      const registered = await watched();
      must(
        command ? command.test(registered.command) : registered.command === undefined,
        `it is "${registered.command}"`,
      );
      const name = command && line.split(" ")[0];
      must(registered.startedBy === name, `it was started by ${registered.startedBy}`);
    });
    // Deno passes its flags on to no other process.
    if (!isDeno) {
      await scene("the program and its child processes see no trace of sam", async () => {
        const different = difference(await facts(env), without);
        must(different === undefined, different);
      });
    }
    await scene(
      `a hang is noticed${isBun ? "" : ", and the stack trace names the function"}`,
      async () => {
        const old = pid;
        must((await page(env, "/hang")) === undefined, "the server answers");
        const { reason, evidence } = await event("recovery");
        await watched();
        must(!lives(old), `process ${old} is left`);
        must(reason === "timeout", `the reason is ${reason}`);
        must(
          isBun || place.test(evidence.stack),
          `the stack is ${evidence.stack ?? evidence.noStack}`,
        );
      },
    );
    if (!waits) {
      await scene("a crash is noticed", async () => {
        await page(env, "/crash");
        const { reason } = await event("recovery");
        must(reason === "exit", `the reason is ${reason}`);
        await watched();
      });
    }
    await scene("the program gets SIGTERM once, and has its time to end", async () => {
      running.terminate();
      const status = await running.ended(limitMs);
      const heard = running.output.slice(said).match(/got SIGTERM|done/g) ?? [];
      must(heard.join() === "got SIGTERM,done", `it said: ${heard}`);
      must([0, 143].includes(status), `sam ended with ${status}`);
      must(running.events.slice(known).every(({ type }) => type !== "kill"), "it was killed");
    });
  });
  if (waits) {
    await check(
      `${title}: a crash is left to the wrapper, and the next program is watched`,
      () =>
        shell.running(sam, cwd, async (running) => {
          const heard = (type) => running.events.some((event) => event.type === type);
          await running.until("start of the watch", () => heard("start"));
          await page(env, "/crash");
          await running.until("end of the watch", () => heard("stop"));
          must(!heard("recovery"), `sam restarts it:\n${running.output}`);
          // The wrapper starts the program again when a file changes.
          const file = join(cwd, line.split(" ").at(-1));
          const starts = () => running.events.filter(({ type }) => type === "start").length;
          for (const nth of [2, 3]) {
            writeFileSync(file, `${readFileSync(file, "utf8")}\n`);
            await running.until(`start ${nth} of the watch`, () => starts() === nth);
          }
          await page(env, "/hang");
          await running.until("recovery", () => heard("recovery"));
          await running.until("start after the recovery", () => starts() === 4);
          running.terminate();
          const status = await running.ended(limitMs);
          must([0, 143].includes(status), `sam ended with ${status}:\n${running.output}`);
        }),
    );
  } else if (project !== "next") {
    await check(
      `${title}: exit code 0 is the end`,
      () =>
        shell.running(sam, cwd, async (running) => {
          await running.until("server", answers);
          await page(env, "/end");
          const status = await running.ended(limitMs);
          must(status === 0, `sam ended with ${status}:\n${running.output}`);
        }),
    );
  }
  if (!options.short || line === "npm start") {
    /** Presses Ctrl-C in a terminal. Resolves to the exit status, the signals that the program heard, and what was printed. */
    const interrupted = async (line) => {
      let found;
      await shell.running(line, cwd, async (running) => {
        await running.until("server", answers);
        if (line === sam) {
          await running.until("watch", () => running.events.some(({ type }) => type === "start"));
        }
        running.keys("\x03");
        const status = await running.ended(limitMs);
        const heard = running.output.match(/got \w+|done/g) ?? [];
        found = { status, heard: heard.join(), output: running.output };
      }, { inTerminal: true });
      return found;
    };
    await check(`${title}: after Ctrl-C in a terminal, the program finishes its work`, async () => {
      const bare = await interrupted(`exec ${line}`);
      const found = await interrupted(sam);
      const { status, heard, output } = found;
      // Some wrappers pass on the signal that the terminal has already sent to the program. Some do not wait for the program.
      const times = (text) => text.match(/got SIGINT/g)?.length ?? 0;
      must(
        heard.endsWith(",done") && times(heard) <= Math.max(1, times(bare.heard)),
        `it heard ${heard}, without sam ${bare.heard}:\n${output}`,
      );
      must(
        status === bare.status || !bare.heard.endsWith("done"),
        `sam ended with ${status}, without sam ${bare.status}`,
      );
    });
  }
  await check(`${title}: nothing is left at the end`, () => installed.mustHaveLeftNothing(/^sam-/));
}

const isWanted = (line) => wanted.length === 0 || wanted.some((each) => line.startsWith(each));
const all = wrappers.filter(({ line, isLong }) => !(isLong && options.short) && isWanted(line));
await check("the wrappers are installed", async () => {
  const more = options.short ? [] : next.packages;
  await installed.install([...packages, ...more], options.built);
  rmSync(spaced, { recursive: true, force: true });
  cpSync(join(home, "node_modules/@x/sam"), spaced, { recursive: true });
});
for (const project of new Set([...all.map((each) => each.project), "workers"])) {
  const files = Object.entries(project === "workers" ? workerProject : projects[project]);
  for (const [file, text] of files) {
    const path = join(home, project, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  if (!JSON.parse(projects[project]?.["package.json"] ?? "{}").scripts?.build) continue;
  const env = await environment(24);
  await check(
    `${project} is built`,
    () => good("npm", ["run", "build"], { cwd: join(home, project), env }),
  );
}
/** A server with workers of node:cluster. */
async function workersBelow(line, version, isBun) {
  const cwd = join(home, "workers");
  const env = { ...await environment(version), NODE_OPTIONS: "", BUN_OPTIONS: "" };
  const shell = new Shell(env);
  const workers = async () => {
    const { code, output } = await run("node", [`${spaced}/dist/cli.js`, "status", "--json"], {
      env,
    });
    if (code !== 0) return [];
    return JSON.parse(output)[0].programs[0].members
      .filter(({ heartbeatAge }) => heartbeatAge !== null).map(({ pid }) => pid);
  };
  await workerScenes({
    title: `${line} (four workers, ${isBun ? "Bun" : `Node ${version}`})`,
    shell,
    line: samLine(line, "2s"),
    cwd,
    url: `http://127.0.0.1:${env.PORT}`,
    workers,
    isBun,
    hangs: options.short ? 2 : 4,
  });
}

for (const wrapper of all) {
  const { isBun, isDeno, versions: all = [24, 20, 22, 26] } = wrapper;
  const versions = isBun || isDeno || options.short ? [24] : all;
  for (const version of versions) await scenes({ ...wrapper, version });
}
for (const version of options.short ? [24] : [24, 20, 22, 26]) {
  if (isWanted("npm start")) await workersBelow("npm start", version);
}
if (isWanted("npm run start:bun") && !options.short) {
  await workersBelow("npm run start:bun", 24, true);
}
await check("nothing is left of the workers", () => installed.mustHaveLeftNothing(/^sam-/));
conclude();
