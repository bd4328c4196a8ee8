// The counter of examples/cluster on three nodes and three runtimes, while one node after the other is cut off, frozen,
// crashed or hung. No program runs without quorum, the other nodes are not disturbed, and no acknowledged increment is lost or
// doubled. SAM_CLUSTER_ROUNDS sets the number of rounds. By default each leg runs seven, together 42: 21 cuts of the network,
// and 21 crashes and freezes of a daemon. In the short form one leg runs twenty.
// If the machine itself stalled and so disturbed the other nodes, the round is repeated, up to three times.
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

/** The runtimes of the three nodes in each leg. */
const mixes: Readonly<Record<RuntimeName, readonly RuntimeName[]>> = {
  node20: ["node20", "deno", "bun"],
  node22: ["bun", "node22", "deno"],
  node24: ["deno", "bun", "node24"],
  node26: ["node26", "bun", "deno"],
  deno: ["bun", "node26", "deno"],
  bun: ["node22", "bun", "node24"],
};

/** The time interval of the stubborn program. */
const timeInterval = 1000;
/** The default of `corosyncQuorum()`. */
const answerTimeout = 2000;
/** The delay that a busy machine may add. */
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

/** Three nodes with two programs each: the counter, and a stubborn program that ignores all warnings. */
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
      // One after the other, because twelve processes that start at once would overload two cores.
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

  /** Sends a request to the counter of a node. Status 0 means that there was no answer. */
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
      asked.on("close", () => resolve({ status: 0, body: {} })); // has no effect after an answer
      asked.end();
    });
  }

  /** Waits for an answer of a node for which `is` returns true. */
  async sees(node: NodeNumber, is: (answer: Answer) => boolean): Promise<void> {
    let last: Answer | undefined;
    try {
      await eventually(
        `an answer of node ${node}`,
        async () => is(last = await this.ask(node, "GET", "/")),
      );
    } catch (error) {
      throw new Error(`${error}: ${JSON.stringify(last)}`);
    }
  }

  /** Waits until all programs run and each counter sees all members. */
  async allAreBack(): Promise<void> {
    for (const node of this.nodes) {
      await this.sees(
        node,
        ({ status, body }) => status === 200 && body.members!.join() === this.nodes.join(),
      );
      await eventually(`the stubborn program of node ${node}`, () => this.#runs(node));
    }
  }

  /** True if the active process of the stubborn program has passed `start()`, and was not warned. */
  #runs(node: NodeNumber): boolean {
    const [pid] = this.active(node).slice(1);
    const says = (event: string) =>
      this.#stage.lines(event).filter((line) => line["node"] === node);
    const instance = says("registered").at(-1)?.["instance"];
    const has = (event: string) => says(event).some((line) => line["instance"] === instance);
    return has("started") && !has("warned") && pid !== undefined;
  }

  /** The process ids of the active processes of a node. */
  active(node: NodeNumber): number[] {
    return this.#programs.get(node)!.flatMap(({ pid }) => this.#lab.children(pid).slice(0, 1));
  }

  /**
   * The number of times that a node's daemon lost quorum, or a program there missed its deadline. Both also happen if the
   * machine stalls.
   */
  stalls(node: NodeNumber): number {
    const said = this.#lab.log(node) + this.#output(node);
    return said.split(new RegExp(`${nonPrimary}|stopped responding: `)).length - 1;
  }

  /** The number of times that each server of a node has reported that it cannot read the state of quorum. */
  unknowns(node: NodeNumber): readonly number[] {
    return this.#programs.get(node)!.map(({ output }) =>
      output().split("cannot read the state of quorum").length - 1
    );
  }

  /** The number of times that the stubborn program of a node has passed `start()`. */
  starts(node: NodeNumber): number {
    return this.#stage.lines("started").filter((line) => line["node"] === node).length;
  }

  /** True if the last report of a node's daemon says that it is quorate. */
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

/** A client that sends one increment after the other, and repeats each one until it is acknowledged. */
class Client {
  /** The sum of all acknowledged increments. */
  sum = 0;
  count = 0;
  readonly #ended: Promise<void>;
  #failure: unknown;
  #stop = false;
  #isAborted = false;

