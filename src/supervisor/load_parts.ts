/** Loads the parts of a SAM server. Static imports would load them in each instance, too, which imports `supervise()`. */
import { loadTransport } from "../../transports/builtin.ts";
import type { Transport } from "../../transports/transport.ts";
import type { CheckedSuperviseOptions } from "../api/supervise_options.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Runtime } from "../runtime/runtime.ts";

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
