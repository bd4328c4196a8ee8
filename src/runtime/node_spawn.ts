/**
 * Starts processes on Node: with `child_process.fork` for Node programs, else with `spawn`. Only servers load this
 * module.
 */
import type * as ChildProcesses from "node:child_process";
import type * as Net from "node:net";
import type { EndSignal, Signal } from "../core/signals.ts";
import { environment, kill, nodeApi, process } from "./node_api.ts";
import { socketStream } from "./node_stream.ts";
import { passSockets } from "./passed_sockets.ts";
import type { Child, Command, Exit, Output } from "./runtime.ts";
import { spawnError } from "./spawn_error.ts";

/**
 * The file descriptor number of a socket that each process inherits, to detect its end before Node reaps it. Node
 * reports exit code 0 for a process that a real-time signal ended, so the signal must be read from /proc before the
 * process is reaped. Node reads the end of that socket first. Programs seldom use this number, and a Node program does
 * not pass it on.
 */
const endDescriptor = 15;

/** The real-time signal that ended a process that is not reaped yet; undefined for any other end. */
function realTimeSignal(pid: number): EndSignal | undefined {
  const stat = nodeApi.systemText(`/proc/${pid}/stat`);
  const status = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[exitStatusAt];
  const number = Number(status) & 127;
  return number >= leastRealTime ? `SIG${number}` : undefined;
}

/** The index of the field `exit_code` of proc_pid_stat(5), counted from the state. */
const exitStatusAt = 49;
/** The lowest real-time signal of Linux. */
const leastRealTime = 32;

/** Starts a process. */
export async function spawn(
  command: Command,
  link?: (descriptor: number) => Readonly<Record<string, string>>,
): Promise<Child> {
  const forked = command.runtime === "node" && command.module !== undefined;
  const { sockets = [] } = command;
  const descriptor = 3 + sockets.length + (forked ? 1 : 0); // fork's own channel comes before the link
  const env = environment({ ...command.env, ...link?.(descriptor) });
  const line = passSockets(command, env, nodeApi.exists);
  const stdio = [
    ...command.stdio.map((stdio) => stdio === "tee" ? "pipe" : stdio),
    ...sockets.map(({ descriptor }) => descriptor),
    ...(forked ? ["ipc"] : []),
    ...(link ? ["pipe"] : []),
  ] as ("pipe" | "ipc" | "ignore" | number)[];
  while (stdio.length < endDescriptor) stdio.push("ignore");
  const endAt = stdio.push("pipe") - 1;
  const options = { cwd: command.cwd, env: line.env, stdio, detached: command.ownGroup === true };
  const children = process.getBuiltinModule("node:child_process") as typeof ChildProcesses;
  let child: ChildProcesses.ChildProcess;
  try {
    child = forked
      ? children.fork(command.module!, command.args, {
        ...options,
        execPath: line.file,
        execArgv: [...line.flags],
      })
      : children.spawn(line.file, [
        ...line.flags,
        ...(command.module ? [command.module] : []),
        ...command.args,
      ], options);
  } catch (error) {
    throw spawnError(command, error);
  }
  const end = (child.stdio as readonly unknown[] | undefined)?.[endAt] as Net.Socket | undefined;
  let endingSignal: EndSignal | undefined;
  end?.on("end", () => endingSignal = realTimeSignal(child.pid!)).on("error", () => {}).resume()
    .unref();
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, signal) => {
      end?.destroy();
      if (code === 0 && endingSignal) resolve({ code: null, signal: endingSignal });
      else resolve({ code, signal: signal as Signal | null });
    });
  });
  // If no file descriptors are left, the child has no streams, and an error event follows.
  const socket = link ? child.stdio?.[descriptor] as Net.Socket | undefined : undefined;
  const stream = socket ? socketStream(socket) : null;
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => {
      stream?.close();
      reject(spawnError(command, error));
    });
  });
  child.on("error", () => {}); // for example, a signal that could not be sent; the exit event reports the end
  // Without a listener, Node would buffer all messages that the program sends with `process.send()`.
  child.on("message", (_message, handle) => {
    if (handle && "destroy" in handle) handle.destroy();
    else handle?.close();
  });
  child.channel?.unref();
  return {
    pid: child.pid!,
    exited,
    stream,
    outputs: ([1, 2] as const).filter((descriptor) => command.stdio[descriptor] === "tee")
      .map((descriptor) => outputOf(descriptor, child.stdio[descriptor] as Stdout)),
    kill(signal) {
      // `child.kill()` does not report a missing permission.
      if (child.exitCode === null && child.signalCode === null) kill(child.pid!, signal);
    },
    release: () => child.unref(),
  };
}

type Stdout = ChildProcesses.ChildProcessWithoutNullStreams["stdout"];

function outputOf(descriptor: 1 | 2, stream: Stdout): Output {
  const chunks = stream[Symbol.asyncIterator]();
  return {
    descriptor,
    read: () => chunks.next().then(({ done, value }) => done ? null : value, () => null),
    close: () => void stream.destroy(),
  };
}
