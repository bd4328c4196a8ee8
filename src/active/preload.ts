/**
 * The preload module. The runtime loads it before a program that does not use SAM itself (`--import`, `--preload`). It registers
 * the process, so that SAM watches its event loop. In a process that no server started, such as a worker thread, it does nothing.
 * @module
 */
import { launch, removePreloadFlag } from "../runtime/launch.ts";

removePreloadFlag(import.meta.url);
let instanceId: number | null = null;
if (launch.sockets.length > 0) {
  const { useInheritedSockets } = await import("../runtime/inherited_sockets.ts");
  await useInheritedSockets(launch.sockets, (line) => {
    if (instanceId === 1) console.error(`sam: ${line}`); // later instances would only repeat it
  });
}
if (launch.link !== undefined || launch.denied !== undefined) {
  instanceId = await (await import("./auto_register.ts")).attach();
}
