// The counter of examples/cluster on three nodes and three runtimes, while one node after the other is cut off, frozen,
// crashed or hung: nobody runs without quorum, nobody else is disturbed, and no acknowledged increment is lost or doubled.
// SAM_CLUSTER_ROUNDS sets the number of rounds. Unless it is set, each leg makes seven, all together 42: 21 cuts of the network,
// and 21 crashes and freezes of a daemon. In the short form one leg makes twenty.
// A round in which the machine stood still, so that others were disturbed by that, is made again, three times at most.
import { assert, assertEquals } from "@std/assert";
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { short } from "../support/harness.ts";
import { eventually, lives, processTest, type Stage } from "../support/processes.ts";
import { currentRuntime, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import {
  type Inside,
  Lab,
  labMissing,
  type NodeNumber,
  runtimeCommand,
} from "../support/three_nodes.ts";

const rounds = Number(process.env["SAM_CLUSTER_ROUNDS"] ?? (short ? 20 : 7));
const firstRound = runtimeNames.indexOf(currentRuntime) * rounds;

/** The runtime of each node: this one, and the two other kinds. */
const mixes: Readonly<Record<RuntimeName, readonly RuntimeName[]>> = {
  node20: ["node20", "deno", "bun"],
  node22: ["bun", "node22", "deno"],
  node24: ["deno", "bun", "node24"],
  node26: ["node26", "bun", "deno"],
  deno: ["bun", "node26", "deno"],
  bun: ["node22", "bun", "node24"],
};

/** Of the stubborn program. */
const timeInterval = 1000;
/** Of `corosyncQuorum()`, unless it is told otherwise. */
const answerTimeout = 2000;
/** What a busy machine may add. */
const toleranceMs = 5000;

const primary = "within the primary component";
const nonPrimary = "within the non-primary component";

const ms = (duration: number) => `${duration.toFixed(0)} ms`;

interface Answer {
  readonly status: number;
  readonly body: {
    readonly value?: number;
    readonly members?: readonly number[];
    instance?: number;
  };
}

/** Three nodes with two programs each: the counter, and one that ignores all warnings. */
class Cluster {
  readonly #stage: Stage;
  readonly #lab: Lab;
  readonly #programs = new Map<NodeNumber, readonly Inside[]>();

  constructor(stage: Stage, lab: Lab) {
    this.#stage = stage;
    this.#lab = lab;
  }

  get nodes(): readonly NodeNumber[] {
    return this.#lab.numbers;
  }

  async start(): Promise<void> {
    const { env } = this.#stage.program("corosync/stubborn");
    for (const node of this.nodes) {
      const runtime = mixes[currentRuntime][node - 1]!;
      const counter = runtimeCommand(runtime, "examples/cluster/counter");
      const stubborn = runtimeCommand(runtime, "test/fixtures/corosync/stubborn");
      // One after the other: twelve processes that start at once would keep two processors busy for long.
      const first = await this.#lab.run(node, counter, { PORT: this.#socket(node) });
      this.#programs.set(node, [first]);
      await this.sees(node, ({ status }) => status > 0);
      this.#programs.set(node, [
        first,
        await this.#lab.run(node, [...stubborn, String(node)], env),
      ]);
      await eventually(`the stubborn program of node ${node}`, () => this.#runs(node));
    }
    await this.allAreBack();
  }

  /** Asks the counter of a node; status 0 where nobody answers. */
  ask(node: NodeNumber, method: string, path: string): Promise<Answer> {
    return new Promise((resolve) => {
      const socketPath = this.#socket(node);
      const asked = request({ socketPath, method, path, agent: false }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => text += part);
        response.on("end", () => resolve({ status: response.statusCode!, body: JSON.parse(text) }));
        response.on("error", () => resolve({ status: 0, body: {} }));
      });
      asked.setTimeout(4000, () => asked.destroy());
      asked.on("error", () => resolve({ status: 0, body: {} }));
      asked.on("close", () => resolve({ status: 0, body: {} })); // after an answer, it is one already
      asked.end();
    });
  }

  /** Waits until a node answers, and its answer `is`. */
  async sees(node: NodeNumber, is: (answer: Answer) => boolean): Promise<void> {
    let last: Answer | undefined;
    try {
      await eventually(`node ${node}`, async () => is(last = await this.ask(node, "GET", "/")));
    } catch (error) {
      throw new Error(`${error}: ${JSON.stringify(last)}`);
    }
  }

  /** Waits until all programs run and each counter knows of all. */
  async allAreBack(): Promise<void> {
    for (const node of this.nodes) {
      await this.sees(
        node,
        ({ status, body }) => status === 200 && body.members!.join() === this.nodes.join(),
      );
      await eventually(`the stubborn program of node ${node}`, () => this.#runs(node));
    }
  }

  /** Whether the active process of the stubborn program has got past `start()`, and is not about to be killed. */
  #runs(node: NodeNumber): boolean {
    const [pid] = this.active(node).slice(1);
    const says = (event: string) =>
      this.#stage.lines(event).filter((line) => line["node"] === node);
    const instance = says("registered").at(-1)?.["instance"];
    const has = (event: string) => says(event).some((line) => line["instance"] === instance);
    return has("started") && !has("warned") && pid !== undefined;
  }

  /** The active processes of a node's programs. */
  active(node: NodeNumber): number[] {
    return this.#programs.get(node)!.flatMap(({ pid }) => this.#lab.children(pid).slice(0, 1));
  }

  /**
   * How often a node's daemon lost quorum, or a program there had no time to send a heartbeat: a machine that stands still for
   * long does both.
   */
  stalls(node: NodeNumber): number {
    const said = this.#lab.log(node) + this.#output(node);
    return said.split(new RegExp(`${nonPrimary}|stopped responding: `)).length - 1;
  }

  /** How often each of a node's servers has said that it cannot know whether there is quorum. */
  unknowns(node: NodeNumber): readonly number[] {
    return this.#programs.get(node)!.map(({ output }) =>
      output().split("cannot read the state of quorum").length - 1
    );
  }

  /** How often the stubborn program of a node has got past `start()`. */
  starts(node: NodeNumber): number {
    return this.#stage.lines("started").filter((line) => line["node"] === node).length;
  }

  /** Whether a node's daemon said last that it is quorate. */
  isQuorate(node: NodeNumber): boolean {
    const log = this.#lab.log(node);
    return log.lastIndexOf(primary) > log.lastIndexOf(nonPrimary);
  }

  outputs(): string {
    return this.nodes.map((node) => `\n--- node ${node}: ${this.#output(node)}`).join("");
  }

  #output(node: NodeNumber): string {
    return this.#programs.get(node)?.map(({ output }) => output()).join("\n") ?? "";
  }

  #socket(node: NodeNumber): string {
    return `${this.#stage.directory}/${node}`;
  }
}

