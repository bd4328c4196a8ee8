/** The control sockets of this user's servers: where they are, who lives, and lines of JSON over them. */
import * as host from "../runtime/host.ts";
import type { Runtime, Stream } from "../runtime/runtime.ts";
import { SamError } from "../errors.ts";
import { CommandError } from "./exit.ts";

const suffix = ".sock";
/** The longest path the system takes. */
const maxPathBytes = 107;
/** More than this without a line's end is no request and no answer. */
const maxLineBytes = 16 * 1024 * 1024;

/** The path of the socket of a server. */
export function socketOf(name: string): string {
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
  const path = `${directory}/${name}${suffix}`;
  const { length } = new TextEncoder().encode(path);
  if (length <= maxPathBytes) return path;
  throw new CommandError(
    "usage",
    `the control socket's path has ${length} bytes, the system takes ${maxPathBytes}: choose a shorter --name than ${name}`,
  );
}

/** The names of all servers that have a socket, dead or alive. */
export function serverNames(): readonly string[] {
  const directory = socketOf("x").slice(0, -`/x${suffix}`.length);
  return host.namesIn(directory).filter((name) => name.endsWith(suffix))
    .map((name) => name.slice(0, -suffix.length));
}

/** Connects to a server; undefined where it has ended, and what a killed one has left is removed. */
export async function connect(runtime: Runtime, name: string): Promise<Lines | undefined> {
  const path = socketOf(name);
  if (!host.exists(path)) return undefined;
  try {
    return new Lines(await runtime.connect(path));
  } catch (error) {
    if (error instanceof SamError && error.code === "ACCESS") throw error;
    host.removeFile(path); // nobody listens
    return undefined;
  }
}

/** Lines of JSON over a stream. */
export class Lines {
  readonly #stream: Stream;
  #onValue: ((value: unknown) => void) | null = null;
  #onEnd: () => void = () => {};

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Calls back for each line from now on, in place of an earlier call; a line that is no JSON ends the stream. */
  receive(onValue: (value: unknown) => void, onEnd: () => void): void {
    const reads = this.#onValue !== null;
    this.#onValue = onValue;
    this.#onEnd = onEnd;
    if (!reads) this.#read();
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
    }, () => this.#onEnd());
  }

  /** Writes a value. */
  send(value: unknown): void {
    this.sendText(JSON.stringify(value));
  }

  /** Writes what is JSON already. */
  sendText(text: string): void {
    this.#stream.write(new TextEncoder().encode(`${text}\n`));
  }

  close(): void {
    this.#stream.close();
  }
}
