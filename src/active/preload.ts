/**
 * The preload module. The runtime loads it before a program that does not use SAM itself (`--import`, `--preload`). It registers
 * the process, so that SAM watches its event loop. In a process that no server started, such as a worker thread, it does nothing.
 * @module
 */
import { launch, removePreloadFlag } from "../runtime/launch.ts";

removePreloadFlag(import.meta.url);
if (launch.link !== undefined || launch.denied !== undefined) {
  await (await import("./auto_register.ts")).attach();
}
