/**
 * Threads for blocking calls on Node and Bun: a worker that its owner wakes through an eventfd. A worker cannot be
 * ended while it is blocked in C, and Node waits for its workers at exit. So if the worker does not end in time,
 * `_exit()` ends the process.
 */
import type * as Workers from "node:worker_threads";
import { fs, onExit, process } from "../runtime/node_api.ts";
import { runtimeName } from "../runtime/load.ts";
import { nodeNative } from "./c_library_node.ts";
import {
  endIncrement,
  messageIncrement,
  type Thread,
  type ThreadBody,
  type ThreadSink,
} from "./blocking_thread.ts";

/** Milliseconds within which a worker that is not blocked ends. */
const endMs = 200;

type FromWorker = { readonly message: unknown } | { readonly wakeBy: number };
interface WorkerInput {
  readonly port: Workers.MessagePort;
  /** 1 once the body has ended. */
  readonly ended: Int32Array<SharedArrayBuffer>;
}

function workers(): typeof Workers {
  return process.getBuiltinModule("node:worker_threads") as typeof Workers;
}

/** Starts the module at `url`, which calls `runInWorker`. */
export function startWorker(url: URL, sink: ThreadSink): Thread {
  const { Worker, MessageChannel } = workers();
  const { port1: port, port2 } = new MessageChannel();
  const ended = new Int32Array(new SharedArrayBuffer(4));
  const input: WorkerInput = { port: port2, ended };
  // Without this process's flags: some, such as `--test`, do not apply to a worker.
  const worker = new Worker(url, { workerData: input, transferList: [port2], execArgv: [] });
  let descriptor = -1;
  let unsent = 0n;
  const add = (count: bigint) => {
    if (descriptor < 0) unsent += count;
    else fs().writeSync(descriptor, new Uint8Array(BigUint64Array.of(count).buffer));
  };
  port.on("message", (sent: FromWorker) => {
    if ("message" in sent) return sink.message(sent.message);
    descriptor = sent.wakeBy;
    if (unsent > 0n) add(unsent);
  });
  let failure: unknown;
  worker.on("error", (error) => failure = error);
  worker.on("exit", () => {
    cancel();
    port.close();
    if (descriptor >= 0) fs().closeSync(descriptor);
    descriptor = -1;
    sink.ended(failure);
  });
  const cancel = onExit((code) => {
    add(endIncrement);
    if (runtimeName() === "bun" || Atomics.wait(ended, 0, 0, endMs) !== "timed-out") return;
    nodeNative().open("libc.so.6", { _exit: { parameters: ["i32"], result: "void" } })
      .functions._exit(code);
  });
  const hold = (on: boolean) => {
    if (on) {
      worker.ref();
      port.ref();
    } else {
      worker.unref();
      port.unref();
    }
  };
  return {
    post(message) {
      port.postMessage(message);
      add(messageIncrement);
    },
    end: () => add(endIncrement),
    hold,
  };
}

/** Runs `body` in the current worker, which `startWorker` has started. */
export async function runInWorker(body: ThreadBody): Promise<void> {
  const { workerData, receiveMessageOnPort } = workers();
  const { port, ended } = workerData as WorkerInput;
  try {
    await body({
      receive: () => receiveMessageOnPort(port)?.message,
      post: (message) => port.postMessage({ message }),
      wakeBy: (descriptor) => port.postMessage({ wakeBy: descriptor }),
    });
  } finally {
    Atomics.store(ended, 0, 1);
    Atomics.notify(ended, 0);
    port.close();
  }
}
