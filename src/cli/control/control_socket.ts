/** The control sockets of this user's servers: their paths, and connections that carry lines of JSON. */
import * as host from "../host/host.ts";
import type { Sockets, Stream } from "../../runtime/runtime.ts";
import { SamError } from "../../errors.ts";
import { CommandError } from "../command_line/exit.ts";

const suffix = ".sock";
/** Longest path of a socket, in bytes. This is the limit of Linux. */
const maxPathBytes = 107;
/** The most characters of an unfinished line. The connection to a peer that sends more is closed. */
const maxLineLength = 16 * 1024 * 1024;

const bytesOf = (text: string) => new TextEncoder().encode(text).length;

/** Returns the directory of the sockets, and creates it if necessary. */
function socketDirectory(): string {
  let directory: string;
  try {
    directory = host.runtimeDirectory();
  } catch (cause) {
    const { message } = cause as Error;
    throw new CommandError(
      "noPermission",
      `cannot use the directory for control sockets: ${message}`,
      {
        cause,
        code: "ACCESS",
      },
    );
  }
  if (bytesOf(`${directory}/x${suffix}`) <= maxPathBytes) return directory;
  throw new CommandError(
    "config",
    `cannot use ${directory} for control sockets: the path is too long (the path of a socket may have at most ${maxPathBytes} bytes). Set a shorter XDG_RUNTIME_DIR.`,
    { code: "NOT_SUPPORTED" },
  );
}

/** Returns the path of the control socket of a server. */
export function socketPath(name: string): string {
  const path = `${socketDirectory()}/${name}${suffix}`;
  const length = bytesOf(path);
  if (length <= maxPathBytes) return path;
  throw new CommandError(
    "usage",
    `the path of the control socket has ${length} bytes, and the limit is ${maxPathBytes}. Choose a shorter --name than ${name}.`,
  );
}

/** Returns the names of all servers that have a control socket. A killed server leaves its socket behind. */
export function serverNames(): readonly string[] {
  const directory = socketDirectory();
  return host.namesIn(directory)
    .filter((name) => name.endsWith(suffix) && host.isSocket(`${directory}/${name}`))
    .map((name) => name.slice(0, -suffix.length));
}

/** Connects to a server. Resolves to undefined if the server has ended, and removes the socket of a killed server. */
export async function connect(
  runtime: Sockets,
  name: string,
): Promise<JsonLineConnection | undefined> {
  const path = socketPath(name);
  if (!host.isSocket(path)) return undefined;
  const identity = host.identityOf(path);
  try {
    return new JsonLineConnection(await runtime.connect(path));
  } catch (cause) {
    const code = host.systemCode(cause);
    if (code === "ENOENT") return undefined; // the server has just ended
    if (code === "ECONNREFUSED" && !host.isBound(path)) {
      host.removeFile(path, identity); // a killed server left the file
      return undefined;
    }
    if (cause instanceof SamError && cause.code === "ACCESS") throw cause;
    throw new CommandError(
      "unavailable",
      `the SAM server ${name} is running but accepts no connection (${code}). Is its process stopped (Ctrl-Z)?`,
      { cause, code: "TRY_AGAIN" },
    );
  }
}

/** A connection over which each line is a JSON value. */
export class JsonLineConnection {
  readonly #stream: Stream;
  #onValue: ((value: unknown) => void) | null = null;
  #onEnd: () => void = () => {};
  #ended = false;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Sets the callbacks for each value and for the end, in place of earlier ones. A line that is not JSON closes the stream. */
  receive(onValue: (value: unknown) => void, onEnd: () => void): void {
    const isReading = this.#onValue !== null;
    this.#onValue = onValue;
    this.#onEnd = onEnd;
    if (this.#ended) onEnd();
    else if (!isReading) this.#read();
  }

  #read(): void {
    const decoder = new TextDecoder();
    let rest = "";
    this.#stream.read((bytes) => {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop()!;
      if (rest.length > maxLineLength) return this.close();
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

  /** The number of buffered bytes that the peer has not yet read. */
  get unsent(): number {
    return this.#stream.unsent;
  }

  send(value: unknown): void {
    this.sendText(JSON.stringify(value));
  }

  /** Sends a text that is JSON already. */
  sendText(text: string): void {
    this.#stream.write(new TextEncoder().encode(`${text}\n`));
  }

  close(): void {
    this.#stream.close();
  }
}