  constructor(cluster: Cluster, name: string) {
    this.#ended = this.#run(cluster, name).catch((error) => {
      this.#failure = error;
    });
  }

  /** Throws if the client has received an answer that must not occur. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #run(cluster: Cluster, name: string): Promise<void> {
    for (let seq = 1, turn = 0; !this.#stop; seq++) {
      const by = 1 + seq % 9;
      while (!this.#isAborted) {
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

  /** Ends at once, even if the present increment is not acknowledged. */
  abort(): void {
    this.#stop = this.#isAborted = true;
  }

  /** Ends after the present increment. */
  async stop(): Promise<void> {
    this.#stop = true;
    await this.#ended;
    this.check();
  }
}

/**
 * The ways to disturb a node. `lossMs` is the time until quorum counts as lost, if the daemon itself cannot report the
 * loss.
 */
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

      // A daemon that was frozen and then cut off reports its old state for a while.
      const programs = cluster.active(3);
      await lab.freeze(3);
      await eventually("the end of the programs of node 3", () => !programs.some(lives));
      await lab.part(3, "silent");
      const started = cluster.starts(3);
      await lab.thaw(3);
      await eventually("the loss of quorum on node 3", () => !cluster.isQuorate(3));
      await sleep(500);
      assertEquals(cluster.starts(3), started);
      await lab.heal(3);
      await cluster.allAreBack();

      const acknowledged = () => {
        for (const client of clients) client.check();
        return clients.reduce((sum, { count }) => sum + count, 0);
      };
      /** Plays one round. Returns false if the machine itself stalled and so disturbed the other nodes. */
      const play = async (round: number): Promise<boolean> => {
        const all = disturbances(lab);
        const kind = all[round % all.length]!;
        const node = cluster.nodes[(round + Math.floor(round / 3)) % 3]!;
        const others = cluster.nodes.filter((each) => each !== node);
        const title = `round ${round}, ${kind.name} of node ${node}`;
        const victims = cluster.active(node);
        const unknowns = cluster.unknowns(node);
        const before = others.map((each) => cluster.active(each));
        const stalls = others.map((each) => cluster.stalls(each));

        const began = performance.now();
        await kind.begin(node);
        let lostAt = performance.now() + (kind.lossMs ?? 0);
        if (kind.lossMs === undefined) {
          await eventually(`${title}: the loss of quorum`, () => !cluster.isQuorate(node));
          lostAt = performance.now();
        }
        await eventually(`${title}: the end of its programs`, () => !victims.some(lives));
        const lateMs = performance.now() - lostAt;
        assert(
          lateMs < timeInterval + toleranceMs,
          `${title}: the programs ran ${lateMs} ms after the loss`,
        );

        const sofar = acknowledged();
        await eventually(
          `${title}: increments on the other nodes`,
          () => acknowledged() > sofar + 5,
        );
        const after = others.map((each) => cluster.active(each));
        const isCalm = `${others.map((each) => cluster.stalls(each))}` === `${stalls}`;
        if (isCalm) assertEquals(after, before, `${title}: the other nodes were disturbed`);
        if (kind.lossMs !== undefined) {
          // The counter ends with its connection. Its server may notice the end of the daemon some time later.
          const isReported = (count: number, program: number) => count > unknowns[program]!;
          await eventually(`${title}: the reports`, () => cluster.unknowns(node).every(isReported));
        }
        await kind.end(node);
        await cluster.allAreBack();
        const took = performance.now() - began;
        // Output in each round shows that a leg with many rounds does not hang.
        console.log(`${title}: ended ${ms(lateMs)} after the loss, all back after ${ms(took)}`);
        return isCalm;
      };
      for (let round = firstRound; round < firstRound + rounds; round++) {
        for (let tries = 1; !await play(round); tries++) {
          assert(tries < 3, `round ${round}: the other nodes were disturbed ${tries} times`);
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
      throw error; // printed last, so that the end of the output has the reason
    } finally {
      for (const client of clients) client.abort();
      await lab.close();
    }
  },
  { timeoutMs: 60_000 + rounds * 15_000, skip: labMissing() ?? false, leg: "deno" },
);
