/** Starts processes on Bun, with `Bun.spawn`. Only servers load this module. */
import type { Signal } from "../core/signals.ts";
import { connectStream } from "./bun_stream.ts";
import { environment, kill, nodeApi } from "./node_api.ts";
import { passSockets } from "./passed_sockets.ts";
import type { Child, Command, Exit } from "./runtime.ts";
import { spawnError } from "./spawn_error.ts";
import { webOutput } from "./web_output.ts";

interface BunLike {
  spawn(command: string[], options: object): {
    readonly pid: number;
    readonly exited: Promise<number>;
    readonly exitCode: number | null;
    /** The signal's name, or the number of a real-time signal (which Bun's documentation does not mention). */
    readonly signalCode: Signal | number | null;
    readonly stdio: readonly (number | null)[];
    readonly stdout: ReadableStream<Uint8Array>;
    readonly stderr: ReadableStream<Uint8Array>;
    kill(signal: Signal): void;
    unref(): void;
  };
}

const Bun = (globalThis as unknown as { Bun: BunLike }).Bun;

/** Starts a process. */
export async function spawn(
  command: Command,
  link?: (descriptor: number) => Readonly<Record<string, string>>,
): Promise<Child> {
  const { sockets = [] } = command;
  const descriptor = 3 + sockets.length;
  const env = environment({ ...command.env, ...link?.(descriptor) });
  const line = passSockets(command, env, nodeApi.exists);
  let child: ReturnType<BunLike["spawn"]>;
  try {
    const words = [
      line.file,
      ...line.flags,
      ...(command.module ? [command.module] : []),
      ...command.args,
    ];
    child = Bun.spawn(words, {
      ...(command.cwd !== undefined && { cwd: command.cwd }),
      env: line.env,
      stdio: [
        ...command.stdio.map((stdio) => stdio === "tee" ? "pipe" : stdio),
        ...sockets.map(({ descriptor }) => descriptor),
        ...(link ? ["pipe"] : []),
      ],
      detached: command.ownGroup === true,
    });
  } catch (error) {
    throw spawnError(command, error);
  }
  const exited = child.exited.then((): Exit => {
    const { exitCode, signalCode } = child;
    if (!signalCode) return { code: exitCode, signal: null };
    return { code: null, signal: typeof signalCode === "number" ? `SIG${signalCode}` : signalCode };
  });
  const connected = link && connectStream({ fd: child.stdio[descriptor] }).catch((error) => {
    child.kill("SIGKILL"); // without its link, the process cannot be supervised
    throw spawnError(command, error);
  });
  return {
    pid: child.pid,
    exited,
    stream: connected ? await connected : null,
    outputs: [
      ...(command.stdio[1] === "tee" ? [webOutput(1, child.stdout)] : []),
      ...(command.stdio[2] === "tee" ? [webOutput(2, child.stderr)] : []),
    ],
    kill(signal) {
      if (child.exitCode === null && child.signalCode === null) kill(child.pid, signal);
    },
    release: () => child.unref(),
  };
}
