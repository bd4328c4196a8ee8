// README and docs, done as they say: every line of every ```sh block (that is not indented: the set-up of
// two machines in docs/how-to/cluster.md) is given to a shell as it stands, in a folder as its page
// describes it, and what the page promises must follow. A block that has no scene here fails.
//
//   npm run test:docs                  all pages
//   npm run test:docs -- README.md     one page
//   npm run test:docs -- --short       without the benchmarks
//
// npm, npx, bun, bunx, deno, node, sam and Redis are real. Redis is installed with apt as root, and its scenes are
// skipped elsewhere. npm's registry and JSR are local servers with this checkout's package, and GitHub is a copy of this
// checkout. The last line is `N passed, N failed`.

import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { delimiter, dirname, join, relative } from "node:path";
import { installPackages } from "../support/apt.mjs";
import { check, conclude, skip, skipAll } from "../support/counted.mjs";
import { serveRegistries } from "../support/registries.mjs";
import { install, root, run, runtimesDir } from "../support/setup.mjs";
import { must, Shell } from "../support/shell.mjs";

const isShort = process.argv.includes("--short");
/**
 * An address of this machine that others could use; an address of the loopback interface if it has
 * no other.
 */
const address = Object.values(networkInterfaces()).flat()
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.2";
const ports = [6379, 8000, 8080, 9464];

for (const port of ports) {
  const server = createServer().listen(port);
  await once(server, "listening")
    .catch(({ message }) => skipAll(`the docs use port ${port}: ${message}`));
  server.close();
}
const redis = "/usr/bin/redis-check-rdb"; // redis-server is a name of this file. Its own package would also start the server.
const noRedis = await installPackages({ [redis]: "redis-tools" });
const noCurl = await installPackages({ "/usr/bin/curl": "curl" });
await install(root);
await install(runtimesDir);

const home = mkdtempSync(join(tmpdir(), "sam-docs-"));
process.on("exit", () => rmSync(home, { recursive: true, force: true }));
const path = (...names) => join(home, ...names);
const page = (name) => readFileSync(join(root, name), "utf8");
const blocks = (name, kind) =>
  [...page(name).matchAll(RegExp(`^\`\`\`${kind}\n([^]*?)^\`\`\`$`, "gm"))].map(([, text]) => text);

const linesOf = (block) => block.trim().split("\n");

// The world of a reader: a home, the runtimes, a package that was published.
for (const folder of ["bin", "global", "run", "tmp"]) mkdirSync(path(folder), { mode: 0o700 });
const runtimes = join(runtimesDir, "node_modules");
const programs = {
  deno: process.env.SAM_TEST_DENO ?? join(runtimes, "@deno/linux-x64-glibc/deno"),
  bun: join(runtimes, "@oven/bun-linux-x64/bin/bun"),
  bunx: join(runtimes, "@oven/bun-linux-x64/bin/bun"),
  ...(noRedis === undefined && { "redis-server": redis }),
};
for (const [name, target] of Object.entries(programs)) symlinkSync(target, path("bin", name));

const packing = ["pack", "--silent", "--pack-destination", home];
if (process.argv.includes("--built")) packing.push("--ignore-scripts");
const packed = await run("npm", packing);
must(packed.code === 0, packed.output);
const registries = await serveRegistries(path(packed.output.trim().split("\n").at(-1)));
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) =>
    /^npm_config_(registry|https?_?proxy|cafile)$/i.test(name) ||
    !/^(npm_|SAM_|INIT_CWD$|XDG_|TMPDIR$)/i.test(name)
  ),
);
Object.assign(env, registries.environment(home), {
  PATH: [path("bin"), path("global/bin"), dirname(process.execPath), process.env.PATH]
    .join(delimiter),
  TMPDIR: path("tmp"),
  XDG_RUNTIME_DIR: path("run"),
  NO_COLOR: "1",
  DENO_NO_UPDATE_CHECK: "1",
  // GitHub
  GIT_CONFIG_COUNT: "1",
  GIT_CONFIG_KEY_0: `url.${path("git")}/.insteadOf`,
  GIT_CONFIG_VALUE_0: "https://github.com/x/",
});

