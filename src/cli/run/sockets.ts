/** Opens the listening sockets of all programs of `sam run`, before any program starts. */
import { type HeldSockets, hold } from "../../supervisor/held_sockets.ts";
import type { FleetProgram } from "../../supervisor/fleet_program.ts";
import { inheritedSockets } from "../../supervisor/own_process/socket_activation.ts";
import type { Runtime } from "../../runtime/runtime.ts";

/**
 * Opens the sockets of the option `listen`. All instances of a program share them. The only program gets the sockets that `sam`
 * has inherited, if it has no option `listen`. Rejects if an address cannot be used; then no socket stays open.
 */
export async function openSockets(
  programs: readonly FleetProgram[],
  runtime: Runtime,
): Promise<readonly FleetProgram[]> {
  const inherited = await inheritedSockets(runtime);
  const services = new Set(programs.map(({ name, service = name }) => service));
  const opened = new Map<string, HeldSockets>();
  try {
    for (const service of services) {
      const { program, options: { listen = [] } } = firstOf(programs, service);
      if (listen.length > 0) opened.set(service, await hold(runtime, program, listen, inherited));
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

/** The first instance of a program. */
function firstOf(programs: readonly FleetProgram[], service: string): FleetProgram {
  return programs.find(({ name, service: own = name }) => own === service)!;
}
