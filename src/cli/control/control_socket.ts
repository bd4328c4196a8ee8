/** The control sockets of this user's servers: their paths, connections to them, and lines of JSON over a connection. */
import * as host from "../host/host.ts";
import type { Sockets, Stream } from "../../runtime/runtime.ts";
import { SamError } from "../../errors.ts";
import { CommandError } from "../command_line/exit.ts";

const suffix = ".sock";
/** The longest path of a socket that the system takes. */
const maxPathBytes = 107;
/** The longest line. A peer that sends a longer one is cut off. */
const maxLineBytes = 16 * 1024 * 1024;

const bytesOf = (text: string) => new TextEncoder().encode(text).length;

/** The directory of the sockets. It is created if it is missing. */
function socketDirectory(): string {
  let directory: string;
  try {
    directory = host.runtimeDirectory();
  } catch (cause) {
    const { message } = cause as Error;
    throw new CommandError("noPermission", `no directory for control sockets: ${message}`, {
      cause,
      code: "ACCESS",
    });
  }
  if (bytesOf(`${directory}/x${suffix}`) <= maxPathBytes) return directory;
  throw new CommandError(
    "config",
    `no control socket can be in ${directory}: the system takes a path of ${maxPathBytes} bytes; set a shorter XDG_RUNTIME_DIR`,
    { code: "NOT_SUPPORTED" },
  );
}

/** The path of the socket of a server. */
export function socketOf(name: string): string {
  const path = `${socketDirectory()}/${name}${suffix}`;
  const length = bytesOf(path);
  if (length <= maxPathBytes) return path;
  throw new CommandError(
    "usage",
    `the control socket's path has ${length} bytes, the system takes ${maxPathBytes}: choose a shorter --name than ${name}`,
  );
}

/** The names of all servers that have a socket, also of those that were killed. */
export function serverNames(): readonly string[] {
  const directory = socketDirectory();
  return host.namesIn(directory)
    .filter((name) => name.endsWith(suffix) && host.isSocket(`${directory}/${name}`))
    .map((name) => name.slice(0, -suffix.length));
}

/** Connects to a server; undefined if it has ended. The socket that a killed server left is removed. */
export async function connect(runtime: Sockets, name: string): Promise<Lines | undefined> {
  const path = socketOf(name);
  if (!host.isSocket(path)) return undefined;
  const identity = host.identityOf(path);
  try {
    return new Lines(await runtime.connect(path));
  } catch (cause) {
    const code = host.systemCode(cause);
    if (code === "ENOENT") return undefined; // it has just ended
    if (code === "ECONNREFUSED" && !host.isBound(path)) {
      host.removeFile(path, identity); // nobody listens
      return undefined;
    }
    if (cause instanceof SamError && cause.code === "ACCESS") throw cause;
    throw new CommandError(
      "unavailable",
      `the server ${name} lives, and takes no connection (${code}); is it stopped?`,
      { cause, code: "TRY_AGAIN" },
    );
  }
}

/** Lines of JSON over a stream. */
export class Lines {
  readonly #stream: Stream;
  #onValue: ((value: unknown) => void) | null = null;
  #onEnd: () => void = () => {};
  #ended = false;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Calls back for each line from now on, in place of earlier callbacks. A line that is not JSON ends the stream. */
  receive(onValue: (value: unknown) => void, onEnd: () => void): void {
    const reads = this.#onValue !== null;
    this.#onValue = onValue;
    this.#onEnd = onEnd;
    if (this.#ended) onEnd();
    else if (!reads) this.#read();
  }

  #read(): void {
    const decoder = new TextDecoder();
    let rest = "";
    this.#stream.read((bytes) => {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop()!;
      if (rest.length > maxLineBytes) return this.close();
      for (const line of lines) {
        let value: unknown;
        try {
          value = JSON.parse(line);
        } catch {
          return this.close();
        }
        this.#onValue!(value);
      }
    }, () => {
      this.#ended = true;
      this.#onEnd();
    });
  }

  /** The number of bytes that wait until the reader makes room. */
  get unsent(): number {
    return this.#stream.unsent;
  }

  /** Writes a value. */
  send(value: unknown): void {
    this.sendText(JSON.stringify(value));
  }

  /** Writes a text that is JSON already. */
  sendText(text: string): void {
    this.#stream.write(new TextEncoder().encode(`${text}\n`));
  }

  close(): void {
    this.#stream.close();
  }
}
