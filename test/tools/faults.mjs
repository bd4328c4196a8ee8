// Kills servers, programs and spares at random moments, and looks for leftovers.
//
//   npm run test:faults                            1,000 kills on each of node26, deno and bun (6 minutes each),
//                                                  then a minute with all cores busy (test/faults/load_test.ts)
//   npm run test:faults -- --only deno --kills 50  fewer kills on one runtime
//   npm run test:faults -- --seed 7                the seed decides which process is killed, and when
//   npm run test:faults -- --busy 0                without the busy minute
//
// After each kill of a server its processes must be gone, and the next server must remove any directory that it left.
// After a kill of the program the next instance must get the data that was acknowledged before. The last line is
// `N kills, N failures`.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { build, install, root, runtimesDir } from "../support/setup.mjs";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "node26,deno,bun" },
    kills: { type: "string", default: "1000" },
    seed: { type: "string", default: String(Date.now() % 1e6) },
    busy: { type: "string", default: "60" },
  },
});
const waitMs = 30_000;

await install(root);
await install(runtimesDir);
await build();
const { fixtureFor, runtimePath } = await import("../../.build/test/support/runtimes.js");

let state = Number(options.seed) >>> 0;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};

/** TMPDIR of all servers. */
const temporary = mkdtempSync(join(tmpdir(), "faults-"));
/** The directories in which a server makes its own, and removes those of killed servers. */
const homes = { unix: temporary, shm: "/dev/shm" };
const servers = new Set();
let stray = [];
let kills = 0;
let failures = 0;
for (const runtime of options.only.split(",")) {
  console.log(`${runtime}, seed ${options.seed}`);
  for (let n = 0; n < Number(options.kills);) n += await life(runtime, Number(options.kills) - n);
}
for (const path of [temporary, ...stray]) rmSync(path, { recursive: true, force: true });
if (Number(options.busy) > 0) {
  const busy = spawnSync(
    process.execPath,
    [
      join(root, "test/tools/matrix.mjs"),
      "--jobs",
      "1",
      "--file",
      "faults/load",
      "--only",
      options.only,
    ],
    { env: { ...process.env, SAM_TEST_LOAD_MS: `${options.busy}000` }, stdio: "inherit" },
  );
  if (busy.status !== 0) failures++;
}
if (failures > 0) process.exitCode = 1;
console.log(`${kills} kills, ${failures} failures`);

/**
 * Starts one server and kills its processes until the server itself is killed. Returns the number
 * of kills.
 */
async function life(runtime, most) {
  const directory = mkdtempSync(join(tmpdir(), "faults-"));
  const output = join(directory, "lines");
  const transport = ["unix", "pipe", "shm"][Math.floor(random() * 3)];
  const tag = `${process.pid}.${kills}`;
  const flags = runtime === "deno" ? ["run", "-A", "--no-config"] : [];
  const server = spawn(
    runtimePath(runtime),
    [...flags, fixtureFor(runtime, "faults/program"), transport, "helpers", "sleep 600"],
    {
      env: {
        ...process.env,
        TMPDIR: temporary,
        SAM_TEST_OUTPUT: output,
        SAM_TEST_TAG: tag,
        SAM_TEST_OPTIONS: JSON.stringify({ standby: 1 }),
      },
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  servers.add(server.pid);
  let said = "";
  server.stderr.setEncoding("utf8").on("data", (text) => said += text);
  const ended = new Promise((resolve) => server.once("close", resolve));
  const lines = (event) => {
    try {
      return readFileSync(output, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line))
        .filter((line) => line.event === event);
    } catch {
      return [];
    }
  };
  const eventually = async (what, get) => {
    for (const end = performance.now() + waitMs; !get();) {
      if (performance.now() > end) throw new Error(`in vain: ${what}`);
      await sleep(5);
    }
  };
  let done = 0;
  try {
    for (; done < most;) {
      const began = lines("started").length;
      if (random() < 0.7) {
        await eventually("a start", () => lines("started").length > 0 || server.exitCode !== null);
        if (server.exitCode !== null) break; // the first instance ended before it started
        const before = stray.filter((path) => path.startsWith(`${homes[transport]}/`));
        await eventually(
          "the removal of what was left",
          () => directories().every((path) => !before.includes(path)),
        );
      }
      await sleep(random() * random() * 600);
      // A child that the server has forked but that has not yet called exec() may become its guard,
      // so it is not killed.
      const instances = tagged(tag).filter((pid) =>
        commandOf(pid).includes("faults/program") &&
        read(`/proc/${pid}/environ`).includes("SAM_LINK=")
      );
      const victim = done === most - 1 || random() < 0.2 || instances.length === 0
        ? server.pid
        : instances[Math.floor(random() * instances.length)];
      const wasActive = lines("started").at(-1)?.pid === victim;
      if (!killed(victim)) continue; // it has just ended by itself
      done++;
      if (victim === server.pid) break;
      if (wasActive) await eventually("the next start", () => lines("started").length > began);
    }
    // Each instance stores its number, and prints "started" when that is acknowledged.
    const stored = lines("started").map(({ instance }) => instance);
    for (const { instance, data: [restored = 0] } of lines("registered")) {
      const acknowledged = Math.max(0, ...stored.filter((each) => each < instance));
      if (restored < acknowledged || restored >= instance) {
        throw new Error(
          `instance ${instance} restored ${restored}, acknowledged was ${acknowledged}`,
        );
      }
    }
    await eventually("the end of all processes", () => tagged(tag).length === 0);
    await ended;
    stray = directories();
  } catch (error) {
    failures++;
    console.log(`FAILED after ${kills + done} kills, ${transport}: ${error.message}\n${said}`);
    for (const pid of tagged(tag)) {
      const parent = /^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1];
      console.log(
        `  left: ${pid}, child of ${parent}: ${commandOf(pid).replaceAll("\0", " ").slice(0, 200)}`,
      );
      killed(pid);
    }
  }
  kills += done;
  rmSync(directory, { recursive: true, force: true });
  return Math.max(done, 1);
}

/** Kills a process. Returns false if it had already ended. */
function killed(pid) {
  try {
    return process.kill(pid, "SIGKILL");
  } catch {
    return false;
  }
}

/** The directories of servers: sam-NAMESPACE-PID-RANDOM, with numbers in base 36. */
function directories() {
  return Object.values(homes).flatMap((home) =>
    readdirSync(home).filter((name) =>
      name.startsWith("sam-") && servers.has(parseInt(name.split("-")[2], 36))
    ).map((name) => join(home, name))
  );
}

function tagged(tag) {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((pid) =>
    read(`/proc/${pid}/environ`).includes(`SAM_TEST_TAG=${tag}\0`)
  ).map(Number);
}

function commandOf(pid) {
  return read(`/proc/${pid}/cmdline`);
}

function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
