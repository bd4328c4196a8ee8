/** The worker in which Node and Bun run the loop that talks to Corosync. */
import { runInWorker } from "../../ffi/blocking_thread_worker.ts";
import { serveCorosync } from "./loop.ts";

await runInWorker(serveCorosync);
