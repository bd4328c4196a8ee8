// The replicas of examples/cluster, without a cluster: cuts, losses and restarts at random moments, a thousand in a second.
import { assert, assertEquals } from "@std/assert";
import { Replica } from "../../examples/cluster/replica.ts";
import { test } from "../support/harness.ts";

const nodes = [1, 2, 3];

/** A small generator of numbers from 0 to below `limit`, the same for the same seed. */
function numbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * limit);
  };
}

type Event =
  | { readonly from: number; readonly bytes: Uint8Array }
  | { readonly members: readonly number[]; readonly someCame: boolean };

/**
 * Three replicas in a group: those that are together get the same messages in the same order, and changes of membership at the
 * same place. A message that is under way when the network is cut stays on its sender's side.
 */
class World {
  readonly replicas = new Map<number, Replica>();
  /** What a node has stored outlives its replica. */
  readonly #stored = new Map<number, Uint8Array>();
  readonly #underWay: { readonly from: number; readonly bytes: Uint8Array }[] = [];
  readonly #inboxes = new Map<number, Event[]>(nodes.map((node) => [node, []]));
  /** The node that is alone, or 0. */
  #alone = 0;

  constructor() {
    for (const node of nodes) this.restart(node);
  }

  #side(node: number): number[] {
    return nodes.filter((each) => (each === this.#alone) === (node === this.#alone));
  }

  /** A node's replica dies; a new one joins, with what the old one has stored. */
  restart(node: number): void {
    const others = this.#side(node).filter((each) => each !== node);
    for (const each of others) this.#tell(each, others, false);
    this.#inboxes.set(node, []);
    this.replicas.set(
      node,
      new Replica({
        nodeId: node,
        nodes: nodes.length,
        send: (bytes) => {
          this.#underWay.push({ from: node, bytes });
          return Promise.resolve();
        },
        store: (bytes) => {
          this.#stored.set(node, bytes);
          return Promise.resolve();
        },
        stored: this.#stored.get(node) ?? new Uint8Array(0),
      }),
    );
    for (const each of this.#side(node)) this.#tell(each, this.#side(node), true);
  }

  /** Cuts a node off from the two others, or (0) joins all. */
  cut(alone: number): void {
    const before = new Map(nodes.map((node) => [node, this.#side(node)]));
    this.#alone = alone;
    for (const node of nodes) {
      const now = this.#side(node);
      const stay = now.filter((each) => before.get(node)!.includes(each));
      if (stay.length < before.get(node)!.length) this.#tell(node, stay, false);
      if (stay.length < now.length) this.#tell(node, now, true);
    }
  }

  #tell(node: number, members: readonly number[], someCame: boolean): void {
    this.#inboxes.get(node)!.push({ members, someCame });
  }

  /** The network delivers one message. */
  deliver(): boolean {
    const next = this.#underWay.shift();
    if (next) { for (const node of this.#side(next.from)) this.#inboxes.get(node)!.push(next); }
    return next !== undefined;
  }

  /** A replica takes its next event. */
  take(node: number): boolean {
    const next = this.#inboxes.get(node)!.shift();
    const replica = this.replicas.get(node)!;
    if (next && "from" in next) replica.message(next.from, next.bytes);
    else if (next) void replica.members(next.members, next.someCame);
    return next !== undefined;
  }

  /** All that is under way arrives, and these replicas take it. */
  async settle(some: readonly number[]): Promise<void> {
    for (let idle = 0; idle < 20;) {
      const busy = [this.deliver(), ...some.map((node) => this.take(node))].includes(true);
      idle = busy ? 0 : idle + 1;
      await Promise.resolve();
    }
  }
}

test("replicas: a node that is behind does not refuse what is new to it", async () => {
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

test("replicas: no acknowledged increment is lost or doubled, whatever is cut off, lost or restarted", async () => {
  let acknowledged = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const random = numbers(seed);
    const world = new World();
    const clients = [1, 2].map((id) => ({ name: `c${id}`, seq: 1, sum: 0, busy: false }));
    const step = async () => {
      const node = nodes[random(3)]!;
      const what = random(40);
      if (what === 0) world.cut(random(4));
      else if (what === 1) world.restart(node);
      else if (what < 8) {
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
      } else if (what < 18) world.deliver();
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
    // What was not acknowledged may be there, once.
    const sums = clients.reduce(
      (sums, { seq, sum }) => sums.flatMap((each) => [each + sum, each + sum + seq % 5 + 1]),
      [0],
    );
    for (const node of nodes) {
      const { ready, value } = world.replicas.get(node)!;
      assert(ready, `seed ${seed}: node ${node} knows what the others know`);
      assert(sums.includes(value), `seed ${seed}: node ${node} has ${value}, not one of ${sums}`);
    }
    const values = nodes.map((node) => world.replicas.get(node)!.value);
    assertEquals(values, [values[0]!, values[0]!, values[0]!], `seed ${seed}`);
  }
  assert(acknowledged > 20, `${acknowledged} increments were acknowledged`);
});
