/** A transport inside one process, for tests. The test controls delays and lost heartbeats. */
import { SamError } from "../src/errors.ts";
import type { Endpoint, Link, LinkSink, Transport } from "./transport.ts";

/** The delays and losses of a memory transport. */
export interface MemoryOptions {
  /**
   * Delays a delivery: must call `deliver` later. Deliveries with equal delays must keep the order in which they were
   * scheduled. Default: every delivery happens at once.
   */
  readonly schedule?: (deliver: () => void) => void;
  /** Called for each heartbeat. Return true to lose it. Default: no heartbeat is lost. */
  readonly loseHeartbeat?: () => boolean;
}

class MemoryLink implements Link {
  peer!: MemoryLink;
  readonly #options: MemoryOptions;
  #sink: LinkSink | null = null;
  #early: ((sink: LinkSink) => void)[] = [];
  #open = true;
  #hasEnded = false;

  constructor(options: MemoryOptions) {
    this.#options = options;
  }

  heartbeat(): void {
    if (!this.#options.loseHeartbeat?.()) this.#carry((sink) => sink.heartbeat());
  }

  send(frame: Uint8Array): void {
    const copy = frame.slice();
    this.#carry((sink) => sink.frame(copy));
  }

  receive(sink: LinkSink | null): void {
    this.#sink = sink;
    if (sink) { for (const arrival of this.#early.splice(0)) this.#arrive(arrival); }
  }

  hold(): void {}

  close(): void {
    if (!this.#open) return;
    this.#arriveLast("this side closed the connection");
    (this.#options.schedule ?? ((deliver) => deliver()))(() => this.peer.#end());
  }

  #end(): void {
    if (!this.#open) return;
    this.#arriveLast("the other side closed the connection");
  }

  #carry(arrival: (sink: LinkSink) => void): void {
    if (!this.#open) return;
    const deliver = () => {
      if (this.peer.#open) this.peer.#arrive(arrival);
    };
    if (this.#options.schedule) this.#options.schedule(deliver);
    else deliver();
  }

  #arrive(arrival: (sink: LinkSink) => void): void {
    if (!this.#sink) this.#early.push(arrival);
    else if (!this.#hasEnded) arrival(this.#sink);
  }

  #arriveLast(detail: string): void {
    this.#open = false;
    this.#arrive((sink) => {
      this.#hasEnded = true;
      sink.end(detail);
    });
  }
}

/** A transport between two ends in the same process. */
export interface MemoryTransport extends Transport {
  /** Opens the server's side for one instance. */
  open(): Promise<Endpoint>;
  /** Connects to the endpoint at `address`. Rejects with LIBRARY if no endpoint is open there. */
  connect(address: string): Promise<Link>;
}

/** Creates a transport that has both ends in this process. Use it to test without processes. */
export function memoryTransport(options: MemoryOptions = {}): MemoryTransport {
  const waiting = new Map<string, (link: Link) => void>();
  let count = 0;
  return {
    name: "memory",
    open(): Promise<Endpoint> {
      const address = String(++count);
      let onLink: ((link: Link) => void) | null = null;
      let early: Link | null = null;
      waiting.set(address, (link) => {
        waiting.delete(address);
        if (onLink) onLink(link);
        else early = link;
      });
      return Promise.resolve({
        address,
        accept(_child, whenLinked) {
          if (early) whenLinked(early);
          else onLink = whenLinked;
        },
        close: () => void waiting.delete(address),
      });
    },
    connect(address): Promise<Link> {
      const accept = waiting.get(address);
      if (!accept) {
        return Promise.reject(
          new SamError(
            "LIBRARY",
            `cannot connect to memory address "${address}": no endpoint is open there`,
          ),
        );
      }
      const here = new MemoryLink(options);
      const there = new MemoryLink(options);
      here.peer = there;
      there.peer = here;
      accept(there);
      return Promise.resolve(here);
    },
  };
}
