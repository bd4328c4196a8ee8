/** Chooses the place for calls that block on this runtime. */
import { runtimeName } from "../runtime/load.ts";
import type { Thread, ThreadBody, ThreadSink } from "./blocking_thread.ts";

/** Runs a body: the one that the module at `url` runs as a worker, or where no worker is needed what `load` gives. */
export async function startThread(
  url: URL,
  load: () => Promise<ThreadBody>,
  sink: ThreadSink,
): Promise<Thread> {
  if (runtimeName() === "deno") {
    return (await import("./blocking_thread_deno.ts")).runHere(await load(), sink);
  }
  return (await import("./blocking_thread_worker.ts")).startWorker(url, sink);
}
