/** Registers a worker of node:cluster, so that SAM watches its event loop. Loaded by preload_node.cts in a worker. */
import { connectWorker } from "../../transports/private_socket.ts";
import type { Link } from "../../transports/transport.ts";
import { checkOptions } from "../api/options.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { ActiveProcess } from "./active_process.ts";
import { startOnceLoaded } from "./auto_register.ts";

/** Milliseconds between two attempts to connect: twice as many after each, between these limits. */
const retryMs = { least: 10, most: 1000 };
/** Time limit for the connection, in milliseconds. */
const connectMs = 60_000;

/** Registers this process at the address that the primary process of node:cluster has made. A worker that fails is not watched. */
export async function attach(address: string): Promise<void> {
  try {
    const runtime = await loadRuntime();
    const options = checkOptions({ timeInterval: 0, recoveryPolicy: "restart" }); // replaced by the server's
    const sam = new ActiveProcess(runtime, options, {
      transport: "unix",
      connect: async () => ({ link: await connect(runtime, address), lastId: 0 }),
    });
    await sam.register();
    startOnceLoaded(sam, runtime, null);
  } catch {
    // The server has ended, watches no further workers, or has another version.
  }
}

/** Connects as soon as the server listens. It has got the key of this process, but may not have had the time. */
async function connect(runtime: Runtime, address: string): Promise<Link> {
  const until = runtime.now() + connectMs;
  for (let ms = retryMs.least;; ms = Math.min(2 * ms, retryMs.most)) {
    try {
      return await connectWorker(runtime, address);
    } catch (error) {
      if (runtime.now() > until) throw error;
    }
    await new Promise<void>((resolve) => runtime.schedule(resolve, ms, false));
  }
}
