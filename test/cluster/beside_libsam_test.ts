// A server of libsam and a SAM server on one daemon: both publish the same keys and values at each step.
import { assertEquals } from "@std/assert";
import { clusterTest, type Corosync } from "../support/corosync.ts";
import { eventually, killQuietly, type Running, type Stage } from "../support/processes.ts";
import { compiledProgram } from "../support/runtimes.ts";

/** Starts a program under SAM and one under libsam, which do the same steps. */
function both(stage: Stage, recoveryPolicy: string, timeInterval: number, steps: string[]) {
  const plan = { timeInterval, recoveryPolicy, clusterMap: true, steps };
  const ours = stage.run("corosync/program", { args: [JSON.stringify(plan)] });
  const args = [recoveryPolicy, String(timeInterval), ...steps];
  return { ours, theirs: stage.runCommand(compiledProgram("libsam"), { args }) };
}

/** Waits until the state of a server is `state`. Returns its keys; `updated` is the type of `last_updated`. */
async function keysOf(
  node: Corosync,
  { pid }: Running,
  state: string | undefined,
): Promise<Record<string, string | bigint>> {
  const keys = await eventually(`the state ${state} of server ${pid}`, async () => {
    const keys = (await node.processes())[pid] ?? {};
    return keys["state"] === state && keys;
  });
  const { last_updated: updated, ...others } = keys;
  return { ...others, updated: typeof updated };
}

clusterTest(
  "a server of libsam and a SAM server on one daemon have the same keys and values at each step",
  async (stage, node) => {
    const steps = ["start", "heartbeat", "stop", "start", "stop", "exit"];
    const { ours, theirs } = both(stage, "restart", 60_000, steps);
    const compare = async (state: string | undefined, when: string) =>
      assertEquals(await keysOf(node, ours, state), await keysOf(node, theirs, state), when);
    let state: string | undefined = "stopped";
    /** Lets both programs do a step, and compares their keys before and after it. */
    const step = async (name: string, next: string | undefined) => {
      const ready = `ready ${name}`;
      await stage.line(ready, 2);
      await compare(state, `before ${name}`);
      stage.go(name);
      await compare(state = next, name);
      return stage.lines(ready);
    };
    await step("1.1 start", "running");
    await step("1.2 heartbeat", "running");
    await step("1.3 stop", "stopped");
    for (const { pid } of await step("1.4 start", "running")) killQuietly(pid);
    state = "stopped"; // the server of libsam publishes "failed" until it has started the next instance
    await step("2.1 start", "running");
    await step("2.2 heartbeat", "running");
    await step("2.3 stop", "stopped");
    await step("2.4 start", "running");
    await step("2.5 stop", "stopped");
    await step("2.6 exit", undefined);
    const ends = await Promise.all([ours.exited, theirs.exited]);
    assertEquals(ends.map(({ code }) => code), [3, 3]);
    assertEquals(await node.processes(), {});
  },
  { leg: "node20" },
);

clusterTest(
  "a server of libsam and a SAM server leave the same keys after a failure",
  async (stage, node) => {
    const { ours, theirs } = both(stage, "quit", 300, ["start"]);
    await Promise.all([ours.exited, theirs.exited]);
    const left = await keysOf(node, ours, "failed");
    assertEquals(left, await keysOf(node, theirs, "failed"));
    assertEquals(left, { poll_period: 300n, recovery: "quit", state: "failed", updated: "bigint" });
  },
  { leg: "node20" },
);
