/**
 * The preload module. The runtime loads it before a program that does not use SAM itself (`--import`, `--preload`, or on Node by
 * preload_node.cts with `--require`). It registers the process, so that SAM watches its event loop. In a worker thread, and in a
 * process that no server started, it does nothing.
 * @module
 */
import { launch, removePreloadFlag } from "../runtime/launch.ts";

removePreloadFlag(import.meta.url);
// If SAM_LINK could not be read, attach() reports the error.
if (launch.link !== undefined || launch.linkError !== undefined) {
  await (await import("./auto_register.ts")).attach();
}