/** Increments, one after the other, each again and again until it is acknowledged. */
class Client {
  /** The sum of all that was acknowledged. */
  sum = 0;
  count = 0;
  readonly #ended: Promise<void>;
  #failure: unknown;
  #stop = false;
  #givenUp = false;

  constructor(cluster: Cluster, name: string) {
    this.#ended = this.#run(cluster, name).catch((error) => {
      this.#failure = error;
    });
  }

  /** Throws where it met with an answer that must not be. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #run(cluster: Cluster, name: string): Promise<void> {
    for (let seq = 1, turn = 0; !this.#stop; seq++) {
      const by = 1 + seq % 9;
      while (!this.#givenUp) {
        const node = cluster.nodes[turn++ % 3]!;
        const path = `/add?client=${name}&seq=${seq}&by=${by}`;
        const { status, body } = await cluster.ask(node, "POST", path);
        if (status === 200) break;
        const answer = () => `node ${node} answers ${status} ${JSON.stringify(body)} to ${path}`;
        assert(status === 0 || status === 503, answer());
        await sleep(20);
      }
      this.sum += by;
      this.count++;
      await sleep(10);
    }
  }

  /** Ends, whatever became of the present increment. */
  giveUp(): void {
    this.#stop = this.#givenUp = true;
  }

  /** Ends after the present increment. */
  async stop(): Promise<void> {
    this.#stop = true;
    await this.#ended;
    this.check();
  }
}

/** What befalls a node, and how it passes; `lossMs`: after which its quorum counts as lost, where its daemon does not say it. */
const disturbances = (lab: Lab): readonly {
  readonly name: string;
  readonly lossMs?: number;
  begin(node: NodeNumber): Promise<void>;
  end(node: NodeNumber): Promise<void>;
}[] => [
  { name: "cut off", begin: (node) => lab.part(node, "silent"), end: (node) => lab.heal(node) },
  { name: "crash", lossMs: 0, begin: (node) => lab.crash(node), end: (node) => lab.boot(node) },
  { name: "link down", begin: (node) => lab.part(node, "down"), end: (node) => lab.heal(node) },
  {
    name: "freeze",
    lossMs: answerTimeout,
    begin: (node) => lab.freeze(node),
    end: (node) => lab.thaw(node),
  },
];

