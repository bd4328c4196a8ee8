// `sam reload` without the name of a program: the configuration is read again, and only what changed is touched.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { type Command, commandTest, page, runtimeName } from "../support/command.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, killQuietly, lives, type Stage } from "../support/processes.ts";
import { quickFixture } from "../support/runtimes.ts";

type Sam = Parameters<Parameters<typeof commandTest>[1]>[0];

/** A running `sam run` with a configuration file that the test can change. */
class Scene {
  readonly run: Command;
  readonly #sam: Sam;
  readonly #stage: Stage;
  readonly #file: string;

  constructor(sam: Sam, stage: Stage, config: object, file = "sam.config.json") {
    this.#sam = sam;
    this.#stage = stage;
    this.#file = file;
    this.write(config);
    this.run = sam(["run", "--json"], this.env, stage.directory);
  }

  get env(): Record<string, string> {
    return this.#stage.program("supervisor/plain_server").env as Record<string, string>;
  }

  write(config: object): void {
    const text = JSON.stringify(config);
    const isJson = this.#file.endsWith(".json");
    writeFileSync(
      `${this.#stage.directory}/${this.#file}`,
      isJson ? text : `export default ${text}`,
    );
  }

  /** Writes a configuration and reloads it. Resolves to the exit code and the output of `sam reload`. */
  async reload(config?: object): Promise<readonly [code: unknown, text: string]> {
    if (config) this.write(config);
    const reload = this.#sam(["reload"], {}, this.#stage.directory);
    return [await reload.exited, reload.stdout + reload.stderr];
  }

  /** The programs and their process ids. */
  async pids(): Promise<Record<string, number>> {
    const status = this.#sam(["status", "--json"]);
    await status.exited;
    const [{ programs }] = JSON.parse(status.stdout);
    return Object.fromEntries(
      programs.map(({ name, pid }: { name: string; pid: number }) => [name, pid]),
    );
  }