const shell = new Shell(env);

const get = async (port, at = "/", host = "127.0.0.1") => {
  try {
    const signal = AbortSignal.timeout(10_000);
    const response = await fetch(`http://${host}:${port}${at}`, { signal });
    return response.ok ? await response.text() : undefined;
  } catch {
    return undefined;
  }
};
const answers = (running, ...where) =>
  running.until(`answer from ${where.join()}`, () => get(...where));
/** The programs in `sam status`; none if no server answers. */
async function programsInStatus() {
  const line = "sam status --json 2>/dev/null";
  const { code, output } = await run("sh", ["-c", line], { cwd: home, env });
  return code === 0 ? JSON.parse(output).flatMap(({ programs }) => programs) : [];
}
/** Waits until `sam status` shows all these programs as ready. */
const ready = (running, ...names) =>
  running.until(`${names} that is ready in sam status`, async () => {
    const programs = await programsInStatus();
    return names.every((name) => programs.some((each) => each.name === name && each.ready));
  });

let folders = 0;
/** Makes a new folder with these files, as a package of ES modules. */
function folder(files) {
  const own = path(`folder${++folders}`);
  mkdirSync(own);
  const all = { "package.json": '{ "type": "module", "private": true }', ...files };
  for (const [file, text] of Object.entries(all)) {
    writeFileSync(join(own, file), text, { mode: 0o755 });
  }
  return own;
}

/** Puts this checkout where `git clone` looks for it. */
async function publishSources() {
  const target = path("git/sam");
  const left = /(^|\/)(node_modules|dist|\.build|\.git|coverage|generated)$/;
  cpSync(root, target, { recursive: true, filter: (name) => !left.test(relative(root, name)) });
  const line =
    "git init -q && git add . && git -c user.name=me -c user.email=me@localhost commit -qm all";
  await shell.done(line, target);
}

await shell.done(`npm install --global --prefix ${path("global")} @x/sam`, home);

const [server] = blocks("docs/getting-started.md", "js");
const hangingLine = 1 + server.split("\n").indexOf(server.match(/^ +for \(;;\);.*$/m)[0]);
const [hang, counting, ...moreText] = blocks("docs/getting-started.md", "text");
const [recording] = blocks("README.md", "text");
const [counter] = blocks("docs/getting-started.md", "ts serves");
const [program] = blocks("README.md", "ts serves");
const working = 'setInterval(() => console.log("it works"), 100);\n';
const serving = 'require("node:http").createServer((_, to) => to.end("well")).listen(8080);\n';

/** Checks a line that runs `server`: the server hangs, and is healed. */
function healed(line, cwd) {
  return shell.during(line, cwd, async (running) => {
    const before = await answers(running, 8080);
    await ready(running, "web");
    await get(8080, "/report");
    await running.said(/sam: web \(pid \d+\) ended by SIG/);
    must(await answers(running, 8080) !== before, "it is the same process");
  });
}

/** Checks a line that runs `working`: its process is killed, and a new one starts. */
function keptRunning(line, name, cwd) {
  return shell.during(line, cwd, async (running) => {
    await running.said(/it works/);
    process.kill(await running.activeProcess(name), "SIGKILL");
    await running.said(/\(pid \d+\) ended by SIGKILL; instance 2 starts now\n[^]*it works/);
  });
}

/** Makes examples/web.ts fail, and checks that its count goes on. */
async function keepsCount(running, failure) {
  const first = await answers(running, 8000);
  must(first === "instance 1, visit 1\n", first);
  await get(8000, failure);
  await running.until(
    "second visit of instance 2",
    async () => /^instance 2, visit [2-9]/.test(await get(8000)),
  );
}

