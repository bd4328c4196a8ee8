/** The addresses on which the program listens, as its preload sees them, and the servers that can finish their requests. */
import type { ActiveProcess } from "./active_process.ts";
import type { Signal } from "../core/signals.ts";
import type { DeferredAccept } from "../runtime/deferred_accept.ts";
import type { ListenSink } from "../runtime/inherited_sockets.ts";
import type { ServedServer } from "../runtime/served_requests.ts";

/** The sockets of a program, as far as its preload knows them. */
export class Listening {
  readonly #servers: ServedServer[] = [];
  readonly #deferred: DeferredAccept | null;
  #mustListen: boolean;
  #sam: ActiveProcess | null = null;

  /**
   * `mustListen`: the program must listen on a socket of the server before it counts as started. `deferred`: it accepts
   * connections only when the server tells it to.
   */
  constructor(mustListen: boolean, deferred: DeferredAccept | null) {
    this.#mustListen = mustListen;
    this.#deferred = deferred;
  }

  /** True if the program may count as started. */
  get isDone(): boolean {
    return !this.#mustListen;
  }

  /** Takes the registered process, which reports the addresses to the server. */
  report(sam: ActiveProcess): void {
    this.#sam = sam;
    sam.onDrain = (signal) => void this.#drain(signal);
    sam.onAccept = () => this.accept();
  }

  /** Accepts connections from now on. */
  accept(): void {
    this.#deferred?.end();
  }

  /** Notes that the program listens. */
  readonly note: ListenSink["listens"] = (address, isHeld, server, checkPort) => {
    if (isHeld) this.#mustListen = false;
    if (server !== null) this.#servers.push(server);
    this.#sam?.report({
      type: "listens",
      address,
      isHeld,
      drains: server !== null,
      checkPort,
    });
  };

  async #drain(signal: Signal): Promise<void> {
    const { endBySignal } = await import("../runtime/served_requests.ts");
    await endBySignal(signal, this.#servers);
  }
}
