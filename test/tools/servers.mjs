// Real servers behind `sam run --listen`, as their authors write them: Express, Fastify, Hono, Koa and Next.js on Node, Hono on
// Deno and Bun. Clients load each server while an instance crashes and hangs, while a new version is put into service by
// `sam reload`, and while versions that are broken are tried. Only the requests that a failed instance was answering may fail.
//
//   npm run test:servers                    all servers, with one instance and with two
//   npm run test:servers -- --short         two instances, except for Express, and fewer broken versions
//   npm run test:servers -- express next    the servers with these names
//
// The servers and the package are installed in .build/servers. The last line is `N passed, N failed`.

import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { check, conclude } from "../support/counted.mjs";
import { freePort, Installed } from "../support/installed.mjs";
import { Load } from "../support/load.mjs";
import { faults, next, servers, sourceOf } from "../support/server_programs.mjs";
import { install, root, run, runtimePaths, runtimesDir } from "../support/setup.mjs";
import { good, must } from "../support/shell.mjs";

const limitMs = 60_000;

const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: {
    short: { type: "boolean", default: false },
    built: { type: "boolean", default: false },
  },
});

await install(root);
await install(runtimesDir);
const { node24: node, deno, bun } = runtimePaths;
const installed = new Installed("servers", [node, deno, bun]);
const { home, cli } = installed;
const env = { ...installed.env, NEXT_TELEMETRY_DISABLED: "1" };

async function until(what, ask) {
  for (const end = Date.now() + limitMs;; await sleep(50)) {
    const answer = await ask();
    if (answer) return answer;
    must(Date.now() < end, typeof what === "function" ? what() : `no ${what}`);
  }
}

/** A program that `sam run` runs, and the clients that load it. */
class Service {
  #child;
  #exited;
  #output = "";
  #load;
  #port;

