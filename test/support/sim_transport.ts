// The memory transport in a simulated world. Messages take time; heartbeats get lost, do not wake the server, or are
// left out while the server does not read; data is left without a message; endpoints fail to open or to accept. It
// knows what is still open.

import { decodeClient } from "../../src/core/wire.ts";
import { type MemoryTransport, memoryTransport } from "../../transports/memory.ts";
import type { Endpoint, Link, Transport } from "../../transports/transport.ts";
import type { World } from "./sim_world.ts";

/** An arrival at the server's end, as the judge sees it. */
export type Sign = "heartbeat" | "check begins" | "healthy" | "unhealthy" | "mark failed" | null;

/** The two ends of one link, and the messages between them in order. */
class Wire {
  readonly id: number;
  readonly #world: World;
  /** The subject of the next call of `carry`. */
  #sign: Sign = null;
  #up = false;
  #last = { up: 0, down: 0 };
  readonly #toServer: (() => void)[] = [];
  #heartbeats = 0;
  /** Number of heartbeats that the server has not read yet. */
  #unread = 0;
  #kept: Uint8Array | null = null;

  constructor(world: World, id: number) {
    this.#world = world;
    this.id = id;
  }

  /** Calls `deliver` later, after everything that went the same way before. */
  carry(deliver: () => void): void {
    const { clock, dice, plan } = this.#world;
    const way = this.#up ? "up" : "down";
    const at = Math.max(this.#last[way], this.#world.now + dice.number() * plan.maxDelay);
    this.#last[way] = at;
    if (way === "down") return void clock.at(at, deliver);
    const sign = this.#sign;
    if (sign === "heartbeat") this.#unread++;
    clock.at(at, () => {
      this.#world.arrived(this.id, sign);
      this.#toServer.push(() => {
        if (sign === "heartbeat") this.#unread--;
        deliver();
      });
      this.#world.toServer(at, () => this.#toServer.shift()!());
    });
  }

  /** The active side's end. */
  active(link: Link): Link {
    const { plan } = this.#world;
    const up = (sign: Sign, act: () => void) => {
      [this.#up, this.#sign] = [true, sign];
      act();
    };
    const beat = () => {
      if (this.#unread < plan.room) up("heartbeat", () => link.heartbeat());
    };
    return {
      ...bound(link),
      heartbeat: () => {
        if (!plan.sampled) return beat();
        this.#heartbeats++;
        this.#world.arrived(this.id, "heartbeat");
      },
      confirm: beat,
      send: (frame) => up(signOf(frame), () => link.send(frame)),
      close: () => up(null, () => link.close()),
      ...(plan.keeps && { storeData: (bytes: Uint8Array) => void (this.#kept = bytes.slice()) }),
    };
  }

  /** The server's end. */
  server(link: Link): Link {
    const { plan, transport } = this.#world;
    const down = (act: () => void) => {
      this.#up = false;
      act();
    };
    transport.links.add(this.id);
    transport.closers.push(() => {
      link.receive(null); // nothing reaches the server any more
      down(() => link.close());
    });
    return {
      ...bound(link),
      receive: (sink) =>
        link.receive(
          sink && {
            heartbeat: () => sink.heartbeat(),
            frame: (frame) => sink.frame(frame),
            end: (detail) => {
              transport.links.delete(this.id);
              sink.end(detail);
            },
          },
        ),
      send: (frame) => down(() => link.send(frame)),
      close: () =>
        down(() => {
          transport.links.delete(this.id);
          link.close();
        }),
      ...(plan.sampled && { sample: () => this.#heartbeats }),
      ...(plan.keeps && {
        storedData: () => {
          const bytes = this.#kept;
          return bytes ? { size: bytes.length, read: () => bytes } : undefined;
        },
      }),
    };
  }
}

function bound(link: Link): Link {
  return {
    heartbeat: () => link.heartbeat(),
    send: (frame) => link.send(frame),
    receive: (sink) => link.receive(sink),
    hold: (on) => link.hold(on),
    close: () => link.close(),
  };
}

function signOf(frame: Uint8Array): Sign {
  const message = decodeClient(frame);
  switch (message.type) {
    case "checkBegin":
      return "check begins";
    case "checkEnd":
      return message.healthy ? "healthy" : "unhealthy";
    case "markFailed":
      return "mark failed";
    default:
      return null;
  }
}

/** The transport of one world. */
export class SimulatedTransport implements Transport {
  readonly name = "memory";
  readonly sampled: boolean;
  /** The endpoints that the server has not closed. */
  readonly endpoints: Set<number> = new Set();
  readonly links: Set<number> = new Set();
  /** Functions that close the server's ends of all links, as the kernel does. */
  readonly closers: (() => void)[] = [];
  readonly #world: World;
  readonly #ends: {
    readonly wire: Wire;
    readonly memory: MemoryTransport;
    readonly address: string;
  }[] = [];
  #wires = 0;

  constructor(world: World) {
    this.#world = world;
    this.sampled = world.plan.sampled;
  }

  async open(): Promise<Endpoint> {
    const { dice, plan } = this.#world;
    if (dice.number() < plan.openFails) throw new Error("no endpoint");
    const wire = new Wire(this.#world, this.#wires++);
    const memory = memoryTransport({
      schedule: (deliver) => wire.carry(deliver),
      loseHeartbeat: () => dice.number() < plan.loss,
    });
    const endpoint = await memory.open();
    this.#ends[wire.id] = { wire, memory, address: endpoint.address as string };
    this.endpoints.add(wire.id);
    this.closers.push(() => endpoint.close());
    return {
      address: String(wire.id),
      accept: (child, onLink) => {
        if (dice.number() < plan.acceptFails) {
          this.#world.notAccepted(wire.id);
          throw new Error("not accepted");
        }
        endpoint.accept(child, (link) => onLink(wire.server(link)));
      },
      close: () => {
        this.endpoints.delete(wire.id);
        endpoint.close();
      },
    };
  }

  async connect(address: string): Promise<Link> {
    const { wire, memory, address: inner } = this.#ends[Number(address)]!;
    return wire.active(await memory.connect(inner));
  }
}
