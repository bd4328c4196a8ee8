// Breaks the driver on purpose, in a copy, in one place at a time, and checks that the simulation finds each mutant.
//
//   npm run test:mutants                all mutants
//   npm run test:mutants -- settle      mutants with this word in their name
//   npm run test:mutants -- --texts     runs none: checks that each can be made, and is listed in test/README.md
//
// A mutant that is not found is a gap in the simulation. A mutant whose text is not found must be written anew.

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../support/setup.mjs";

/** Number of worlds in which a mutant must be found: of one program, a fifth of the number that the suite runs. */
const worlds = { runWorlds: 20_000, runFleets: 6_000 };
const limitMs = 240_000;

const mutants = [
  {
    name: "a deadline is judged before arrived heartbeats are read (settle)",
    file: "src/supervisor/timekeeper.ts",
    from:
      "await runtime.settle();\n      sample();\n      if (server.deadline! > runtime.now()) continue;",
    to:
      "if (server.deadline! > runtime.now()) {\n        await runtime.settle();\n        continue;\n      }",
  },
  {
    name: "heartbeats in shared memory are sampled too seldom (sample)",
    file: "src/supervisor/timekeeper.ts",
    from: "Math.max(1, timeInterval / 16)",
    to: "Math.max(1, timeInterval * 2)",
  },
  {
    name: "messages of an ended instance count for its successor",
    file: "src/supervisor/driver.ts",
    from: "if (instance === this.#instance) return this.#feed(input);",
    to: "if (instance !== this.#spare) return this.#feed(input);",
  },
  {
    name: "a spare that is no longer wanted is not ended",
    file: "src/supervisor/driver.ts",
    from: "this.#delayFinish(spare.destroy());",
    to: "",
  },
  {
    name: "the end of supervision does not wait for the end of spares",
    file: "src/supervisor/driver.ts",
    from: "Promise.all([this.#cluster?.end(), ...this.#pendingEnds])",
    to: "Promise.all([this.#cluster?.end()])",
  },
  {
    name: "a spare that is ended during its start lives on",
    file: "src/supervisor/instance/instance.ts",
    from: 'if (this.#isDoomed) this.end("SIGKILL");',
    to: "",
  },
  {
    name: "the endpoint of an instance that never connected stays open",
    file: "src/supervisor/instance/instance.ts",
    from:
      "this.#close(this.#session?.link ?? this.#child?.stream);\n    this.#close(this.#endpoint);",
    to: "this.#close(this.#session?.link ?? this.#child?.stream);",
  },
  {
    name: "a link that another process holds open is not closed",
    file: "src/supervisor/instance/instance.ts",
    from: "this.#close(this.#session?.link ?? this.#child?.stream);",
    to: "if (!this.#session?.link) this.#close(this.#child?.stream);",
  },
  {
    name: "data left without a message is not read when the process ends",
    file: "src/supervisor/instance/link_session.ts",
    from: "this.takeStoredData();\n    this.#note = this.note;",
    to: "this.#note = this.note;",
  },
  {
    name: "the watch of the quorum source does not end",
    file: "src/supervisor/cluster_bridge.ts",
    from: "await (await this.#watching)?.();",
    to: "await this.#watching;",
  },
  {
    name: "the timer outlives supervision",
    file: "src/supervisor/timekeeper.ts",
    from: "this.#timer.remove(this);",
    to: "",
  },
  {
    name: "a timer that fires too early is not set again",
    file: "src/supervisor/wake_timer.ts",
    from: "this.arm(next);",
    to: "",
  },
  {
    name: "the next instance starts before its predecessor has ended (two)",
    file: "src/core/server/machine.ts",
    from: "return ending.kill(program);",
    to:
      'ending.kill(program);\n      program.instance.exit = { code: null, signal: "SIGKILL" };\n      return judge(program, now);',
  },
  {
    name: "a warned process is never killed",
    file: "src/core/server/machine.ts",
    from: "return ending.kill(program);",
    to: "return;",
  },
  {
    name: "one recovery more than `intensity` is allowed",
    file: "src/core/server/restart_policy.ts",
    from: "this.#recoveries.length >= intensity",
    to: "this.#recoveries.length > intensity",
  },
  {
    name: "time in which the server itself was stalled counts as silence (stall)",
    file: "src/core/server/machine.ts",
    from: "forgiveStall(program, now);\n  switch",
    to: "switch",
  },
  {
    name: "a process without CPU time is taken for one that hangs (starved)",
    file: "src/supervisor/timekeeper.ts",
    from: 'feed({ type: "starved", waitMs });',
    to: "feed(tick);",
  },
  {
    name: "a process that waits for the CPU gets too little extra time (starved)",
    file: "src/supervisor/instance/starvation.ts",
    from: 'if (now.state === "running" ||',
    to: 'if (now.state === "running" && this.#runtime.now() - this.#since < 40 ||',
  },
  {
    name: "data is acknowledged, and not stored",
    file: "src/core/server/stored_data.ts",
    from: "if (this.#arrived === total) {",
    to: "if (this.#arrived === total && total < 30_000) {",
  },
  {
    name: "instance ids skip one after a requested restart",
    file: "src/core/server/machine.ts",
    from: "program.restart.addRunTime(instance.ranMs(now), instance.healthyMs(now));",
    to: "program.beginInstance(now);",
  },

  // Reloads: the worlds have several programs.
  {
    name: "a replacement takes over as soon as it is ready (reload)",
    file: "src/core/server/reload.ts",
    from: 'this.#enter("proving", now + this.#settings.minReady);',
    to: 'this.#enter("proving", now);',
  },
  {
    name: "a replacement that fails goes on proving itself (reload)",
    file: "src/core/server/reload.ts",
    from: 'if (this.#isOnTrial) this.#enter("failing");',
    to: "if (this.#isOnTrial) break;",
  },
  {
    name: "a promoted spare that fails goes on proving itself (reload)",
    file: "src/core/server/reload.ts",
    from: 'else if (this.#state === "proving") this.#enter("awaiting");',
    to: "",
  },
  {
    name: "the old instance is not ended (reload)",
    file: "src/core/server/reload.ts",
    from: 'this.#effects.push({ type: "takeOver" }, { type: "endOld" });',
    to: 'this.#effects.push({ type: "takeOver" });',
  },
  {
    name: "the old instance is ended while its spare is not parked (reload)",
    file: "src/core/server/reload.ts",
    from: 'this.#effects.push({ type: way === "spare" ? "prepareSpare" : "startReplacement" });',
    to:
      'this.#effects.push({ type: way === "spare" ? "prepareSpare" : "startReplacement" });\n    if (way === "spare") return this.#exchange();',
  },
  {
    name: "a reload goes on although its program is stopped (reload)",
    file: "src/core/server/reload.ts",
    from: "if (this.#isOnTrial || !this.#isSideBySide) this.#fail(",
    to: "if (!this.#isSideBySide) this.#fail(",
  },
  {
    name: "a reload does not end when its replacement has ended (reload)",
    file: "src/core/server/reload.ts",
    from: "    this.#failure ??= { detail };\n    this.#settle();",
    to: "    this.#failure ??= { detail };",
  },
  {
    name: "a replacement takes over from an instance that has stored data (reload)",
    file: "src/supervisor/reload_run.ts",
    from: "const input = this.#hasDataMeanwhile ? dataMeanwhile : given;",
    to: "const input = given;",
  },
  {
    name: "a replacement counts as ready when it begins (reload)",
    file: "src/supervisor/reload_run.ts",
    from: "else if (this.#replacement?.ready) this",
    to: "else this",
  },
  {
    name: "the old instance is never asked to end (reload)",
    file: "src/supervisor/reload_run.ts",
    from: "if (!old.result) return old.shutdown(null);",
    to: "if (!old.result) return;",
  },
  {
    name: "a failed replacement is not ended (reload)",
    file: "src/supervisor/reload_run.ts",
    from: "this.#replacement!.shutdown(null);\n          break;",
    to: 'return this.#feed({ type: "ended", detail: "" });',
  },
  {
    name: "the timer of a reload outlives it (reload)",
    file: "src/supervisor/reload_run.ts",
    from: "    this.#cancelTimer();\n",
    to: "",
  },
  {
    name: "a replacement gets the number of a later instance (reload)",
    file: "src/supervisor/replica.ts",
    from: "nextInstanceId(Math.max(this.#current.instanceId, this.#highestId))",
    to: "nextInstanceId(this.#current.instanceId)",
  },
  {
    name: "the old instance may get the number of its replacement (reload)",
    file: "src/supervisor/replica.ts",
    from: "this.#current.driver?.reserveIds(this.#highestId);",
    to: "",
  },
  {
    name: "a replacement may get a number that the old instance has used (reload)",
    file: "src/supervisor/replica.ts",
    from: "driver?.reserveIds(this.#highestId = Math.max(this.#highestId, replaced.instanceId));",
    to: "",
  },
  {
    name: "a program with stored data runs twice (reload)",
    file: "src/supervisor/replica.ts",
    from: "this.#current.status.dataSize === 0;",
    to: "true;",
  },
  {
    name: "a program with a quorum runs twice (reload)",
    file: "src/supervisor/replica.ts",
    from: "quorum !== undefined || clusterMap !== undefined;",
    to: "clusterMap !== undefined;",
  },
  {
    name: "a program that ends during its reload has finished (reload)",
    file: "src/supervisor/replica.ts",
    from: "if (event === null || this.#isReloading) return;",
    to: "if (event === null) return;",
  },
  {
    name: "the end of a replaced instance is taken for that of the program (reload)",
    file: "src/supervisor/replica.ts",
    from: "    this.#heldFinish = null;\n    this.#parts = this.#nextParts;",
    to: "    this.#parts = this.#nextParts;",
  },
  {
    name: "the spare of a replacement never starts (reload)",
    file: "src/supervisor/replica.ts",
    from: 'if (this.#isSpareHeld) this.#onDue("spare");',
    to: "",
  },
  {
    name: "a replaced instance that ends is taken for the present one (reload)",
    file: "src/supervisor/fleet.ts",
    from: "if (event.instanceId !== member.replica.instanceId) break;",
    to: "",
  },
  {
    name: "a program that runs as a promoted spare does not restart with the others (reload)",
    file: "src/supervisor/fleet.ts",
    from: 'event.type === "spawn" || event.state === "promoted";',
    to: 'event.type === "spawn";',
  },
  {
    name:
      "the end of a parked spare ends the reload while the old instance is being ended (reload)",
    file: "src/supervisor/reload_run.ts",
    from: "if (this.isExchanging) return;",
    to: "",
  },
  {
    name: "the first process of a replacement is taken for that of the program (reload)",
    file: "src/core/server/machine.ts",
    from: "judgeEnd(instance, program.state, program.isProven, program.settings)",
    to: "judgeEnd(instance, program.state, program.restarts > 0, program.settings)",
  },
  {
    name: "the spare of a reload does not get the stored data (reload)",
    file: "src/supervisor/replica.ts",
    from: "driver?.adopt(replaced.driver!.server.storedData);",
    to: "driver?.adopt(new Uint8Array(0));",
  },
  {
    name: "a program can be reloaded only once (reload)",
    file: "src/supervisor/fleet_reloads.ts",
    from: "this.#reloading.delete(member);",
    to: "continue;",
  },
  {
    name: "a reload goes on after its first failure (reload)",
    file: "src/supervisor/fleet_reloads.ts",
    from: "if (failed) return { reloaded,",
    to: "if (failed && !members.includes(member)) return { reloaded,",
  },
  {
    name: "a reload goes on while all programs are stopped (reload)",
    file: "src/supervisor/fleet_reloads.ts",
    from: '        this.#fleet.refuseIfStopping("reload", name);\n        // It was',
    to: "        // It was",
  },
];

