// Busy cores or a slow disk, and a short time interval: no healthy program is warned.
import { assert, assertEquals } from "@std/assert";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Limit, limitCpu, limitDisk } from "../support/cgroup.ts";
import { killQuietly, processTest, type TransportName, transports } from "../support/processes.ts";
import { newest } from "../support/runtimes.ts";

/** `npm run test:faults` takes a minute. */
const loadMs = Number(process.env["SAM_TEST_LOAD_MS"] ?? 10_000);

processTest(
  "all cores are busy, a time interval of 200 ms, event-driven: no healthy program is killed",
  async (stage) => {
    const loops = cpus().map(() => stage.runCommand("sh", { args: ["-c", "while :; do :; done"] }));
    const all = transports.map((transport) =>
      stage.supervise("faults/program", {
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
  "a program that gets no CPU time is not recovered, and a program that hangs is",
  async (stage) => {
    const start = (transport: TransportName, behavior: string) =>
      stage.supervise("faults/program", {
        timeInterval: 200,
        recoveryPolicy: "restart",
        transport,
      }, { args: [transport, behavior] });
    const healthy = transports.map((transport) => start(transport, "checked"));
    const limit = limitCpu(8, 800)!;
    // This program has a limit of its own: it is judged after some CPU time, which takes long if four share a small limit.
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

const diskTrial = limitDisk(tmpdir(), 1e6);
diskTrial?.remove();

processTest(
  "a program that waits for a slow disk is not recovered, and a program whose disk does not answer is",
  async (stage) => {
    const start = async (transport: TransportName, name: string) => {
      const file = join(stage.directory, name);
      // Written past the cache, so that it is read from the disk.
      const args = ["if=/dev/zero", `of=${file}`, "bs=1M", "count=1", "oflag=direct"];
      assertEquals((await stage.runCommand("dd", { args }).exited).code, 0);
      return stage.supervise("faults/program", {
        timeInterval: 200,
        recoveryPolicy: "restart",
        transport,
      }, { args: [transport, "reads", file] });
    };
    const healthy = await Promise.all(transports.map((transport) => start(transport, transport)));
    const waiting = await start("unix", "nothing");
    await stage.line("started", healthy.length + 1);
    const limits: Limit[] = [];
    try {
      for (const { supervisor } of [...healthy, waiting]) {
        // The disk takes a second for a file; or, for its first piece, longer than the test.
        const limit = limitDisk(stage.directory, limits.length < healthy.length ? 1e6 : 5000)!;
        limits.push(limit);
        limit.add(supervisor.status.pid!);
      }
      stage.go("disk");
      await stage.line("read", healthy.length);
      const { reason, at } = await waiting.event("warn");
      assertEquals(reason, "timeout");
      const gaveUpMs = at - waiting.all("starved")[0]!.at;
      assert(gaveUpMs > 4900, `after ${gaveUpMs} ms`);
    } finally {
      for (const limit of limits) limit.remove();
    }
    for (const { supervisor, events } of healthy) {
      const { state, instanceId } = supervisor.status;
      assertEquals([state, instanceId], ["started", 1], JSON.stringify(events));
      assert(events.some(({ type }) => type === "starved"), "its disk was fast enough");
    }
  },
  {
    leg: newest,
    skip: diskTrial ? false : "no control group with a limit of the disk can be made here",
  },
);
