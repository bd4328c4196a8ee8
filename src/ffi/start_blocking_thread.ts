/** Starts a thread for blocking calls on any runtime. */
import { runtimeName } from "../runtime/load.ts";
import type { Thread, ThreadBody, ThreadSink } from "./blocking_thread.ts";

/** Starts the module at `url` as a worker. On Deno, which needs no worker, runs the body that `load` returns. */
export async function startThread(
  url: URL,
  load: () => Promise<ThreadBody>,
  sink: ThreadSink,
): Promise<Thread> {
  if (runtimeName() === "deno") {
    return (await import("./blocking_thread_deno.ts")).runOnOwnLoop(await load(), sink);
  }
  return (await import("./blocking_thread_worker.ts")).startWorker(url, sink);
}
