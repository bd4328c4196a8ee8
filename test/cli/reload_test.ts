// `sam run --instances` and `sam reload`, as their user sees them.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { commandTest, page, runtimeName } from "../support/command.ts";
import { freePorts } from "../support/ports.ts";
import { eventually } from "../support/processes.ts";
import { quickFixture } from "../support/runtimes.ts";

/** A module that is watched, and says its version and number. */
const version = (text: string) =>
  `import process from "node:process";
  console.log("${text}", process.env.SAM_INSTANCE);
  setInterval(() => {}, 1000);`;

commandTest(
  "sam reload replaces each instance by one of the new version, and a broken version by none",
  async (sam, { directory }) => {
    const program = `${directory}/web.mjs`;
    writeFileSync(program, version("one"));
    const [port] = await freePorts(1);
    const options = ["--instances", "2", "--min-ready", "100", "--metrics", String(port)];
    const run = sam(["run", "--json", "--runtime", runtimeName, ...options, program]);
    for (const name of ["web.1", "web.2"]) await run.event("start", 1, name);
    await run.text(/one 1\n/);
    await run.text(/one 2\n/);

    writeFileSync(program, version("two"));
    const reload = sam(["reload", "web"]);
    assertEquals([await reload.exited, reload.stderr], [0, ""]);
    for (const name of ["web.1", "web.2"]) {
      assertEquals((await run.event("reloaded", 1, name)).replaced, 1);
    }
    await run.text(/two 2\n/);
    await run.event("exit", 1, "web.2");
    const order = run.events().filter(({ type }) => type === "reloaded" || type === "exit")
      .map(({ type, program }) => `${type} ${program}`);
    assertEquals(order, ["reloaded web.1", "exit web.1", "reloaded web.2", "exit web.2"]);

    writeFileSync(program, `throw new Error("a broken version");`);
    const broken = sam(["reload", "web.2"]);
    assertEquals(await broken.exited, 1);
    assertMatch(
      broken.stderr,
      /^sam: web\.2 was not reloaded: the replacement \(pid \d+\) ended with exit code 1.*; instance 2 stays$/m,
    );
    const shown = sam(["status"]);
    assertEquals(await shown.exited, 0);
    assertMatch(shown.stdout, /\nweb +2 of 2 ready\n {2}web\.1 +ready [^]*\n {2}web\.2 +ready /);
    const json = sam(["status", "web.2", "--json"]);
    assertEquals(await json.exited, 0);
    const [{ programs: [second, ...more] }] = JSON.parse(json.stdout);
    assertEquals([second.name, second.service, second.instanceId, second.restarts, more], [
      "web.2",
      "web",
      2,
      1,
      [],
    ]);
    const html = await page(port!, "/");
    for (const name of ["web.1", "web.2"]) assertStringIncludes(html!, `<h2>${name}</h2>`);
    const metrics = await page(port!, "/metrics");
    assertStringIncludes(
      metrics!,
      'sam_restart_count_total{program="web.2",reason="requested"} 1\n',
    );
    assertStringIncludes(metrics!, 'sam_program_ready{program="web.1"} 1\n');

    const unknown = sam(["reload", "nobody"]);
    assertEquals(await unknown.exited, 69);
    writeFileSync(program, version("three"));
    assertEquals(await sam(["restart", "web"]).exited, 0);
    assertEquals((await run.event("spawn", 2, "web.2")).instanceId > 2, true);
    assertEquals(await sam(["stop", "web.1"]).exited, 0);
    const stopped = sam(["reload", "web.1"]);
    assertEquals([await stopped.exited, stopped.stderr], [
      69,
      "sam: cannot reload web.1: it is stopped. Start it with sam restart web.1.\n",
    ]);
    assertEquals(await sam(["stop"]).exited, 0);
    assertEquals(await run.exited, 0);
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "instances that are stopped while others restart or are reloaded stay stopped",
  async (sam, { directory }) => {
    const slow = `${directory}/slow`;
    const programs = {
      web: {
        program: "sleep",
        args: ["600"],
        instances: 3,
        minReady: 100,
        check: { command: `[ ! -e ${slow} ]`, period: 50, failureThreshold: 10_000 },
      },
      other: { program: "sleep", args: ["600"] },
    };
    writeFileSync(`${directory}/sam.config.json`, JSON.stringify({ programs }));
    const run = sam(["run", "--json"], {}, directory);
    for (const name of ["web.1", "web.2", "web.3"]) await run.event("check", 1, name);
    writeFileSync(slow, "");
    const reload = sam(["reload", "web"]);
    await run.event("reload", 1, "web.1");
    assertEquals(await sam(["stop", "web.2"]).exited, 0);
    rmSync(slow);
    assertEquals([await reload.exited, reload.stderr], [0, ""]);
    const reloads = run.events().filter(({ type }) => type === "reload");
    assertEquals(reloads.map(({ program }) => program), ["web.1", "web.3"]);

    writeFileSync(slow, "");
    const restart = sam(["restart", "web"]);
    await run.event("spawn", 2, "web.1");
    assertEquals(await sam(["stop", "web"]).exited, 0);
    await restart.exited;
    rmSync(slow);
    const status = sam(["status", "web", "--json"]);
    await status.exited;
    const [{ programs: states }] = JSON.parse(status.stdout);
    assertEquals(states.map(({ state }: { state: string }) => state), [
      "stopped",
      "stopped",
      "stopped",
    ]);
    assertEquals(await sam(["stop"]).exited, 0);
    assertEquals(await run.exited, 0);
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "a program that has stored data never runs twice: a reload promotes a spare of the new version",
  async (sam, { directory }) => {
    const library = pathToFileURL(quickFixture("../../mod")).href;
    const program = `${directory}/counter.mjs`;
    const source = (text: string) =>
      `import { initialize } from ${JSON.stringify(library)};
      import { appendFileSync } from "node:fs";
      const sam = await initialize({ timeInterval: 20_000, recoveryPolicy: "restart" });
      const say = (text) => appendFileSync("${directory}/log", text + "\\n");
      say("loaded ${text}");
      const instance = await sam.register();
      say("registered ${text} " + instance + " " + new TextDecoder().decode(sam.data.restore()));
      await sam.data.store(new TextEncoder().encode("data of ${text}"));
      await sam.start();
      setInterval(() => {}, 1000);`;
    writeFileSync(program, source("one"));
    const words = ["run", "--json", "--runtime", runtimeName, "--no-preload", "--min-ready", "50"];
    const run = sam([...words, program]);
    await run.event("start");
    writeFileSync(program, source("two"));
    const reload = sam(["reload", "counter"]);
    assertEquals([await reload.exited, reload.stderr], [0, ""]);
    assertEquals((await run.event("reloaded")).replaced, 1);
    assertEquals(readFileSync(`${directory}/log`, "utf8").split("\n").slice(0, -1), [
      "loaded one",
      "registered one 1 ",
      "loaded two",
      "registered two 2 data of one",
    ]);
    writeFileSync(program, "throw new Error('a broken version')");
    const broken = sam(["reload", "counter"]);
    assertEquals(await broken.exited, 1);
    assertMatch(
      broken.stderr,
      /^sam: counter was not reloaded: the replacement .*; instance 2 stays$/m,
    );
    assertEquals(run.events().filter(({ type }) => type === "exit").length, 1);
    await sam(["stop"]).exited;
    await run.exited;
  },
  { timeoutMs: 60_000 },
);

for (const value of ["0", "1.5", "many", "1001"]) {
  commandTest(`--instances ${value} is refused`, async (sam) => {
    const run = sam(["run", "--instances", value, "sleep", "1"]);
    assertEquals(await run.exited, 64);
    assertMatch(run.stderr, /^sam: --instances is .*; it must be /);
  });
}

commandTest(
  "data that the old instance stores during a reload is not lost",
  async (sam, { directory }) => {
    const library = pathToFileURL(quickFixture("../../mod")).href;
    const program = `${directory}/counter.mjs`;
    const source = (storing: string) =>
      `import { initialize } from ${JSON.stringify(library)};
      import { existsSync, writeFileSync } from "node:fs";
      const sam = await initialize({ timeInterval: 20_000, recoveryPolicy: "restart" });
      await sam.register();
      await sam.start();
      setInterval(async () => {
        if (!existsSync("${storing}") || existsSync("${storing}.done")) return;
        await sam.data.store(new TextEncoder().encode("precious"));
        writeFileSync("${storing}.done", "");
      }, 20);`;
    const storing = `${directory}/storing`;
    writeFileSync(program, source(storing));
    const words = ["run", "--json", "--runtime", runtimeName, "--no-preload", "--min-ready", "5s"];
    const run = sam([...words, program]);
    await run.event("start");
    writeFileSync(program, source(`${directory}/never`));
    const reload = sam(["reload", "counter"]);
    await run.event("reload");
    await eventually("the replacement proves itself", async () => {
      const status = sam(["status", "--json"]);
      await status.exited;
      return /"replacement":\s*{[^}]*"ready":\s*true/.test(status.stdout);
    });
    writeFileSync(storing, "");
    await eventually("the data is stored", () => existsSync(`${storing}.done`));
    assertEquals(await reload.exited, 1);
    assertStringIncludes(reload.stderr, "the old instance has stored data meanwhile");
    assertEquals((await run.event("reloadFailed")).kept, true);
    assertEquals(await sam(["stop"]).exited, 0);
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "a program with the name of an instance, and clusterMap with instances, are refused",
  async (sam, { directory }) => {
    const sleeper = { program: "sleep", args: ["60"] };
    const wrong = [
      [{ web: { ...sleeper, instances: 2 }, "web.2": sleeper }, "Rename one of the two."],
      [
        { web: { ...sleeper, instances: 2, clusterMap: true } },
        "cannot be combined with clusterMap",
      ],
      [{ web: { ...sleeper, instances: "2" } }, 'it must be an integer from 1 to 1000, or "auto"'],
      [{ web: { ...sleeper, minReady: -1 } }, "programs.web.minReady is -1"],
    ] as const;
    for (const [programs, message] of wrong) {
      writeFileSync(`${directory}/sam.config.json`, JSON.stringify({ programs }));
      const run = sam(["run"], {}, directory);
      assertEquals(await run.exited, 78, run.stderr);
      assertStringIncludes(run.stderr, message);
    }
  },
);

commandTest("--instances auto starts one instance per core", async (sam) => {
  const run = sam(["run", "--json", "--name", "web", "--instances", "auto", "sleep", "60"]);
  await run.event("spawn");
  await eventually("the control socket", async () => await sam(["status", "web"]).exited === 0);
  const shown = sam(["status", "web", "--json"]);
  await shown.exited;
  const [{ programs }] = JSON.parse(shown.stdout);
  assert(programs.length >= 1);
  await sam(["stop"]).exited;
  await run.exited;
});

commandTest(
  "/readyz is ready while one instance is; an instance at its restart limit is not ready",
  async (sam, { directory }) => {
    const [port] = await freePorts(1);
    const down = (number: string) => `${directory}/down${number}`;
    const line = `while [ ! -e ${directory}/down$SAM_INSTANCE ]; do sleep 0.05; done; exit 1`;
    const limit = ["--restart-intensity", "1", "--restart-initial-delay", "3s"];
    const words = ["--json", "--instances", "2", "--metrics", String(port)];
    const run = sam(["run", ...words, ...limit, "sh", "-c", line]);
    const ready = async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
      return [answer.status, await answer.text()];
    };
    for (const name of ["sh.1", "sh.2"]) await run.event("spawn", 1, name);
    assertEquals(await ready(), [200, "ready: sh.1 (launched)\nready: sh.2 (launched)\n"]);
    writeFileSync(down("1"), "");
    await run.event("finish", 1, "sh.1");
    assertEquals(await ready(), [200, "not ready: sh.1 (finished)\nready: sh.2 (launched)\n"]);
    const shown = sam(["status"]);
    await shown.exited;
    assertMatch(shown.stdout, /\nsh +1 of 2 ready\n {2}sh\.1 +finished [^]*\n {2}sh\.2 +ready /);
    writeFileSync(down("2"), "");
    await run.event("recovery", 1, "sh.2");
    assertEquals(await ready(), [503, "not ready: sh.1 (finished)\nnot ready: sh.2 (backoff)\n"]);
    assertEquals(await run.exited, 1);
  },
);
