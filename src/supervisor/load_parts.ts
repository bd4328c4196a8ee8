/** Loads what a SAM server needs. Static imports would load it in each instance, too, which imports `supervise()`. */
import { loadTransport } from "../../transports/builtin.ts";
import type { Transport } from "../../transports/transport.ts";
import type { SupervisorEvent } from "../api/events.ts";
import type { Log } from "../api/options.ts";
import type { CheckedProgram } from "../api/program.ts";
import type { CheckedSuperviseOptions } from "../api/supervise_options.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** Loads the logger of one program. */
export function loadLogger(
  log: Log,
  { name }: CheckedProgram,
): (event: SupervisorEvent) => Promise<void> {
  const loading = Promise.all([import("./log.ts"), loadRuntime()])
    .then(([{ Lines, logger }, runtime]) => {
      const lines = new Lines(runtime);
      const write = logger(log, name, { name, prefix: `${name}: ` }, lines.write);
      return (event: SupervisorEvent) => {
        write(event);
        return event.type === "finish" ? lines.written() : undefined;
      };
    })
    .catch((error) => {
      // For example, no file descriptor was left to open the module.
      console.error(`sam: cannot log the events of ${name}: ${error.message}`);
      return () => {};
    });
  return (event) => loading.then((write) => write(event));
}

/** A function that loads the parts of a SAM server. The simulation has one of its own. */
export type LoadParts = (options: CheckedSuperviseOptions) => Promise<
  [Runtime, typeof import("./driver.ts"), Transport, typeof import("./health_check.ts") | undefined]
>;
/** Loads the parts of a SAM server. */
export const loadParts: LoadParts = ({ transport, check }) =>
  Promise.all([
    loadRuntime(),
    import("./driver.ts"),
    loadTransport(transport),
    check && import("./health_check.ts"),
  ]);
