// The replicas of examples/cluster in a simulated group, with network cuts, lost messages and restarts at random moments.
import { assert, assertEquals } from "@std/assert";
import { Replica } from "../../examples/cluster/replica.ts";
import { test } from "../support/harness.ts";

const nodes = [1, 2, 3];

/** Returns a generator of random integers from 0 to `limit` - 1. The same seed gives the same sequence. */
function randomIntegers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * limit);
  };
}

type Event =
  | { readonly from: number; readonly bytes: Uint8Array }
  | { readonly members: readonly number[]; readonly someJoined: boolean };

/**
 * A group of three replicas. Replicas that are connected receive the same messages and changes of membership in the same
 * order. A message that is in transit when the network is cut stays on its sender's side.
 */
class World {
  readonly replicas = new Map<number, Replica>();
  /** The data that each node has stored. It survives the replica. */
  readonly #stored = new Map<number, Uint8Array>();
  readonly #inTransit: { readonly from: number; readonly bytes: Uint8Array }[] = [];
  readonly #inboxes = new Map<number, Event[]>(nodes.map((node) => [node, []]));
  /** The node that is cut off, or 0. */
  #alone = 0;

  constructor() {
    for (const node of nodes) this.restart(node);
  }

  #side(node: number): number[] {
    return nodes.filter((each) => (each === this.#alone) === (node === this.#alone));
  }

  /** Ends the replica of a node. A new replica joins with the data that the old one has stored. */
  restart(node: number): void {
    const others = this.#side(node).filter((each) => each !== node);
    for (const each of others) this.#notify(each, others, false);
    this.#inboxes.set(node, []);
    this.replicas.set(
      node,
      new Replica({
        nodeId: node,
        nodes: nodes.length,
        send: (bytes) => {
          this.#inTransit.push({ from: node, bytes });
          return Promise.resolve();
        },
        store: (bytes) => {
          this.#stored.set(node, bytes);
          return Promise.resolve();
        },
        stored: this.#stored.get(node) ?? new Uint8Array(0),
      }),
    );
    for (const each of this.#side(node)) this.#notify(each, this.#side(node), true);
  }

  /** Cuts a node off from the two others. With 0, connects all nodes. */
  cut(alone: number): void {
    const before = new Map(nodes.map((node) => [node, this.#side(node)]));
    this.#alone = alone;
    for (const node of nodes) {
      const now = this.#side(node);
      const stay = now.filter((each) => before.get(node)!.includes(each));
      if (stay.length < before.get(node)!.length) this.#notify(node, stay, false);
      if (stay.length < now.length) this.#notify(node, now, true);
    }
  }

  #notify(node: number, members: readonly number[], someJoined: boolean): void {
    this.#inboxes.get(node)!.push({ members, someJoined });
  }

  /** Delivers one message. Returns false if none is in transit. */
  deliver(): boolean {
    const next = this.#inTransit.shift();
    if (next) { for (const node of this.#side(next.from)) this.#inboxes.get(node)!.push(next); }
    return next !== undefined;
  }

  /** Lets a replica handle its next event. Returns false if there is none. */
  take(node: number): boolean {
    const next = this.#inboxes.get(node)!.shift();
    const replica = this.replicas.get(node)!;
    if (next && "from" in next) replica.message(next.from, next.bytes);
    else if (next) void replica.members(next.members, next.someJoined);
    return next !== undefined;
  }

  /** Delivers all messages, and lets these replicas handle all their events. */
  async settle(some: readonly number[]): Promise<void> {
    for (let idle = 0; idle < 20;) {
      const busy = [this.deliver(), ...some.map((node) => this.take(node))].includes(true);
      idle = busy ? 0 : idle + 1;
      await Promise.resolve();
    }
  }
}

test("replicas: a node that is behind answers unknown to a later request, and done when it has caught up", async () => {
  const world = new World();
  await world.settle(nodes);
  const add = (node: number, seq: number) => world.replicas.get(node)!.add("c", seq, 1, 1000);
  const first = add(1, 1);
  await world.settle([1, 2]);
  assertEquals(await first, "done");
  assertEquals(await add(3, 2), "unknown");
  await world.settle([3]);
  const second = add(3, 2);
  await world.settle(nodes);
  assertEquals(await second, "done");
});

test("replicas: no acknowledged increment is lost or doubled through cuts, losses and restarts", async () => {
  let acknowledged = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const random = randomIntegers(seed);
    const world = new World();
    const clients = [1, 2].map((id) => ({ name: `c${id}`, seq: 1, sum: 0, busy: false }));
    const step = async () => {
      const node = nodes[random(3)]!;
      const action = random(40);
      if (action === 0) world.cut(random(4));
      else if (action === 1) world.restart(node);
      else if (action < 8) {
        const client = clients[random(2)]!;
        if (client.busy) return;
        client.busy = true;
        const { seq } = client;
        void world.replicas.get(node)!.add(client.name, seq, seq % 5 + 1, 5).then((outcome) => {
          client.busy = false;
          if (outcome !== "done") return;
          client.seq++;
          client.sum += seq % 5 + 1;
          acknowledged++;
        });
      } else if (action < 18) world.deliver();
      else world.take(node);
      await Promise.resolve();
    };
    for (let at = 0; at < 1500; at++) {
      await step();
      if (at % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    world.cut(0);
    await world.settle(nodes);
    for (const client of clients) {
      while (client.busy) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    // Each client may have one increment without acknowledgment, which counts at most once.
    const sums = clients.reduce(
      (sums, { seq, sum }) => sums.flatMap((each) => [each + sum, each + sum + seq % 5 + 1]),
      [0],
    );
    for (const node of nodes) {
      const { ready, value } = world.replicas.get(node)!;
      assert(ready, `seed ${seed}: node ${node} is not ready`);
      assert(
        sums.includes(value),
        `seed ${seed}: node ${node} has the value ${value}, which is not one of ${sums}`,
      );
    }
    const values = nodes.map((node) => world.replicas.get(node)!.value);
    assertEquals(values, [values[0]!, values[0]!, values[0]!], `seed ${seed}`);
  }
  assert(acknowledged > 20, `only ${acknowledged} increments were acknowledged`);
});
