// Both cores are busy with something else, and the time interval is short: no healthy program is warned or killed.
import { assert, assertEquals } from "@std/assert";
import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { limitCpu } from "./support/cgroup.ts";
import { killQuietly, processTest, type TransportName, transports } from "./support/processes.ts";
import { newest } from "./support/runtimes.ts";

/** `npm run test:faults` takes a minute. */
const loadMs = Number(process.env["SAM_TEST_LOAD_MS"] ?? 10_000);

processTest(
  "all cores are busy, a time interval of 200 ms, event-driven: no healthy program is killed",
  async (stage) => {
    const loops = cpus().map(() => stage.runCommand("sh", { args: ["-c", "while :; do :; done"] }));
    const all = transports.map((transport) =>
      stage.supervise("faults_program", {
        timeInterval: 200,
        recoveryPolicy: "restart",
        transport,
      }, { args: [transport, "checked"] })
    );
    await stage.line("started", all.length);
    await sleep(loadMs);
    for (const { supervisor, events } of all) {
      const { state, slack, transport } = supervisor.status;
      assertEquals([state, supervisor.status.instanceId], ["started", 1], JSON.stringify(events));
      assert(slack.count > loadMs / 200, `${transport}: ${JSON.stringify(slack)}`);
      if (loadMs > 10_000) console.log(`${transport}: ${JSON.stringify(slack)}`);
    }
    for (const { pid } of loops) killQuietly(pid);
  },
  { timeoutMs: loadMs + 30_000, leg: newest },
);

const trial = limitCpu(8, 800);
trial?.remove();

processTest(
  "a program that is given no processor is not taken for one that hangs, and one that hangs is found all the same",
  async (stage) => {
    const start = (transport: TransportName, manner: string) =>
      stage.supervise("faults_program", {
        timeInterval: 200,
        recoveryPolicy: "restart",
        transport,
      }, { args: [transport, manner] });
    const healthy = transports.map((transport) => start(transport, "checked"));
    const limit = limitCpu(8, 800)!;
    // Of its own: it is judged when it has run for a while, which takes long where four share so little.
    const another = limitCpu(8, 800)!;
    try {
      await stage.line("started", healthy.length);
      const hanging = start("unix", "blocks");
      await stage.line("started", healthy.length + 1);
      for (const { supervisor } of healthy) limit.add(supervisor.status.pid!);
      another.add(hanging.supervisor.status.pid!);
      await hanging.event("warn");
      await sleep(5000);
    } finally {
      limit.remove();
      another.remove();
    }
    for (const { supervisor, events } of healthy) {
      const { state, instanceId } = supervisor.status;
      assertEquals([state, instanceId], ["started", 1], JSON.stringify(events));
      assert(events.some(({ type }) => type === "starved"), "it had enough to run");
    }
  },
  { leg: newest, skip: trial ? false : "no control group with a CPU limit can be made here" },
);
