/**
 * The runtime adapter for Deno. `deno_spawn.ts` starts processes. An active process over `unix` or `shm` loads no `node:`
 * module, because that would add 12 to 40 ms to its start.
 */
import type { Signal } from "../core/signals.ts";
import {
  accessError,
  checkFlags,
  executable,
  granted,
  grantedAll,
  requirePermissions,
  withSamErrors,
} from "./deno_permissions.ts";
import { interception, launch } from "./launch.ts";
import type { RandomFile, Runtime, Stream } from "./runtime.ts";

// Declares only the used parts of the global `Deno`, so that the library needs no type package.
interface DenoLike {
  readonly pid: number;
  readonly stdin: { isTerminal(): boolean };
  readonly env: { get(name: string): string | undefined; delete(name: string): void };
  exit(code: number): never;
  kill(pid: number, signal: Signal): void;
  addSignalListener(signal: Signal, listener: () => void): void;
  removeSignalListener(signal: Signal, listener: () => void): void;
  unrefTimer(id: number): void;
  removeSync(path: string): void;
  readLinkSync(path: string): string;
  readonly stdout: { write(bytes: Uint8Array): Promise<number> };
  readonly stderr: { write(bytes: Uint8Array): Promise<number> };
  readDirSync(path: string): Iterable<{ readonly name: string }>;
  statSync(path: string): { readonly isFile: boolean; readonly size: number };
  readTextFileSync(path: string): string;
  openSync(path: string, options: object): DenoFile;
  listen(
    options: { transport: "unix"; path: string },
  ): { accept(): Promise<DenoConn>; close(): void };
  connect(
    where:
      | { transport: "unix"; path: string }
      | { hostname: string; port: number; signal?: AbortSignal },
  ): Promise<DenoConn>;
}
interface DenoFile {
  seekSync(offset: number, whence: number): number;
  readSync(into: Uint8Array): number | null;
  writeSync(bytes: Uint8Array): number;
  close(): void;
}
interface DenoConn {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  ref(): void;
  unref(): void;
  close(): void;
}
const Deno = (globalThis as unknown as { Deno: DenoLike }).Deno;

/**
 * Returns a global function as it was when the library was loaded. The program may replace it later, for example with a
 * fake timer. A getter is called only when the function is used, because the first access to a timer makes Deno load
 * its Node layer (4 ms).
 */
function originalGlobal<Args extends unknown[], Result>(name: string): (...args: Args) => Result {
  const { get, value } = Object.getOwnPropertyDescriptor(globalThis, name)!;
  return (...args) => (get ? get.call(globalThis) : value)(...args);
}
const setTimeout = originalGlobal<[callback: () => void, delayMs: number], number>("setTimeout");
const clearTimeout = originalGlobal<[id: number], void>("clearTimeout");
const now = performance.now.bind(performance);

interface AtomicsWithWaitAsync {
  waitAsync(cell: Int32Array, index: 0, value: 0, delayMs: number): { value: Promise<string> };
}
/**
 * From this delay on, a timer that does not keep the event loop alive is set by `scheduleFar()`. That is cheaper, but the
 * timer may fire some milliseconds late.
 */
const farMs = 1000;
/** Milliseconds before a retry when the kernel's buffer was full. */
const fullMs = 5;
const later = (callback: () => void) => void setTimeout(callback, fullMs);
/** Milliseconds before a listener accepts again after a failure, for example for lack of file descriptors. */
const acceptAgainMs = 100;

/** The original `Deno.exit`. `takeOver()` replaces the one that the program sees. */
const exit: (code: number) => never = Deno.exit.bind(Deno);

