/**
 * The preload module. The runtime loads it before a program that does not use SAM itself (`--import`, `--preload`, or on Node by
 * preload_node.cts with `--require`). It registers the process, so that SAM watches its event loop. In a worker thread, and in a
 * process that no server started, it does nothing.
 * @module
 */
import type { Listening } from "./listening.ts";
import { launch, removePreloadFlag } from "../runtime/launch.ts";
import { runtimeName } from "../runtime/load.ts";

removePreloadFlag(import.meta.url);
let instanceId: number | null = null;
let listening: Listening | null = null;
if (launch.sockets.length > 0) {
  const { Listening } = await import("./listening.ts");
  const { useInheritedSockets } = await import("../runtime/inherited_sockets.ts");
  const isDeferred = launch.mustListen && runtimeName() === "node";
  const deferred = isDeferred
    ? new (await import("../runtime/deferred_accept.ts")).DeferredAccept()
    : null;
  listening = new Listening(launch.mustListen, deferred);
  await useInheritedSockets(launch.sockets, deferred, {
    say(line) {
      if (instanceId === 1) console.error(`sam: ${line}`); // later instances would only repeat it
    },
    listens: listening.note,
  });
}
// If SAM_LINK could not be read, attach() reports the error.
if (launch.link !== undefined || launch.linkError !== undefined) {
  instanceId = await (await import("./auto_register.ts")).attach(listening);
}
