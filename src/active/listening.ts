/** The addresses on which the program listens, as its preload sees them, and the servers that can finish their requests. */
import type { ActiveProcess } from "./active_process.ts";
import type { Signal } from "../core/signals.ts";
import type { ServedServer } from "../runtime/served_requests.ts";

/** The sockets of a program, as far as its preload knows them. */
export class Listening {
  readonly #servers: ServedServer[] = [];
  #mustListen: boolean;
  #sam: ActiveProcess | null = null;

  /** `mustListen`: the program must listen on a socket of the server before it counts as started. */
  constructor(mustListen: boolean) {
    this.#mustListen = mustListen;
  }

  /** True if the program may count as started. */
  get isDone(): boolean {
    return !this.#mustListen;
  }

  /** Takes the registered process, which reports the addresses to the server. */
  report(sam: ActiveProcess): void {
    this.#sam = sam;
    sam.onDrain = (signal) => void this.#drain(signal);
  }

  /** Notes that the program listens. */
  readonly note = (address: string, isHeld: boolean, server: ServedServer | null): void => {
    if (isHeld) this.#mustListen = false;
    if (server !== null) this.#servers.push(server);
    this.#sam?.reportListening({ address, isHeld, drains: server !== null });
  };

  async #drain(signal: Signal): Promise<void> {
    const { endBySignal } = await import("../runtime/served_requests.ts");
    await endBySignal(signal, this.#servers);
  }
}
