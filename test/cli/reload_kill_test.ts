// `kill -9` in each phase of a reload: of the new process, of the old instance, and of `sam`.
import { assert, assertEquals } from "@std/assert";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { type Command, commandTest, runtimeName } from "../support/command.ts";
import { eventually, lives } from "../support/processes.ts";
import { quickFixture } from "../support/runtimes.ts";

const library = pathToFileURL(quickFixture("../../mod")).href;

type Phase = "starting" | "proving" | "retiring" | "preparing" | "exchanging" | "awaiting";

function isBySpare(phase: Phase): boolean {
  return ["preparing", "exchanging", "awaiting"].includes(phase);
}

/**
 * A version of the program. It writes what it does to the file `log`. Until the file `go` exists, version two waits in the phase,
 * and version one does not end on SIGTERM. By a spare, the program stores data, so it must not run twice.
 */
function source(directory: string, version: "one" | "two", phase: Phase): string {
  const holds = (point: Phase) => version === "two" && phase === point ? "hold();" : "";
  const shared = `import { appendFileSync, existsSync } from "node:fs";
    import process from "node:process";
    const say = (what) => appendFileSync("${directory}/log", "${version} " + what + " " + process.pid + "\\n");
    const isHeld = () => !existsSync("${directory}/go");
    const hold = () => { while (isHeld()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20); };
    process.on("SIGTERM", () => {
      say("ending");
      setInterval(() => { if ("${version}" === "two" || !isHeld()) process.exit(0); }, 20);
    });
    setInterval(() => {}, 1000);
    say("loaded");`;
  if (!isBySpare(phase)) return `${shared}${holds("starting")}`;
  return `${shared}
    import { initialize } from ${JSON.stringify(library)};
    const sam = await initialize({ timeInterval: 20_000, recoveryPolicy: "restart" });
    ${holds("preparing")}
    await sam.register();
    say("registered");
    ${holds("awaiting")}
    await sam.data.store(new Uint8Array(3));
    await sam.start();`;
}

/** The line of the log, by its beginning, at which a phase is reached; null for a replacement that is ready. */
const signs: Readonly<Record<Phase, string | null>> = {
  starting: "two loaded",
  proving: null,
  retiring: "one ending",
  preparing: "two loaded",
  exchanging: "one ending",
  awaiting: "two registered",
};

/** The exit code of `sam reload` after the end of the new process, and after that of the old instance. */
const codes = [
  ["starting", 1, 0],
  ["proving", 1, 0],
  ["retiring", 0, 0],
  ["preparing", 1, 0],
  ["exchanging", 0, 0],
  ["awaiting", 1, null],
] as const;

const cases = codes.flatMap(([phase, ofNew, ofOld]) => [
  [phase, "new process", ofNew] as const,
  ...ofOld === null ? [] : [[phase, "old instance", ofOld] as const],
  [phase, "sam", 69] as const,
]);

for (const [phase, killed, code] of cases) {
  commandTest(
    `a reload that is ${phase}: kill -9 of the ${killed} leaves nothing over`,
    async (sam, { directory }) => {
      const program = `${directory}/web.mjs`;
      const deploy = (version: "one" | "two") =>
        writeFileSync(program, source(directory, version, phase));
      const pidOf = (sign: string) =>
        eventually(sign, () => {
          const log = existsSync(`${directory}/log`)
            ? readFileSync(`${directory}/log`, "utf8")
            : "";
          return Number(new RegExp(`^${sign} (\\d+)$`, "m").exec(log)?.[1]) || undefined;
        });
      deploy("one");
      const minReady = phase === "proving" ? "3000" : "100";
      const preload = isBySpare(phase) ? ["--no-preload"] : [];
      const options = ["--json", "--runtime", runtimeName, "--min-ready", minReady, ...preload];
      const run = sam(["run", ...options, program]);
      await run.event("start");
      const old = await pidOf("one loaded");
      deploy("two");
      const reload = sam(["reload", "web"]);
      const sign = signs[phase];
      if (sign === null) {
        await eventually("a replacement", () => isProving(sam(["status", "--json"])));
      } else await pidOf(sign);
      const fresh = await pidOf("two loaded");
      assert(lives(fresh) && lives(old) === (phase !== "awaiting"));
      process.kill(
        { "new process": fresh, "old instance": old, sam: run.child.pid! }[killed],
        "SIGKILL",
      );
      if (killed === "sam") {
        assertEquals(await reload.exited, 69, reload.stderr);
        writeFileSync(`${directory}/go`, "");
        await eventually("the end of both", () => !lives(old) && !lives(fresh));
        assertEquals(await sam(["status"]).exited, 69);
        assertEquals(readdirSync(`${directory}/sam`), []);
        return;
      }
      await eventually("its end", () => !lives(killed === "old instance" ? old : fresh));
      writeFileSync(`${directory}/go`, "");
      assertEquals(await reload.exited, code, reload.stderr);
      await eventually("the next instance", () => isReady(sam(["status", "--json"])));
      assertEquals(await sam(["stop"]).exited, 0);
      await run.exited;
    },
  );
}

async function programOf(status: Command) {
  await status.exited;
  return JSON.parse(status.stdout)[0].programs[0];
}

async function isProving(status: Command): Promise<boolean> {
  return (await programOf(status)).replacement?.ready === true;
}

async function isReady(status: Command): Promise<boolean> {
  const { ready, replacement } = await programOf(status);
  return ready && !replacement;
}