/** The runtime adapter for Deno. */
export const deno: Runtime = {
  name: "deno",
  limitsWrites: true,
  exposesDescriptors: false,
  pid: Deno.pid,
  get executable() {
    return executable();
  },
  isMainThread: !("WorkerGlobalScope" in globalThis),
  get stdinIsTerminal() {
    return Deno.stdin.isTerminal();
  },

  now,
  schedule(callback, delayMs, hold) {
    if (!hold && delayMs >= farMs) return scheduleFar(callback, delayMs);
    const timer = setTimeout(callback, delayMs);
    if (!hold) Deno.unrefTimer(timer);
    return () => clearTimeout(timer);
  },
  // A timer, because Deno runs immediates before it polls the sockets (measured: 300 of 300 arrivals missed).
  settle: () => new Promise((resolve) => setTimeout(resolve, 0)),
  settleMs: 3,

  // Modules that only a server or one transport needs are imported on demand, because each takes 0.2 ms to load.
  spawn: async (command, link) => await (await import("./deno_spawn.ts")).spawn(command, link),
  async self() {
    const { ownCommandLine } = await import("./deno_command_line.ts");
    const words = await ownCommandLine();
    return { file: executable(words[0]), flags: words.slice(1), args: [], cwd: launch.cwd };
  },
  async defaultFlags() {
    return await (await import("./deno_command_line.ts")).moduleFlags();
  },
  checkFlags,
  exists(path) {
    if (!granted("read", path)) return true;
    try {
      Deno.statSync(path);
      return true;
    } catch (error) {
      return (error as Error).name !== "NotFound";
    }
  },
  kill(pid, signal) {
    try {
      Deno.kill(pid, signal);
    } catch (error) {
      if ((error as Error).name !== "NotFound") throw accessError(error) ?? error;
    }
  },
  readText(path, maxBytes) {
    if (!granted("read", path)) return undefined;
    try {
      const { isFile, size } = Deno.statSync(path);
      return isFile && size <= maxBytes ? Deno.readTextFileSync(path) : undefined;
    } catch {
      return undefined;
    }
  },
  systemText: (path) => inProc(() => Deno.readTextFileSync(path)),
  systemNames: (directory) =>
    inProc(() => Array.from(Deno.readDirSync(directory), ({ name }) => name)) ?? [],
  systemLink: (path) => inProc(() => Deno.readLinkSync(path)),
  takeVariable(name) {
    if (!granted("env", name)) return undefined;
    const value = Deno.env.get(name);
    Deno.env.delete(name);
    return value || undefined;
  },
  async writeOutput(descriptor, bytes) {
    const to = descriptor === 1 ? Deno.stdout : Deno.stderr;
    try {
      for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
    } catch {
      // the stream has no reader any more
    }
  },

  temporaryFiles: async () => (await import("./deno_temporary_files.ts")).temporaryFiles,
  remove(...paths) {
    for (const path of paths) {
      try {
        Deno.removeSync(path);
      } catch {
        // missing, or a directory that contains files of other programs
      }
    }
  },
  listen(path, onStream) {
    return withSamErrors(async () => {
      requireSocketPermissions(path);
      const listener = Deno.listen({ transport: "unix", path });
      let isClosed = false;
      (async () => {
        for (;;) {
          try {
            onStream(connectionStream(await listener.accept()));
          } catch {
            if (isClosed) return;
            await new Promise<void>((resolve) => setTimeout(resolve, acceptAgainMs));
          }
        }
      })();
      return await Promise.resolve({
        close() {
          isClosed = true;
          try {
            listener.close();
          } catch {
            // already closed
          }
        },
      });
    }, `open the socket ${path}`);
  },
  connect: (path) =>
    withSamErrors(async () => {
      requireSocketPermissions(path);
      return connectionStream(await Deno.connect({ transport: "unix", path }));
    }, `open the socket ${path}`),
  async probePort(hostname, port, signal) {
    const what = `connect to ${hostname}:${port}`;
    requirePermissions(what, [["net", `${hostname}:${port}`, `${hostname}:${port}`]]);
    const connecting = withSamErrors(() => Deno.connect({ hostname, port, signal }), what);
    const closing = connecting.then((connection) => connection.close());
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      closing.then(resolve, reject);
    });
  },
  connectPort: (port) =>
    withSamErrors(async () => {
      const hostname = "127.0.0.1";
      const what = "open the inspector of the program";
      requirePermissions(what, [["net", `${hostname}:${port}`, `${hostname}:${port}`]]);
      return connectionStream(await Deno.connect({ hostname, port }));
    }, "open the inspector of the program"),
  inherited: async (descriptor) =>
    await (await import("./deno_inherited.ts")).inherited(descriptor, later),
  openFile(path, create) {
    const what = `open the shared file ${path}`;
    return withSamErrors(() => {
      requirePermissions(what, fileNeeds(path));
      const how = { read: true, write: true, createNew: create, ...(create && { mode: 0o600 }) };
      return Promise.resolve(randomFile(Deno.openSync(path, how)));
    }, what);
  },

  stackAccess: () => "flags",

  async freeInspectorPort(flags) {
    if (flags.some((flag) => flag.startsWith("--inspect"))) {
      (await import("node:inspector")).close();
    }
  },
  onSignal(signal, listener) {
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  },
  takeOver(onStray) {
    // Deno cannot list the program's signal listeners, so they stay.
    interception.handle = (event) => {
      event.preventDefault();
      event.stopImmediatePropagation();
      if (event.type !== "unload") onStray(event.type === "error" ? event.error : event.reason);
    };
    (Deno as { exit: unknown }).exit = (code: number) =>
      onStray(new Error(`Deno.exit(${code}) was called`));
  },
  exit,
};