/** Fails unless the output contains these lines in this order, whatever the numbers and folders in them. */
function mustTell(output, lines) {
  const shape = (line) =>
    line.replace(/file:\/\/.*\/(\S+:\d+):\d+/, "$1").replace(/(?<=[ (])\d+(\.\d+)?/g, "N");
  let rest = output.split("\n").map(shape);
  for (const line of lines.trim().split("\n").map(shape)) {
    must(rest.includes(line), `"${line}" is not in its place in:\n${output}`);
    rest = rest.slice(rest.indexOf(line) + 1);
  }
}

const [, , , requests, ...counts] = blocks("docs/getting-started.md", "sh").map(linesOf);

/** The tutorial on one runtime: `server` hangs and is restarted, then `counter`. */
async function tutorial(installing, line, [...countingLines]) {
  must(moreText.length === 0, "docs/getting-started.md has a text that no scene checks");
  if (noCurl !== undefined) skip(`curl: ${noCurl}`);
  const cwd = folder({ "web.js": server, "counter.js": counter });
  rmSync(join(cwd, "package.json"));
  for (const each of installing) await shell.done(each, cwd);
  const [before, report, after] = requests;
  const output = await shell.during(line, cwd, async (running) => {
    await answers(running, 8080);
    await ready(running, "web");
    const first = await shell.done(before, cwd);
    await shell.fails(report, cwd);
    await ready(running, "web");
    const second = await shell.done(after, cwd);
    const form = /process \d+\n/;
    must(form.test(first) && form.test(second) && first !== second, `${first}, ${second}`);
  });
  if (!line.startsWith("bun")) {
    mustTell(output, hang);
    // Frames inside the runtime differ from version to version.
    mustTell(output, recording.match(/^sam: (?!.*\(node:).*$/gm).join("\n"));
  }
  const counterLine = countingLines.pop();
  for (const each of countingLines) await shell.done(each, cwd);
  const counted = await shell.during(
    counterLine,
    cwd,
    (running) => running.said(/instance 2 has counted to 12\n/),
  );
  must(counted.replace(/^(?!instance).*\n/gm, "").includes(counting), counted);
}

/** Page by page, block by block: a function that has a parameter for each line. */
const scenes = {
  "README.md": [
    async (npm, deno, bun) => {
      const lines = [[npm, "node app.mjs"], [deno, "deno run -A app.mjs"], [bun, "bun app.mjs"]];
      for (const [install, line] of lines) {
        const cwd = folder({ "app.mjs": program, "app.ts": program });
        await shell.done(install, cwd);
        if (install === deno) await shell.done("deno check app.ts", cwd);
        await shell.heals(line, cwd);
      }
    },
  ],
  "docs/getting-started.md": [
    (init, modules, install, run) => tutorial([init, modules, install], run, counts[0]),
    (init, install, run) => tutorial([init, install], run, counts[1]),
    (run) => tutorial([], run, counts[2]),
    undefined, // the requests, and three times the counter: in the scenes above
    undefined,
    undefined,
    undefined,
    async (clone) => {
      await publishSources();
      await shell.during(clone, home, (running) => keepsCount(running, "/hang"));
    },
    async (bun, deno) => {
      for (const line of [bun, deno]) {
        await shell.during(line, path("sam"), (running) => keepsCount(running, "/crash"));
      }
    },
  ],
  "docs/cli.md": [
    async (npx, bunx, deno) => {
      for (const line of [npx, bunx, deno]) {
        const cwd = folder({ "web.js": server, "web.ts": server });
        // Beside a package.json, Deno downloads no npm package, such as the one that reads source maps.
        if (line === deno) rmSync(join(cwd, "package.json"));
        const output = await healed(line, cwd);
        const [file] = /web\.\w+/.exec(line);
        if (line !== bunx) {
          mustTell(output, `sam:     at buildReport (file:///${file}:${hangingLine}:3)`);
        }
      }
    },
    async (status, watch, events, restart, signal, stop) => {
      const cwd = folder({
        "web.js": 'process.on("SIGHUP", () => console.log("hung up"));\n' + working,
      });
      await shell.during("sam run web.js", cwd, async (running) => {
        await ready(running, "web");
        const table = await shell.done(status, cwd);
        must(/^web +ready +\d+ /m.test(table), table);
        await shell.during(watch, cwd, async (watching) => {
          await watching.said(/ web: ready, pid \d+/);
          await shell.during(events, cwd, async (following) => {
            await following.said(/instance 1 has started/);
            await shell.done(signal, cwd);
            await running.said(/hung up/);
            await shell.done(restart, cwd);
            await following.said(/instance 2 has started/);
            await ready(running, "web");
            await watching.said(/ web: .*restarts 1$/m);
          });
        });
        await shell.done(stop, cwd);
      });
    },
  ],
  "docs/runtimes.md": [
    (line) => keptRunning(line, "web.js", folder({ "web.js": working })),
    (line) => keptRunning(line, "web.js", folder({ "web.js": working })),
  ],
  "docs/how-to/health-checks.md": [
    async (http, command) => {
      const files = { "web.cjs": serving, web: "#!/bin/sh\nexec node web.cjs\n" };
      const serveHealth = (running) => ready(running, "web");
      await shell.during(http, folder(files), serveHealth);
      if (noRedis !== undefined) skip(`redis: ${noRedis}`);
      await shell.during(command, folder({}), async (running) => {
        await ready(running, "redis-server");
        process.kill(await running.activeProcess("redis-server *:"), "SIGKILL");
        await running.said(/\(pid \d+\) ended by SIGKILL; instance 2 starts now\n/);
        await ready(running, "redis-server");
      });
    },
    async (line) => {
      const unanswered = serving.replace("require(", "process.getBuiltinModule(")
        .replace("to.end", '_.url === "/orders" || to.end');
      const soon = line.replace("30s", "2s");
      await shell.during(soon, folder({ "web.js": unanswered }), async (running) => {
        await answers(running, 8080);
        await ready(running, "web");
        const abort = new AbortController();
        fetch("http://127.0.0.1:8080/orders", { signal: abort.signal }).catch(() => {});
        await running.said(
          /no HTTP request has finished for .* s; the only one that waits: GET \/orders/,
        );
        abort.abort();
      });
    },
  ],
  "docs/how-to/http-servers.md": [
    async (plain, checked) => {
      await healed(plain, folder({ "web.js": server }));
      const files = { "web.js": serving.replace("require(", "process.getBuiltinModule(") };
      await shell.during(checked, folder(files), (running) => ready(running, "web"));
    },
  ],
  "docs/how-to/zero-downtime.md": [
    (line) => healed(line, folder({ "web.js": server })),
  ],
  "docs/how-to/wrappers.md": [
    async (line) => {
      const scripts = JSON.stringify({ scripts: { start: "node web.js" } });
      await shell.during(
        line,
        folder({ "web.js": server, "package.json": scripts }),
        async (running) => {
          const before = await answers(running, 8080);
          await running.said(/sam: watching node web\.js \(pid \d+\), started by npm/);
          await running.until("started program in sam status", async () => {
            return (await programsInStatus()).some(({ state }) => state === "started");
          });
          await get(8080, "/report");
          await running.said(/sam: npm \(pid \d+\) ended with exit code 143/);
          must(await answers(running, 8080) !== before, "it is the same process");
        },
      );
    },
  ],
  "docs/how-to/memory.md": [
    (line) => healed(line, folder({ "web.js": server })),
    (line) => healed(line, folder({ "web.js": server })),
  ],
  "docs/how-to/deploy.md": [
    async (line) => {
      const [, [reload]] = blocks("docs/how-to/deploy.md", "sh").map(linesOf);
      const version = (text) =>
        serving.replace("require(", "process.getBuiltinModule(").replace("well", text);
      const cwd = folder({ "web.js": version("one") });
      await shell.during(line, cwd, async (running) => {
        await ready(running, "web");
        must(await answers(running, 8080) === "one", "it is not the first version");
        writeFileSync(join(cwd, "web.js"), version("two"));
        await shell.done(reload, cwd);
        must(await answers(running, 8080) === "two", "it is not the second version");
        writeFileSync(join(cwd, "web.js"), "process.exit(1)");
        await shell.fails(reload, cwd);
        must(
          await answers(running, 8080) === "two",
          "the broken version has replaced the second one",
        );
      });
    },
    undefined, // the reload: in the scene above
  ],
  "docs/how-to/jobs.md": [
    async (line) => {
      const output = await shell.done(
        line,
        folder({ "job.js": 'console.log("the job is done");' }),
      );
      must(output.includes("the job is done"), output);
    },
  ],
  "docs/how-to/time-interval.md": [
    (line) =>
      shell.during(line, folder({ "web.js": server }), async (running) => {
        await answers(running, 8080);
        await ready(running, "web");
        void get(8080, "/report");
        await running.said(/stopped responding: .*; no signal was sent/);
      }),
    (line) => healed(line, folder({ "web.js": server })),
  ],
  "docs/metrics.md": [
    async (local, others) => {
      const cwd = folder({ "web.js": server });
      await shell.during(local, cwd, async (running) => {
        must(/<title\b/.test(await answers(running, 9464)), "it is no page");
        must(await get(9464, "/", address) === undefined, `${address} is served as well`);
      });
      await shell.during(others, cwd, (running) => answers(running, 9464, "/", address));
    },
  ],
  // test/cluster/examples_test.ts
  "docs/how-to/cluster.md": [undefined],
  // Of the benchmarks (25 minutes), those of 3 minutes, and in the long form only.
  "docs/performance.md": [
    async (apt, bench, quick, part, check) => {
      const { scripts } = JSON.parse(page("package.json"));
      for (const line of [bench, quick, part, check]) {
        const [, script] = /^npm run (\S+)/.exec(line);
        must(scripts[script] !== undefined, `there is no ${script}`);
      }
      if (isShort) return;
      if (process.getuid() === 0) await shell.done(apt.replace(/^sudo /, ""), home);
      if (!existsSync(path("sam"))) {
        await publishSources();
        await shell.done("git clone -q https://github.com/x/sam", home);
      }
      await shell.done(quick, path("sam"), 600_000);
    },
  ],
};

/** The configurations of several programs: the files they need, and the names of their programs. */
const configurations = {
  "docs/how-to/several-programs.md": [
    { "worker.ts": working, "web.ts": working },
    "store",
    "worker",
    "web",
  ],
  "docs/how-to/pm2.md": [{ "api.js": working, "mailer.js": working }, "api", "mailer"],
};

try {
  const names = [
    "README.md",
    ...readdirSync(join(root, "docs"), { recursive: true })
      .map((name) => `docs/${name}`).filter((name) => name.endsWith(".md")).sort(),
  ];
  const wanted = process.argv.slice(2).filter((word) => !word.startsWith("--"));
  for (const name of wanted.length > 0 ? wanted : names) {
    for (const [at, text] of blocks(name, "sh").entries()) {
      const lines = linesOf(text);
      const scene = scenes[name]?.[at];
      if (scene === undefined && scenes[name]?.length > at) continue; // another test has it
      const title = lines.map((line) => line.replace(/ +#.*/, "")).join("; ");
      await check(`${name}: ${title}`, async () => {
        must(
          scene?.length === lines.length,
          `no scene in test/tools/docs.mjs has ${lines.length} lines`,
        );
        await scene(...lines);
      });
    }
    const block = blocks(name, "ts").find((text) => text.includes("const config: SamConfig"));
    if (block === undefined) continue;
    await check(`${name}: sam.config.ts`, async () => {
      const [files, ...programs] = configurations[name];
      if (noRedis !== undefined && programs.includes("store")) skip(`redis: ${noRedis}`);
      const cwd = folder({ ...files, "sam.config.ts": block });
      await shell.done("bun add @x/sam", cwd);
      await shell.during("bunx --bun sam run", cwd, (running) => ready(running, ...programs));
    });
  }
} finally {
  registries.close();
}
conclude();