const copy = join(root, ".build/mutants");

function fresh() {
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { recursive: true });
  for (const part of ["src", "transports", "test/support", "package.json"]) {
    cpSync(join(root, part), join(copy, part), { recursive: true });
  }
}

/** The worlds in which a mutant is looked for. */
const kindOf = ({ name }) => /\(reload\)$/.test(name) ? "runFleets" : "runWorlds";

/** Runs the simulation on the copy. Resolves to the failure that it finds, or undefined. */
function simulate(kind) {
  const node = join(root, "test/runtimes/node_modules/node-26/bin/node");
  const script = `await (await import("./test/support/sim_run.ts")).${kind}(0, ${worlds[kind]})`;
  const args = ["--input-type=module", "--no-warnings", "-e", script];
  return new Promise((resolve) => {
    const child = spawn(node, args, { cwd: copy, stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text) => stderr += text);
    const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
    child.on("close", (code) => {
      clearTimeout(timer);
      if (code === 0) return resolve(undefined);
      if (code === null) return resolve("it went on for ever");
      resolve(
        /Error: (.*?)[:(]* ?\(seed ([\w ]+)/s.exec(stderr)?.slice(1, 3).join(", seed ") ?? stderr,
      );
    });
  });
}

/** The reason why a mutant cannot be made, or undefined. */
function outdated({ file, from }) {
  const times = readFileSync(join(root, file), "utf8").split(from).length - 1;
  return times === 1 ? undefined : `its text is in ${file} ${times} times`;
}

if (process.argv[2] === "--texts") {
  const list = readFileSync(join(root, "test/README.md"), "utf8");
  for (const mutant of mutants) {
    const isListed = list.includes(`| ${mutant.name.replace(/ \(\w+\)$/, "")} `);
    const why = outdated(mutant) ?? (isListed ? undefined : "it is not in test/README.md");
    if (why === undefined) continue;
    console.log(`FAILED  ${mutant.name}: ${why}`);
    process.exitCode = 1;
  }
  process.exit();
}
const [word = ""] = process.argv.slice(2);
const chosen = mutants.filter(({ name }) => name.includes(word));
fresh();
for (const kind of new Set(chosen.map(kindOf))) {
  const complaint = await simulate(kind);
  if (complaint === undefined) continue;
  console.log(`The simulation fails without a mutant: ${complaint}`);
  process.exit(1);
}
let [found, missed] = [0, 0];
for (const mutant of chosen) {
  fresh();
  const { name, file, from, to } = mutant;
  const why = outdated(mutant);
  if (why !== undefined) {
    console.log(`FAILED  ${name}: ${why}`);
    missed++;
    continue;
  }
  const source = readFileSync(join(root, file), "utf8");
  writeFileSync(join(copy, file), source.replace(from, () => to));
  const finding = await simulate(kindOf(mutant));
  if (finding === undefined) missed++;
  else found++;
  console.log(`${finding === undefined ? "NOT FOUND" : "found"}  ${name}: ${finding ?? ""}`);
}
rmSync(copy, { recursive: true, force: true });
console.log(`${found} mutants found, ${missed} not`);
process.exitCode = missed > 0 ? 1 : 0;
