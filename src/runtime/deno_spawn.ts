/** Starts processes on Deno, with `Deno.Command`. Only servers load this module. */
import { SamError } from "../errors.ts";
import type { Signal } from "../core/signals.ts";
import { accessError, granted, requirePermissions } from "./deno_permissions.ts";
import { passSockets } from "./passed_sockets.ts";
import type { Child, Command, Exit, Stdio, Stream } from "./runtime.ts";
import type { DuplicateSocket } from "./socket_calls.ts";
import { spawnError } from "./spawn_error.ts";
import { webOutput } from "./web_output.ts";

interface DenoLike {
  readonly internal: symbol;
  statSync(path: string): object;
  readonly Command: new (file: string, options: object) => { spawn(): DenoChild };
}
interface DenoChild {
  readonly pid: number;
  readonly status: Promise<{ readonly code: number; readonly signal: Signal | null }>;
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array>;
  kill(signal: Signal): void;
  unref(): void;
}
/**
 * Deno's undocumented functions for more than three file descriptors. They are checked before use, because a later
 * version of Deno may remove them.
 */
interface DenoInternal {
  readonly kExtraStdio?: symbol;
  getExtraPipeRids?(child: DenoChild): number[];
  readableStreamForRid?(rid: number, autoClose: boolean): ReadableStream<Uint8Array>;
  writableStreamForRid?(rid: number): WritableStream<Uint8Array>;
}

const Deno = (globalThis as unknown as { Deno: DenoLike }).Deno;

/** True if a file exists, or if this process may not know. */
function exists(path: string): boolean {
  try {
    return granted("read", path) ? Deno.statSync(path) !== undefined : true;
  } catch (error) {
    return (error as Error).name !== "NotFound";
  }
}

/** Starts a process. */
// deno-lint-ignore require-await
export async function spawn(
  command: Command,
  link?: (descriptor: number) => Readonly<Record<string, string>>,
): Promise<Child> {
  const { sockets = [] } = command;
  // Deno makes each descriptor blocking that it hands on by its own option. An instance that already accepts connections would hang
  // in its next accept(). So JavaScript programs get their sockets under other numbers, which SAM_SOCKETS tells them.
  const isScript = command.runtime !== undefined;
  const slots = isScript ? 0 : sockets.length;
  const descriptor = 3 + slots;
  const internal = (Deno as unknown as Record<symbol, DenoInternal>)[Deno.internal];
  const isExtended = link !== undefined || slots > 0;
  const extra = isExtended ? internal?.kExtraStdio : undefined;
  if (isExtended && !extra) {
    throw new SamError(
      "NOT_SUPPORTED",
      'this version of Deno cannot pass a file descriptor to a child process: use transport "unix", and leave out the option listen',
    );
  }
  requirePermissions(`start ${command.file}`, [["run", command.file, command.file]]);
  const name = (stdio: Stdio) => ({ inherit: "inherit", ignore: "null", tee: "piped" })[stdio];
  const outputs = ([1, 2] as const).filter((descriptor) => command.stdio[descriptor] === "tee");
  const copies: DuplicateSocket[] = [];
  let child: DenoChild;
  try {
    for (const socket of sockets) copies.push(socket.duplicate(isScript));
    const numbers = copies.map(({ descriptor }) => descriptor);
    const env = { ...command.env, ...link?.(descriptor) };
    const line = passSockets(command, env, exists, isScript ? numbers : undefined);
    if (line.file !== command.file) {
      requirePermissions("hand listening sockets on", [["run", line.file, line.file]]);
    }
    child = new Deno.Command(line.file, {
      args: [...line.flags, ...(command.module ? [command.module] : []), ...command.args],
      ...(command.cwd !== undefined && { cwd: command.cwd }),
      env: line.env,
      stdin: name(command.stdio[0]),
      stdout: name(command.stdio[1]),
      stderr: name(command.stdio[2]),
      detached: command.ownGroup === true,
      ...(extra && {
        [extra]: [...isScript ? [] : numbers, ...(link ? ["piped"] : [])],
      }),
    }).spawn();
  } catch (error) {
    throw error instanceof SamError ? error : spawnError(command, error);
  } finally {
    for (const copy of copies) copy.close();
  }
  let isGone = false; // Deno does not notice the end of a process whose status it cannot report
  return {
    pid: child.pid,
    exited: child.status.then(
      ({ code, signal }): Exit => signal ? { code: null, signal } : { code, signal: null },
      exitByRealTimeSignal,
    ).finally(() => isGone = true),
    stream: link ? pipeStream(internal!, internal!.getExtraPipeRids!(child)[slots]!) : null,
    outputs: outputs.map((each) => webOutput(each, each === 1 ? child.stdout : child.stderr)),
    kill(signal) {
      try {
        if (!isGone) child.kill(signal);
      } catch (error) {
        const denied = accessError(error);
        if (denied) throw denied; // any other failure means that the process has ended
      }
    },
    release: () => child.unref(),
  };
}

/**
 * The exit of a process that a real-time signal ended. Deno rejects its status, with the signal's number in the
 * message.
 */
function exitByRealTimeSignal({ message }: Error): Exit {
  const [, number] = /signal: (\d+)/.exec(message) ?? [];
  return number ? { code: null, signal: `SIG${Number(number)}` } : { code: 1, signal: null };
}

/** Makes a stream of the server's end of an inherited file descriptor. */
function pipeStream(internal: DenoInternal, rid: number): Stream {
  const reader = internal.readableStreamForRid!(rid, false).getReader();
  const writer = internal.writableStreamForRid!(rid).getWriter();
  let ended = false;
  let unsent = 0;
  let onEnd: (detail: string) => void = () => {};
  const end = (detail: string) => {
    if (ended) return;
    ended = true;
    reader.cancel().catch(() => {});
    writer.close().catch(() => {});
    onEnd(detail);
  };
  const write = (bytes: Uint8Array) => {
    if (ended) return;
    unsent += bytes.length;
    writer.write(bytes).then(
      () => unsent -= bytes.length,
      (error: Error) => end(error.message),
    );
  };
  return {
    get unsent() {
      return unsent;
    },
    write,
    offer(byte) {
      write(byte); // a server sends no heartbeats
      return !ended;
    },
    read(onData, whenEnded) {
      onEnd = whenEnded;
      (async () => {
        try {
          for (;;) {
            const { done, value } = await reader.read();
            if (ended) return;
            if (done) return end("the other side closed the connection");
            onData(value);
          }
        } catch (error) {
          end((error as Error).message);
        }
      })();
    },
    hold() {
      // the child process keeps the event loop alive, not its link
    },
    close() {
      end("this side closed the connection");
    },
  };
}
