/**
 * A place for calls that block, on Node and Bun: a worker. Its owner wakes it by an eventfd. A worker that is blocked in C
 * cannot be ended, and Node waits for its workers before it exits: then the process is ended at once.
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

/** The time in which a worker that is not blocked ends when it is to. */
const endMs = 200;

type Said = { readonly message: unknown } | { readonly wakeBy: number };
interface Given {
  readonly port: Workers.MessagePort;
  /** 1 as soon as the body has ended. */
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
  const given: Given = { port: port2, ended };
  // The flags of this process are not for a worker (`--test` …).
  const worker = new Worker(url, { workerData: given, transferList: [port2], execArgv: [] });
  let descriptor = -1;
  let owed = 0n;
  const add = (count: bigint) => {
    if (descriptor < 0) owed += count;
    else fs().writeSync(descriptor, new Uint8Array(BigUint64Array.of(count).buffer));
  };
  port.on("message", (said: Said) => {
    if ("message" in said) return sink.message(said.message);
    descriptor = said.wakeBy;
    if (owed > 0n) add(owed);
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

/** The other side: runs `body` in the worker that this is. */
export async function runInWorker(body: ThreadBody): Promise<void> {
  const { workerData, receiveMessageOnPort } = workers();
  const { port, ended } = workerData as Given;
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
