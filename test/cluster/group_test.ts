// Process groups of a real Corosync: three daemons on this machine, with members on this runtime.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { corosyncGroup } from "../../src/corosync/mod.ts";
import { clusterTest } from "../support/corosync.ts";
import type { TestOptions } from "../support/harness.ts";
import { eventually, killQuietly, processTest, type Stage } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";
import {
  type Inside,
  Lab,
  labMissing,
  type NodeNumber,
  runtimeCommand,
} from "../support/three_nodes.ts";

const skip = labMissing() ?? false;
/** The number of messages sent one after the other: ten times as many as may wait. */
const awaited = 4000;

/** Members of groups, on the nodes of a lab. */
class Scene {
  readonly stage: Stage;
  readonly lab: Lab;

  constructor(stage: Stage, lab: Lab) {
    this.stage = stage;
    this.lab = lab;
  }

  start(node: NodeNumber, ...args: string[]): Promise<Inside> {
    const program = this.stage.program("corosync/group");
    const command = runtimeCommand(currentRuntime, "test/fixtures/corosync/group");
    return this.lab.run(node, [...command, ...args], program.env);
  }

  /** Waits for the orderly end of a program. */
  async done({ exited, output }: Inside) {
    assertEquals(await exited, 0, output());
  }
}

function groupTest(
  name: string,
  fn: (scene: Scene) => Promise<void>,
  options: TestOptions = {},
): void {
  processTest(name, async (stage) => {
    const lab = await Lab.start(`${stage.directory}/lab`);
    try {
      await fn(new Scene(stage, lab));
    } finally {
      await lab.close();
    }
  }, { timeoutMs: 90_000, skip, ...options });
}

groupTest(
  "corosyncGroup: three members receive the same messages in the same order, and see each other leave",
  async (scene) => {
    const { stage, lab } = scene;
    const count = 100;
    const members = await Promise.all(
      lab.numbers.map((node) =>
        scene.start(node, "order", String(count), node === 2 ? "leave" : "stay")
      ),
    );
    await stage.line("got", 3);
    const [first, ...others] = stage.lines("got").map(({ got }) => got as string[]);
    assertEquals(new Set(first).size, 3 * count);
    for (const other of others) assertEquals(other, first);
    for (const node of lab.numbers) {
      const own = first!.filter((each) => each.startsWith(`${node}:`));
      assertEquals(own, Array.from({ length: count }, (_, at) => `${node}:${at}`));
    }

    const reasons = (at: number) =>
      stage.lines("change").filter(({ node }) => node === at)
        .flatMap(({ left }) =>
          left.map((each: { nodeId: number; reason: string }) => `${each.nodeId} ${each.reason}`)
        );
    killQuietly(members[2]!.pid);
    await eventually(
      "the end of a process, as seen by node 1",
      () => reasons(1).includes("3 process"),
    );
    await scene.done(members[1]!); // member 2 leaves after that change
    await eventually(
      "a member that leaves, as seen by node 1",
      () => reasons(1).includes("2 leave"),
    );
    const fourth = await scene.start(2, "order", "1", "stay");
    await eventually(
      "a new member, as seen by node 1",
      () => stage.lines("change").some(({ node, joined }) => node === 1 && joined[0]?.nodeId === 2),
    );
    await lab.part(2, "silent");
    await eventually("the loss of a node, as seen by node 1", () => reasons(1).includes("2 node"));
    for (const { pid } of [members[0]!, fourth]) killQuietly(pid);
  },
  { leg: "node26" },
);

groupTest(
  "corosyncGroup: arguments and sizes are checked, queues are bounded, and a daemon that is down, ends or is frozen is an error",
  async (scene) => {
    const flow = scene.start(1, "flow", String(awaited)).then((program) => scene.done(program));
    const limits = scene.start(2, "limits").then((program) => scene.done(program));
    await Promise.all([flow, limits, loseDaemon(scene)]);

    const line = (event: string) => scene.stage.lines(event)[0]!;
    const codes = scene.stage.lines("code").map(({ of, code }) => [of, code]);
    assertEquals(Object.fromEntries(codes), {
      "name ": "INVALID_PARAM",
      [`name ${"a".repeat(129)}`]: "INVALID_PARAM",
      "name 5": "INVALID_PARAM",
      "maxQueuedBytes 0": "INVALID_PARAM",
      "a signal that is none": "INVALID_PARAM",
      "an unknown option": "INVALID_PARAM",
      "an aborted signal": "INTERRUPT",
      "joining twice": "BAD_HANDLE",
      "a second reader": "BAD_HANDLE",
      "a text": "INVALID_PARAM",
      "max + 1": "TOO_BIG",
      "an aborted send": "INTERRUPT",
      "send after leave": "BAD_HANDLE",
      "no daemon": "TRY_AGAIN",
    });
    const { sizes, max, same } = line("sizes");
    assertEquals([sizes, same], [[max, 0], true]);
    assertGreater(max, 1_000_000);
    assertEquals(line("rest")["rest"], ["members"]);

    assertEquals(line("not awaited")["others"], ["none", "TRY_AGAIN"]);
    assertEquals(line("awaited")["got"], awaited);
    const { code, end, before } = line("too slow");
    assertEquals([code, end], ["TOO_BIG", "TOO_BIG"]);
    assert(before > 200 && before < 400, `${before} messages of 1064 bytes waited`);
    assertEquals(scene.stage.lines("again").map(({ members }) => members), [1, 1]);

    const { end: lost, send } = line("lost");
    assertEquals([lost, send], ["LIBRARY", "LIBRARY"]);
    const { frozen, ticks } = line("frozen");
    assertEquals(frozen, "INTERRUPT");
    assertGreater(ticks, 20); // 30 ticks of 10 ms are due in 300 ms
  },
);

clusterTest(
  "corosyncGroup: a message of another program may be longer than maxMessageBytes",
  async (stage) => {
    await using group = await corosyncGroup("long");
    stage.run("corosync/long");
    for await (const event of group.events()) {
      if (event.type !== "message") continue;
      const isWhole = event.data.every((byte, at) => byte === at % 251);
      assertEquals([event.data.length, isWhole], [2_500_000, true]);
      break;
    }
  },
);

/** The daemon of node 3 is down, starts, ends, starts again, and is frozen. */
async function loseDaemon(scene: Scene): Promise<void> {
  const { stage, lab } = scene;
  await lab.crash(3);
  const member = await scene.start(3, "daemon");
  await stage.line("ready to join");
  await lab.boot(3);
  stage.go("to join");
  await stage.line("joined");
  await lab.crash(3);
  await stage.line("lost");
  await lab.boot(3);
  stage.go("to rejoin");
  await stage.line("ready for a frozen daemon");
  await lab.freeze(3);
  stage.go("for a frozen daemon");
  await scene.done(member);
}