processTest(
  "the replicated counter: through cuts, freezes, crashes and a hang, no acknowledged increment is lost or doubled",
  async (stage) => {
    const lab = await Lab.start(`${stage.directory}/lab`);
    const clients: Client[] = [];
    const cluster = new Cluster(stage, lab);
    try {
      await cluster.start();
      for (const name of ["a", "b", "c"]) clients.push(new Client(cluster, name));

      await cluster.ask(2, "POST", "/hang");
      await cluster.sees(1, ({ body }) => body.members?.join() === "1,3");
      await cluster.sees(2, ({ status, body }) => status === 200 && body.instance === 2);
      await cluster.allAreBack();

      // A daemon that was frozen, and is alone when it goes on, says for a while what held before.
      const programs = cluster.active(3);
      await lab.freeze(3);
      await eventually("the programs of node 3 are dead", () => !programs.some(lives));
      await lab.part(3, "silent");
      const started = cluster.starts(3);
      await lab.thaw(3);
      await eventually("node 3 knows that it is alone", () => !cluster.isQuorate(3));
      await sleep(500);
      assertEquals(cluster.starts(3), started);
      await lab.heal(3);
      await cluster.allAreBack();

      const acknowledged = () => {
        for (const client of clients) client.check();
        return clients.reduce((sum, { count }) => sum + count, 0);
      };
      /** True unless the machine stood still so long that others were disturbed by that. */
      const play = async (round: number): Promise<boolean> => {
        const all = disturbances(lab);
        const kind = all[round % all.length]!;
        const node = cluster.nodes[(round + Math.floor(round / 3)) % 3]!;
        const others = cluster.nodes.filter((each) => each !== node);
        const what = `round ${round}, ${kind.name} of node ${node}`;
        const victims = cluster.active(node);
        const unknowns = cluster.unknowns(node);
        const before = others.map((each) => cluster.active(each));
        const stalls = others.map((each) => cluster.stalls(each));

        const began = performance.now();
        await kind.begin(node);
        let lostAt = performance.now() + (kind.lossMs ?? 0);
        if (kind.lossMs === undefined) {
          await eventually(`${what}: quorum lost`, () => !cluster.isQuorate(node));
          lostAt = performance.now();
        }
        await eventually(`${what}: its programs are dead`, () => !victims.some(lives));
        const lateMs = performance.now() - lostAt;
        assert(lateMs < timeInterval + toleranceMs, `${what}: alive ${lateMs} ms after the loss`);

        const sofar = acknowledged();
        await eventually(`${what}: the others go on`, () => acknowledged() > sofar + 5);
        const after = others.map((each) => cluster.active(each));
        const isCalm = `${others.map((each) => cluster.stalls(each))}` === `${stalls}`;
        if (isCalm) assertEquals(after, before, `${what}: the others are not disturbed`);
        if (kind.lossMs !== undefined) {
          // The counter ends with its connection; its server may hear of the daemon's end some time later.
          const isTold = (count: number, program: number) => count > unknowns[program]!;
          await eventually(`${what}: it is told`, () => cluster.unknowns(node).every(isTold));
        }
        await kind.end(node);
        await cluster.allAreBack();
        const took = performance.now() - began;
        // So that a leg with many rounds is not taken for one that hangs.
        console.log(`${what}: dead ${ms(lateMs)} after the loss, all back after ${ms(took)}`);
        return isCalm;
      };
      for (let round = firstRound; round < firstRound + rounds; round++) {
        for (let tries = 1; !await play(round); tries++) {
          assert(tries < 3, `round ${round}: the others were disturbed ${tries} times`);
        }
      }

      for (const client of clients) await client.stop();
      const total = clients.reduce((sum, client) => sum + client.sum, 0);
      assert(total > 0);
      for (const node of cluster.nodes) {
        await cluster.sees(node, ({ body }) => body.value === total);
      }
    } catch (error) {
      const logs = lab.numbers.map((node) => `\n--- daemon ${node}: ${lab.log(node).slice(-3000)}`);
      console.log(`${cluster.outputs()}${logs.join("")}`);
      throw error; // last, and short: where only the end of an output is kept, the reason is
    } finally {
      for (const client of clients) client.giveUp();
      await lab.close();
    }
  },
  { timeoutMs: 60_000 + rounds * 15_000, skip: labMissing() ?? false, leg: "deno" },
);
