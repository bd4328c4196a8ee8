/** How a server starts processes on Node: `child_process.fork` for Node programs, `spawn` for others. */
import type * as ChildProcesses from "node:child_process";
import type * as Net from "node:net";
import type { EndSignal, Signal } from "../core/signals.ts";
import { environment, kill, nodeApi, process } from "./node_api.ts";
import { socketStream } from "./node_stream.ts";
import type { Child, Command, Exit, Output } from "./runtime.ts";
import { spawnError } from "./spawn_error.ts";

/**
 * Node reports exit code 0 for a process that a real-time signal ended. Only the kernel knows the difference, and only until Node
 * reaps the process. So each process inherits a socket at this number. Node reads the end of that socket before it reaps the
 * process: that is the moment to look. The number is one that programs seldom use, and that a Node program does not hand on.
 */
const endDescriptor = 15;

/** The real-time signal that is ending a process; undefined for every other end. */
function unnamedSignal(pid: number): EndSignal | undefined {
  const stat = nodeApi.systemText(`/proc/${pid}/stat`);
  const status = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[exitStatusAt];
  const number = Number(status) & 127;
  return number >= leastRealTime ? `SIG${number}` : undefined;
}

/** The field `exit_code` of proc_pid_stat(5), counted from the state. */
const exitStatusAt = 49;
/** The first signal of Linux without a name. */
const leastRealTime = 32;

/** Starts a process. */
export async function spawn(
  command: Command,
  link?: (descriptor: number) => Readonly<Record<string, string>>,
): Promise<Child> {
  const forked = command.runtime === "node" && command.module !== undefined;
  const descriptor = forked ? 4 : 3; // fork's own channel is 3
  const env = environment({ ...command.env, ...link?.(descriptor) });
  const stdio = [
    ...command.stdio.map((stdio) => stdio === "tee" ? "pipe" : stdio),
    ...(forked ? ["ipc"] : []),
    ...(link ? ["pipe"] : []),
  ] as ("pipe" | "ipc" | "ignore")[];
  while (stdio.length < endDescriptor) stdio.push("ignore");
  const endAt = stdio.push("pipe") - 1;
  const options = { cwd: command.cwd, env, stdio, detached: command.ownGroup === true };
  const children = process.getBuiltinModule("node:child_process") as typeof ChildProcesses;
  let child: ChildProcesses.ChildProcess;
  try {
    child = forked
      ? children.fork(command.module!, command.args, {
        ...options,
        execPath: command.file,
        execArgv: [...command.flags],
      })
      : children.spawn(command.file, [
        ...command.flags,
        ...(command.module ? [command.module] : []),
        ...command.args,
      ], options);
  } catch (error) {
    throw spawnError(command, error);
  }
  const end = (child.stdio as readonly unknown[] | undefined)?.[endAt] as Net.Socket | undefined;
  let unnamed: EndSignal | undefined;
  end?.on("end", () => unnamed = unnamedSignal(child.pid!)).on("error", () => {}).resume().unref();
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, signal) => {
      end?.destroy();
      if (code === 0 && unnamed) resolve({ code: null, signal: unnamed });
      else resolve({ code, signal: signal as Signal | null });
    });
  });
  // Where there are no more descriptors, there are no streams; the error follows.
  const socket = link ? child.stdio?.[descriptor] as Net.Socket | undefined : undefined;
  const stream = socket ? socketStream(socket) : null;
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => {
      stream?.close();
      reject(spawnError(command, error));
    });
  });
  child.on("error", () => {}); // a signal or message that could not be delivered: the exit tells all
  // Without a listener, Node keeps what the program sends by `process.send()`, for one that may come.
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
      // Its own kill() does not say where it is not permitted.
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
