/** The listening sockets of all programs of `sam run`. They are opened before any program starts or changes. */
import type { FleetProgram } from "../../supervisor/fleet_program.ts";
import { type HeldSockets, hold, useOf } from "../../supervisor/held_sockets.ts";
import { inheritedSockets } from "../../supervisor/own_process/socket_activation.ts";
import type { SocketUse } from "../../runtime/socket_calls.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import { includesAddress, type ListenAddress } from "../../api/supervise_options.ts";
import { CommandError } from "../command_line/exit.ts";

/** An open address. */
interface OpenAddress {
  readonly address: ListenAddress;
  readonly held: HeldSockets;
  readonly use: SocketUse;
  /** The number of programs that use the address. During a reload, these may be two versions of one program. */
  users: number;
}

/** The open addresses of one `sam run`. */
export class ListeningSockets {
  readonly #runtime: Runtime;
  readonly #open = new Map<string, OpenAddress>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /**
   * Opens the addresses of the option `listen` that are not open yet. All instances of a program share its sockets, and `held`
   * closes those that no other program uses. The only program gets the sockets that `sam` has inherited, if it has no option
   * `listen`. Rejects if an address cannot be used; then no further socket stays open.
   */
  async addTo(programs: readonly FleetProgram[]): Promise<readonly FleetProgram[]> {
    const inherited = await inheritedSockets(this.#runtime);
    const services = new Set(programs.map(({ name, service = name }) => service));
    const opened = new Map<string, HeldSockets>();
    try {
      for (const service of services) {
        const first = firstOf(programs, service);
        if ((first.options.listen ?? []).length > 0) opened.set(service, await this.#hold(first));
      }
    } catch (error) {
      for (const held of opened.values()) held.close();
      throw error;
    }
    return programs.map((each) => {
      const held = opened.get(each.service ?? each.name);
      const sockets = held?.sockets ?? (services.size === 1 ? inherited : []);
      return { ...each, held, options: { ...each.options, sockets } };
    });
  }

  /** Opens the addresses of one program, or shares those that are open. */
  async #hold({ name, program, options: { listen = [] } }: FleetProgram): Promise<HeldSockets> {
    const use = useOf(this.#runtime, program);
    const used: (readonly [string, OpenAddress])[] = [];
    const close = () => {
      for (const [text, open] of used.splice(0)) {
        if (--open.users > 0) continue;
        this.#open.delete(text);
        open.held.close();
      }
    };
    try {
      for (const address of listen) {
        const { text } = address;
        const obstacle = this.#obstacleOf(address, use);
        if (obstacle !== undefined) {
          throw new CommandError(
            "config",
            `programs.${name}.listen: ${obstacle}, and cannot change that while it runs. ` +
              "Choose another address, or start sam again.",
          );
        }
        let open = this.#open.get(text);
        if (open === undefined) {
          const inherited = await inheritedSockets(this.#runtime);
          const held = await hold(this.#runtime, program, [address], inherited);
          open = { address, held, use, users: 0 };
          this.#open.set(text, open);
        }
        open.users++;
        used.push([text, open]);
      }
    } catch (error) {
      close();
      throw error;
    }
    return { sockets: used.flatMap(([, { held }]) => held.sockets), close };
  }

  /** The reason why an address cannot be opened: it, or a part of it, is open for another use. Undefined if there is none. */
  #obstacleOf(address: ListenAddress, use: SocketUse): string | undefined {
    const { text } = address;
    const open = this.#open.get(text);
    if (open !== undefined) {
      return open.use === use ? undefined : `sam has opened ${text} for another runtime`;
    }
    const other = [...this.#open.values()].find(({ address: other }) =>
      includesAddress(other, address) || includesAddress(address, other)
    );
    return other && `sam has opened ${other.address.text}, which has the same port as ${text}`;
  }
}

/** The first instance of a program. */
function firstOf(programs: readonly FleetProgram[], service: string): FleetProgram {
  return programs.find(({ name, service: own = name }) => own === service)!;
}