  /** Starts a program by the words that follow the options of `sam run`. Resolves when it is ready. */
  static async start(words, flags, cwd) {
    const service = new Service();
    const port = service.#port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const all = [
      "run",
      "--listen",
      String(port),
      "--check-http",
      `${url}/healthz`,
      ...flags,
      ...words,
    ];
    service.#child = spawn(node, [cli, ...all], {
      cwd,
      env: { ...env, PORT: String(port) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [service.#child.stdout, service.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => service.#output += text);
    }
    service.#exited = new Promise((resolve) =>
      service.#child.on("close", (code, signal) => resolve(code ?? signal))
    );
    try {
      await service.ready();
      service.#load = await Load.start(`${url}/`);
      await sleep(300); // each client has its connection
      await service.take();
    } catch (error) {
      await service.stop().catch(() => {});
      throw error;
    }
    return service;
  }

  /** The output so far, of both streams. */
  get output() {
    return this.#output;
  }

  /** The instances of the program, by `sam status`. */
  async instances() {
    const { code, output } = await run(node, [cli, "status", "--json"], { env });
    return code === 0 ? JSON.parse(output).flatMap(({ programs }) => programs) : [];
  }

  /** Resolves to the process ids of the instances, when all are ready. */
  ready() {
    return until(() => `instances that are ready:\n${this.#output}`, async () => {
      must(this.#child.exitCode === null, `sam ended:\n${this.#output}`);
      const instances = await this.instances();
      return instances.length > 0 && instances.every(({ ready }) => ready) &&
        instances.map(({ pid }) => pid);
    });
  }

  said(pattern) {
    return until(() => `${pattern} in:\n${this.#output}`, () => pattern.exec(this.#output));
  }

  /** All requests since the last call. */
  take() {
    return this.#load.take();
  }

  /** Asks for a reload; resolves to the exit status of the command, and what it said. */
  reload() {
    return run(node, [cli, "reload", "web"], { env });
  }

  /** Sends the request that hangs an instance; resolves to the time at which its event loop was blocked. */
  async hang() {
    const before = this.#output.length;
    void fetch(`http://127.0.0.1:${this.#port}/hang`).catch(() => {}); // its connection is reset
    const [, at] = await until("hang", () => /^hangs (\d+)$/m.exec(this.#output.slice(before)));
    return Number(at);
  }

  /** Ends the clients and `sam`. Nothing may be left of them. */
  async stop() {
    await this.#load?.end();
    this.#child.kill("SIGTERM");
    const late = setTimeout(() => this.#child.kill("SIGKILL"), limitMs);
    const status = await this.#exited;
    clearTimeout(late);
    must([0, 143].includes(status), `sam ended with ${status}:\n${this.#output}`);
    await installed.mustHaveLeftNothing(/^(?!node-compile-cache|\.)/);
    const server = createServer().listen(this.#port);
    await new Promise((resolve, reject) => server.once("listening", resolve).once("error", reject));
    await new Promise((resolve) => server.close(resolve));
  }
}

/** The requests that failed, described for a reader. */
function describe(requests) {
  return requests.slice(0, 20).map(({ fresh, at, ms, error, isRace }) =>
    `        ${fresh ? "new connection" : "kept connection"}: ${error}${
      isRace ? " (race)" : ""
    }, ` +
    `began at ${at}, failed after ${ms} ms`
  ).join("\n");
}

const failed = (requests) => requests.filter(({ error }) => error !== undefined);

/** Prints how many requests were answered, and the longest wait. */
function count(requests) {
  const lost = failed(requests);
  const fresh = requests.filter((each) => each.fresh);
  const longest = Math.max(...requests.map(({ ms }) => ms));
  console.log(
    `        ${fresh.length} on new connections, ${requests.length - fresh.length} on kept ones, ` +
      `${failed(fresh).length} and ${
        lost.length - failed(fresh).length
      } failed, longest ${longest} ms`,
  );
}

/** Only requests that the failed instance was answering may fail: those that began before it failed at `at`. */
function mustLoseOnlyItsOwn(requests, at) {
  const lost = failed(requests);
  // A client that keeps its connection to a hung instance loses one request, whenever that begins.
  const strange = lost.filter(({ error, fresh, at: began }) =>
    !error.startsWith("ECONNRESET") || (fresh && began > at + 100)
  );
  must(strange.length === 0, `requests failed that began after ${at}:\n${describe(strange)}`);
  const kept = lost.filter(({ fresh }) => !fresh).length;
  must(kept <= 16, `${kept} requests on kept connections failed`);
}

/** No request on a new connection may fail, and on kept connections only those that race with the end of the old instance. */
function mustLoseNone(requests, instances) {
  const lost = failed(requests);
  const strange = lost.filter(({ isRace }) => !isRace);
  must(strange.length === 0, `requests failed:\n${describe(strange)}`);
  must(
    lost.length <= 2 * instances,
    `too many races with the end of a connection:\n${describe(lost)}`,
  );
}

/**
 * A server that shares its port by SO_REUSEPORT has a queue of connections of its own. They are reset when it ends. New connections
 * are refused while no instance runs.
 */
function mustLoseOnlyQueued(requests, isGone) {
  const lost = failed(requests);
  const isRefused = ({ error }) => error === "ECONNREFUSED";
  const strange = lost.filter((each) =>
    each.error !== "ECONNRESET" && !(isGone && isRefused(each))
  );
  must(strange.length === 0, `requests failed:\n${describe(strange)}`);
  must(!isGone || lost.some(isRefused), "no connection was refused");
}

const versionsIn = (requests) =>
  [...new Set(requests.map(({ body }) => body).filter(Boolean))].sort().join();

/** The ends of an instance, each with the function that causes it. They resolve to the time at which it failed. */
const failures = {
  crashes: (_service, [pid]) => {
    process.kill(pid, "SIGKILL");
    return Date.now();
  },
  hangs: (service) => service.hang(),
};

/**
 * Takes one server through all that can happen to it.
 *
 * - `write` puts a version of it into place.
 * - `isGraceful` servers handle SIGTERM, so only a reload differs.
 * - A server that `shares` its port cannot take over the held socket.
 * - The replacement of a server that `acceptsEarly` accepts connections before it takes over. If it fails, its requests are lost.
 */
async function scenes(
  name,
  {
    words,
    cwd,
    write,
    instances,
    flags = [],
    timeInterval = "500ms",
    startupTimeout = "5s",
    isGraceful,
    shares,
    acceptsEarly,
    broken,
  },
) {
  const title = [
    name,
    ...isGraceful ? ["with a handler for SIGTERM"] : [],
    `${instances} instance${instances > 1 ? "s" : ""}`,
  ].join(", ");
  let service;
  write({ version: "1" });
  await check(`${title}: starts`, async () => {
    const all = [
      "--name",
      "web",
      "--instances",
      String(instances),
      "--time-interval",
      timeInterval,
    ];
    const times = ["--startup-timeout", startupTimeout, "--check-period", "250ms"];
    service = await Service.start(words, [...all, ...times, ...flags], cwd);
    if (shares) {
      await service.said(
        /cannot take over a listening socket, so connections to \d+ are refused while/,
      );
    }
  });
  if (service === undefined) return;

  const scene = (what, action) =>
    check(`${title}: ${what}`, async () => {
      await service.ready();
      await service.take();
      const before = service.output.length;
      try {
        await action();
      } catch (error) {
        if (error.constructor !== Error) throw error; // the scene is skipped
        throw new Error(`${error.message}\n${service.output.slice(before)}`);
      }
    });
  /** Replaces the instances by those of a version. Resolves to the exit status, and the requests during the reload and after it. */
  const reload = async (release) => {
    write(release);
    const { code, output } = await service.reload();
    if (release.fault) write({ version: "2" });
    const during = await service.take();
    await sleep(300);
    const after = await service.take();
    count([...during, ...after]);
    return { code, output, during, after };
  };
  const mustServe = shares ? (requests) => mustLoseOnlyQueued(requests, false) : mustLoseNone;

  try {
    await scene("a reload puts a new version into service", async () => {
      const { code, during, after } = await reload({ version: "2" });
      must(code === 0, `sam reload ended with ${code}`);
      const versions = `${versionsIn(during)}, then ${versionsIn(after)}`;
      must(versions === "1,2, then 2", `the versions are ${versions}`);
      mustServe([...during, ...after], instances);
    });
    if (isGraceful) return;
    for (const fault of broken) {
      await scene(`a version that ${fault} does not get into service`, async () => {
        const { code, output, during, after } = await reload({ version: "broken", fault });
        // The next scene begins with a sound version. The first of two instances may have been replaced.
        if (versionsIn(after) !== "2") await reload({ version: "2" });
        must(
          code === 1 && faults[fault].report.test(output),
          `sam reload ended with ${code}: ${output}`,
        );
        must(versionsIn(after) === "2", `the versions after the reload are ${versionsIn(after)}`);
        if (acceptsEarly) return;
        must(
          versionsIn(during) === "2",
          `the versions during the reload are ${versionsIn(during)}`,
        );
        mustServe([...during, ...after], instances);
      });
    }
    for (const [what, fail] of Object.entries(failures)) {
      await scene(`an instance ${what}`, async () => {
        const pids = await service.ready();
        const at = await fail(service, pids);
        await until("new instance", async () => {
          const now = await service.instances();
          return now.every(({ ready }) => ready) && now.some(({ pid }) => !pids.includes(pid));
        });
        await sleep(300);
        const requests = await service.take();
        count(requests);
        if (shares) mustLoseOnlyQueued(requests, instances === 1);
        else mustLoseOnlyItsOwn(requests, at);
      });
    }
  } finally {
    await check(`${title}: nothing is left at the end`, () => service.stop());
  }
}

const isWanted = (name) => wanted.length === 0 || wanted.includes(name.split(" ")[0]);
const counts = options.short ? [2] : [1, 2];
const all = Object.keys(faults);
/** With --short, what a broken version does to most servers is shown by one of them. */
const some = options.short ? all.slice(-1) : all;

/** A server that consists of one file. */
async function fileServer(name, options) {
  const cwd = join(home, name.replaceAll(/\W/g, "_"));
  mkdirSync(cwd, { recursive: true });
  const write = (release) =>
    writeFileSync(join(cwd, "server.mjs"), sourceOf(name, { ...release, ...options }));
  await scenes(name, { words: ["server.mjs"], cwd, write, ...options });
}

const packages = [...Object.values(servers), next].flatMap((each) => each.packages);
await check("the servers are installed", () => installed.install(packages, options.built));
for (const name of ["express", "fastify", "hono", "koa"].filter(isWanted)) {
  const flags = ["--runtime", "node"];
  const isFirst = name === "express";
  for (const instances of isFirst ? [1, 2] : counts) {
    await fileServer(name, { instances, flags, broken: isFirst ? all : some });
  }
  await fileServer(name, { instances: 1, flags, isGraceful: true });
}
if (isWanted("next")) {
  const cwd = join(home, "next");
  const script = "../node_modules/next/dist/bin/next";
  await check("next is built", async () => {
    for (const [file, text] of Object.entries(next.files)) {
      mkdirSync(dirname(join(cwd, file)), { recursive: true });
      writeFileSync(join(cwd, file), text);
    }
    await good(node, [script, "build"], { cwd, env });
  });
  const write = (release) => writeFileSync(join(cwd, "release"), next.release(release));
  for (const instances of counts) {
    // Next.js compiles for more than 500 ms on a busy machine.
    const times = { timeInterval: "2s", startupTimeout: "8s" };
    const words = ["node", script, "start"];
    await scenes("next", { words, cwd, write, instances, ...times, broken: all });
  }
}
for (
  const [name, runtime, shares, broken] of [
    ["hono", "deno", false, some],
    ["hono on Deno.serve", "deno", true, all],
    ["hono on Bun", "bun", true, all],
    ["hono on Bun.serve", "bun", true, some],
  ]
) {
  if (!isWanted(runtime)) continue;
  const flags = ["--runtime", runtime];
  for (const instances of counts) {
    await fileServer(name, { instances, flags, shares, acceptsEarly: true, broken });
  }
}
conclude();