  async stop(): Promise<void> {
    assertEquals(await this.#sam(["stop"]).exited, 0);
    await this.run.exited;
  }
}

const sleeper = (more: object = {}) => ({
  program: "sleep",
  args: ["600"],
  minReady: 100,
  ...more,
});
const sleepers = (...names: string[]) => Object.fromEntries(names.map((name) => [name, sleeper()]));

for (const file of ["sam.config.json", "sam.config.mjs"]) {
  commandTest(
    `${file}: new programs start, those that are gone stop, changed ones are reloaded, and the others are not touched`,
    async (sam, stage) => {
      const [port] = await freePorts(1);
      const config = (programs: object) => ({ metrics: port, programs });
      const scene = new Scene(sam, stage, config(sleepers("same", "changed", "gone")), file);
      for (const name of ["same", "changed", "gone"]) await scene.run.event("spawn", 1, name);
      const before = await scene.pids();
      const [, unchanged] = await scene.reload();
      assertStringIncludes(unchanged, `${file} has not changed.`);

      const next = config({
        same: sleeper({ after: ["added"], minReady: 50 }),
        changed: sleeper({ env: { VERSION: "2" } }),
        added: sleeper({ after: ["changed"] }),
      });
      const said = "stopped gone; started added; reloaded changed\n";
      assertEquals(await scene.reload(next), [0, said]);
      const after = await scene.pids();
      assertEquals(Object.keys(after), ["changed", "added", "same"]);
      assertEquals(after["same"], before["same"]);
      assert(after["changed"] !== before["changed"] && !lives(before["gone"]!));
      assertStringIncludes(
        readFileSync(`/proc/${after["changed"]}/environ`, "utf8"),
        "\0VERSION=2\0",
      );
      const [html, metrics, ready] = [
        await page(port!, "/"),
        await page(port!, "/metrics"),
        await page(port!, "/readyz"),
      ];
      for (const [name, isThere] of [["added", true], ["gone", false]] as const) {
        assertEquals(html!.includes(`<h2>${name}</h2>`), isThere);
        assertEquals(metrics!.includes(`program="${name}"`), isThere);
        assertEquals(ready!.includes(`ready: ${name}`), isThere);
      }
      await scene.stop();
      const reloads = scene.run.events().filter(({ type }) => type === "reload");
      assertEquals(reloads.map(({ program }) => program), ["changed"]);
    },
    { timeoutMs: 60_000 },
  );
}

commandTest(
  "more instances start, surplus ones stop, and the first instance gets another name without a gap",
  async (sam, stage) => {
    const config = (instances?: number) => ({
      programs: { web: sleeper(instances === undefined ? {} : { instances }) },
    });
    const scene = new Scene(sam, stage, config(2));
    for (const name of ["web.1", "web.2"]) await scene.run.event("spawn", 1, name);
    const two = await scene.pids();
    assertEquals(await scene.reload(config(3)), [0, "started web.3\n"]);
    const three = await scene.pids();
    assertEquals({ ...two, "web.3": three["web.3"]! }, three);
    assertEquals(await scene.reload(config(1)), [0, "stopped web.2, web.3\n"]);
    assertEquals(await scene.pids(), { web: two["web.1"]! });
    // Without the option, the process has no SAM_INSTANCE.
    assertEquals(await scene.reload(config()), [0, "reloaded web\n"]);
    assertEquals((await scene.reload(config(2)))[1], "started web.2; reloaded web.1\n");
    await scene.stop();
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "a program gets the name of a program that is gone",
  async (sam, stage) => {
    const [metrics] = await freePorts(1);
    const scene = new Scene(sam, stage, { metrics, programs: sleepers("web", "web.1") });
    for (const name of ["web", "web.1"]) await scene.run.event("spawn", 1, name);
    const several = { metrics, programs: { web: sleeper({ instances: 2 }) } };
    assertEquals(await scene.reload(several), [
      0,
      "stopped web.1; started web.2; reloaded web.1\n",
    ]);
    const text = await page(metrics!, "/metrics");
    for (const name of ["web.1", "web.2"]) {
      assertStringIncludes(text!, `sam_program_ready{program="${name}"} 1\n`);
    }
    await scene.stop();
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "an instance that has failed for good starts again, and does not end the service when it alone is left",
  async (sam, stage) => {
    const broken = `${stage.directory}/broken`;
    const line = `if [ "$SAM_INSTANCE" = 1 ] && [ -e ${broken} ]; then exit 3; fi; exec sleep 600`;
    writeFileSync(broken, "");
    const config = (instances: number) => ({
      programs: {
        web: sleeper({ program: "sh", args: ["-c", line], restart: "never", instances }),
      },
    });
    const scene = new Scene(sam, stage, config(2));
    await scene.run.event("spawn", 1, "web.2");
    await scene.run.event("finish", 1, "web.1");
    assertEquals(await scene.reload(config(2)), [
      1,
      "sam: web.1 was not started: it ended with exit code 3\n",
    ]);
    rmSync(broken);
    assertEquals(await scene.reload(config(2)), [0, "started web.1\n"]);
    writeFileSync(broken, "");
    killQuietly((await scene.pids())["web.1"]!);
    await scene.run.event("finish", 3, "web.1");
    rmSync(broken);
    assertEquals(await scene.reload(config(1)), [0, "stopped web.2; started web\n"]);
    await scene.stop();
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "a stop of all programs during a reload leaves a program that is gone its time to end",
  async (sam, stage) => {
    const [up, go] = [`${stage.directory}/up`, `${stage.directory}/go`];
    const wait = `while [ ! -e ${go} ]; do sleep 0.02; done`;
    const slow = sleeper({
      program: "sh",
      args: ["-c", `trap "${wait}; exit 0" TERM; : >${up}; ${wait}`],
      stopTimeout: 30_000,
    });
    const scene = new Scene(sam, stage, { programs: { ...sleepers("web"), slow } });
    await scene.run.event("spawn", 1, "web");
    await eventually("the handler", () => existsSync(up));
    const reload = scene.reload({ programs: sleepers("web") });
    await scene.run.event("stopping", 1, "slow");
    scene.run.kill("SIGTERM");
    await scene.pids(); // sam has got the signal before this request
    writeFileSync(go, "");
    assertEquals(await reload, [
      69,
      "sam: cannot reload the configuration: sam is stopping all programs\n",
    ]);
    assertEquals(await scene.run.exited, 0);
    assertEquals(scene.run.events().filter(({ type }) => type === "kill"), []);
  },
  { timeoutMs: 60_000 },
);

const ok = { programs: sleepers("web") };
const mistakes = [
  ["a wrong value", { programs: { web: sleeper({ timeInterval: "x" }) } }, 78, "timeInterval"],
  ["instances 0", { programs: { web: sleeper({ instances: 0 }) } }, 78, "instances is 0"],
  ["instances 1.5", { programs: { web: sleeper({ instances: 1.5 }) } }, 78, "instances is 1.5"],
  ["instances -1", { programs: { web: sleeper({ instances: -1 }) } }, 78, "instances is -1"],
  ['instances "x"', { programs: { web: sleeper({ instances: "x" }) } }, 78, 'instances is "x"'],
  [
    "the name of an instance",
    {
      programs: { web: sleeper({ instances: 2 }), "web.1": sleeper() },
    },
    78,
    "Rename one of the two",
  ],
  ["no program", { programs: {} }, 78, "programs"],
  [
    "a circle",
    {
      programs: { web: sleeper({ after: ["b"] }), b: sleeper({ after: ["web"] }) },
    },
    78,
    "circular",
  ],
  ["a missing module", { programs: { web: { program: "./none.mjs" } } }, 66, "does not exist"],
  ["another strategy", { ...ok, strategy: "one_for_all" }, 78, "strategy was one_for_one"],
  ["another name", { ...ok, name: "shop" }, 78, "name was not set"],
  ["another address for metrics", { ...ok, metrics: 9 }, 78, "metrics was not set"],
] as const;

commandTest("a configuration with a mistake changes nothing", async (sam, stage) => {
  const scene = new Scene(sam, stage, ok);
  await scene.run.event("spawn");
  const before = await scene.pids();
  for (const [what, config, expected, message] of mistakes) {
    const [code, text] = await scene.reload(config);
    assertEquals([what, code, text.includes(message)], [what, expected, true], text);
  }
  writeFileSync(`${stage.directory}/sam.config.json`, "{");
  assertEquals((await scene.reload())[0], 78);
  assertEquals(await scene.pids(), before);
  assertEquals(scene.run.events().filter(({ type }) => type === "reload" || type === "exit"), []);
  await scene.stop();
}, { timeoutMs: 60_000 });

commandTest(
  "a program that cannot start, or whose reload fails, ends no other; the next reload tries it again",
  async (sam, stage) => {
    const scene = new Scene(sam, stage, ok);
    await scene.run.event("spawn");
    const { web } = await scene.pids();
    const failures = [
      [{ program: "false" }, /^sam: bad was not started: it ended with exit code 1\n$/],
      [{ program: "./no-such-command" }, /^sam: bad was not started: .*no-such-command/],
      [{ program: "false", restart: "never" }, /^sam: bad was not started: it ended with exit/],
    ] as const;
    for (const [bad, message] of failures) {
      const [code, text] = await scene.reload({ programs: { web: sleeper(), bad } });
      assertEquals(code, 1, text);
      assertMatch(text, message);
      assertEquals(await scene.pids(), { web: web! });
    }
    const broken = { web: { ...sleeper(), program: "false" }, added: sleeper() };
    const [code, text] = await scene.reload({ programs: broken });
    assertEquals(code, 1);
    assertMatch(text, /^sam: web was not reloaded: .*; instance 1 stays$/m);
    assertEquals(await scene.pids(), { web: web! });
    assertEquals(
      await scene.reload({ programs: { web: sleeper(), added: sleeper() } }),
      [0, "started added\n"],
    );
    await scene.stop();
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "addresses are opened before anything changes, and closed after the last instance that uses them",
  async (sam, stage) => {
    const [first, second, taken] = await freePorts(3) as [number, number, number];
    const server = (name: string, ...listen: number[]) => ({
      [name]: {
        program: quickFixture("supervisor/plain_server"),
        runtime: runtimeName,
        args: [String(listen[0])],
        minReady: 100,
        listen,
      },
    });
    const other = createServer().listen(taken);
    await new Promise((resolve) => other.once("listening", resolve));
    const scene = new Scene(sam, stage, { programs: server("web", first) });
    await scene.run.event("start");
    const inode = () => listening(first);
    const before = inode();
    const [code, text] = await scene.reload({ programs: server("web", second, taken) });
    assertEquals(code, 69, text);
    assertStringIncludes(text, `cannot listen on ${taken}: another process uses the port`);
    assertEquals([inode(), listening(second)], [before, undefined]);
    const part = `127.0.0.1:${first}`;
    const narrow = await scene.reload({
      programs: { web: { ...server("web", first).web, listen: part } },
    });
    assertEquals(narrow[0], 78, narrow[1]);
    assertStringIncludes(
      narrow[1],
      `sam has opened ${first}, which has the same port as ${part}, and cannot change that while it runs`,
    );
    assertEquals(inode(), before);
    other.close();
    // Another program takes the address over: its socket is the same.
    const both = { ...server("www", first), ...server("web", second) };
    assertEquals(await scene.reload({ programs: both }), [0, "started www; reloaded web\n"]);
    assertEquals(inode(), before);
    assert(listening(second) !== undefined);
    assertEquals(await scene.reload({ programs: server("www", first) }), [0, "stopped web\n"]);
    assertEquals([inode(), listening(second)], [before, undefined]);
    await scene.stop();
    assertEquals(inode(), undefined);
  },
  {
    timeoutMs: 60_000,
    skip: runtimeName !== "node" && "on Deno and Bun, the server only reserves the address",
  },
);

/** The inode of the socket that listens on a port; undefined if none does. */
function listening(port: number): string | undefined {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  return ["tcp", "tcp6"].flatMap((each) => readFileSync(`/proc/net/${each}`, "utf8").split("\n"))
    .map((line) => line.trim().split(/\s+/))
    .find(([, address, , state]) => address?.endsWith(`:${hex}`) && state === "0A")?.[9];
}

commandTest(
  "a second reload is refused, a stopped program stays stopped, and a finished one starts if it changed",
  async (sam, stage) => {
    const programs = { web: sleeper(), idle: sleeper(), job: { program: "true" } };
    const scene = new Scene(sam, stage, { programs });
    await scene.run.event("finish", 1, "job");
    await scene.run.event("spawn", 1, "idle");
    assertEquals(await sam(["stop", "idle"]).exited, 0);
    const next = {
      web: sleeper({ env: { A: "1" }, minReady: 3000 }),
      idle: sleeper({ env: { A: "1" } }),
      job: { program: "true", args: ["again"] },
    };
    scene.write({ programs: next });
    const long = scene.reload();
    await scene.run.event("reload", 1, "web");
    for (const words of [["reload"], ["reload", "web"]]) {
      const second = sam(words, {}, stage.directory);
      assertEquals([await second.exited, second.stderr.includes("is running")], [69, true]);
    }
    assertEquals((await long)[0], 0);
    assertEquals((await scene.pids())["idle"], null as unknown as number);
    assertEquals(
      scene.run.events().filter(({ type, program }) => type === "spawn" && program === "job")
        .length,
      2,
    );
    assertEquals(await sam(["restart", "idle"]).exited, 0);
    const { idle } = await scene.pids();
    assert(readFileSync(`/proc/${idle}/environ`, "utf8").split("\0").includes("A=1"));
    await scene.stop();
  },
  { timeoutMs: 60_000 },
);

commandTest(
  "without a configuration file, sam reload reloads the program of the command line",
  async (sam) => {
    const run = sam(["run", "--json", "--min-ready", "50", "sleep", "600"]);
    const { pid } = await run.event("spawn");
    const reload = sam(["reload"]);
    assertEquals([await reload.exited, reload.stdout + reload.stderr], [0, ""]);
    assertEquals([(await run.event("reloaded")).replaced, lives(pid)], [1, false]);
    await sam(["stop"]).exited;
    await run.exited;
  },
);
