/**
 * Threads for blocking calls on Deno. Deno runs each blocking call on a thread of its own, so the code itself can run
 * here.
 */
import { denoNative } from "./c_library_deno.ts";
import {
  endIncrement,
  messageIncrement,
  type Thread,
  type ThreadBody,
  type ThreadSink,
} from "./blocking_thread.ts";

/** Runs `body` on the owner's event loop. */
export function runOnOwnLoop(body: ThreadBody, sink: ThreadSink): Thread {
  const libc = denoNative().open("libc.so.6", {
    malloc: { parameters: ["u64"], result: "u64" },
    free: { parameters: ["u64"], result: "void" },
    write: { parameters: ["i32", "u64", "u64"], result: "u64" },
    close: { parameters: ["i32"], result: "i32" },
  });
  const { malloc, free, write, close } = libc.functions;
  const value = malloc(8n) as bigint;
  const bytes = new BigUint64Array(denoNative().view(value, 8));
  const messages: unknown[] = [];
  let descriptor = -1;
  let unsent = 0n;
  let ended = false;
  const add = (count: bigint) => {
    if (descriptor < 0) unsent += count;
    else if (!ended) {
      bytes[0] = count;
      write(descriptor, value, 8n);
    }
  };
  const end = (error?: unknown) => {
    ended = true;
    if (descriptor >= 0) close(descriptor);
    free(value);
    libc.close();
    sink.ended(error);
  };
  const port = {
    receive: () => messages.shift(),
    post: (message: unknown) => sink.message(message),
    wakeBy(given: number) {
      descriptor = given;
      if (unsent > 0n) add(unsent);
    },
  };
  // Later, so that the owner has its `Thread` before the first message.
  queueMicrotask(() => body(port).then(() => end(), end));
  return {
    post(message) {
      messages.push(message);
      add(messageIncrement);
    },
    end: () => add(endIncrement),
    hold() {},
  };
}