/** Schedules a distant timeout, which is nearly always canceled, without the cost of `setTimeout`. */
function scheduleFar(callback: () => void, delayMs: number): () => void {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const { value } = (Atomics as unknown as AtomicsWithWaitAsync).waitAsync(cell, 0, 0, delayMs);
  void value.then((how) => how === "timed-out" && callback());
  return () => Atomics.notify(cell, 0);
}

/** Reads something in /proc. Undefined without all permissions, which Deno requires, or if the process has ended. */
function inProc<T>(look: () => T): T | undefined {
  if (!grantedAll()) return undefined;
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** The permissions for a file in a private directory. Messages name its parent, which the user knows in advance. */
function fileNeeds(path: string): ["read" | "write", string, string][] {
  const around = path.split("/").slice(0, -2).join("/") || "/";
  return [["read", path, around], ["write", path, around]];
}

/** Requires the permissions for a socket: all of `--allow-net`, because its path is not known in advance. */
function requireSocketPermissions(path: string): void {
  requirePermissions(`open the socket ${path}`, [["net", `unix:${path}`], ...fileNeeds(path)]);
}

/**
 * The limit of writes between two turns of the event loop. Deno's scheduler (Tokio) allows a task 128 operations before
 * it must yield. Later writes wait for the event loop, so in a loop that never yields they do not reach the kernel.
 */
const maxUnyieldedWrites = 100;

/** Writes up to this size are taken by the kernel as a whole or not at all. It may take only a part of a longer one. */
const wholeBytes = 32 * 1024;

/** The limit of the read buffer, in bytes. */
const maxReadBytes = 64 * 1024;

/** Makes a stream of a connection. Writes go to the kernel at once and in order, as long as it has room. */
function connectionStream(connection: DenoConn): Stream {
  let ended = false;
  let unyielded = 0;
  let unsent = 0;
  /** Writes that wait until a long write has finished; null if no long write is under way. */
  let behind: Uint8Array[] | null = null;
  let onEnd: (detail: string) => void = () => {};
  const end = (detail: string) => {
    if (ended) return;
    ended = true;
    try {
      connection.close();
    } catch {
      // already closed by the runtime
    }
    onEnd(detail);
  };
  const write = (bytes: Uint8Array) => {
    if (ended) return;
    if (behind) return void behind.push(bytes);
    const long = bytes.length > wholeBytes;
    if (long) behind = [];
    unyielded++;
    unsent += bytes.length;
    connection.write(bytes).then(
      (written) => {
        unyielded = 0;
        unsent -= bytes.length;
        const rest = bytes.subarray(written);
        if (long) {
          const next = behind!;
          behind = null;
          for (const each of rest.length > 0 ? [rest, ...next] : next) write(each);
        } else if (rest.length > 0) end(`wrote ${written} of ${bytes.length} bytes`);
      },
      (error: Error) => end(error.message),
    );
  };
  return {
    get unsent() {
      return (behind ?? []).reduce((sum, { length }) => sum + length, ended ? 0 : unsent);
    },
    write,
    offer(byte) {
      if (ended || behind || unyielded >= maxUnyieldedWrites) return false;
      write(byte);
      return true;
    },
    read(onData, whenEnded) {
      onEnd = whenEnded;
      (async () => {
        // Small at first, because a server may have thousands of connections. It grows when data arrives.
        let buffer = new Uint8Array(1024);
        try {
          for (;;) {
            const count = await connection.read(buffer);
            if (ended) return;
            if (count === null) return end("the other side closed the connection");
            onData(buffer.subarray(0, count));
            if (count === buffer.length && count < maxReadBytes) buffer = new Uint8Array(4 * count);
          }
        } catch (error) {
          end((error as Error).message);
        }
      })();
    },
    hold(on) {
      if (on) connection.ref();
      else connection.unref();
    },
    close() {
      end("this side closed the connection");
    },
  };
}

function randomFile(file: DenoFile): RandomFile {
  let open = true;
  return {
    read(bytes, at) {
      if (!open) return 0;
      file.seekSync(at, 0);
      return file.readSync(bytes) ?? 0;
    },
    write(bytes, at) {
      if (!open) return;
      file.seekSync(at, 0);
      for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
    },
    close() {
      if (open) file.close();
      open = false;
    },
  };
}
