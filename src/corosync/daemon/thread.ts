/** The worker in which Node and Bun run the loop that talks to Corosync. */
import { runInWorker } from "../ffi/thread_worker.ts";
import { serveCorosync } from "./corosync_loop.ts";

await runInWorker(serveCorosync);
