/**
 * A client of V8's inspector (the Chrome DevTools protocol over WebSocket), just enough to take a stack. It has its own
 * WebSocket code because Node 20 has none, and because `stack()` sends a frame byte by byte, which no WebSocket API does.
 */
import type { Stream } from "../../runtime/runtime.ts";
import type { Script, ScriptPlace } from "./source_map.ts";

/** The longest message to accept. A message may contain a source map. */
const maxMessageBytes = 32 * 1024 * 1024;
/** The number of stack frames to report. */
const maxFrames = 50;
/** The number of meaningless blanks before the last messages: see `stack()`. */
const paddingBytes = 1000;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();

/** The part of a protocol message that is used here. */
interface Message {
  readonly id?: number;
  readonly error?: { readonly message: string };
  readonly method?: string;
  readonly params?: {
    readonly scriptId?: string;
    readonly url?: string;
    readonly sourceMapURL?: string;
    readonly callFrames?: readonly {
      readonly functionName: string;
      readonly url?: string;
      readonly location: {
        readonly scriptId: string;
        readonly lineNumber: number;
        readonly columnNumber: number;
      };
    }[];
  };
}

/** A function on the stack, and the place it has reached. */
export interface StackFrame extends ScriptPlace {
  /** The name of the function; empty for code outside functions and for functions without a name. */
  readonly functionName: string;
}

/** Reads the bytes of a stream as messages. */
class Incoming {
  /** Called whenever bytes have arrived. */
  onData: () => void = () => {};
  #chunks: Uint8Array[] = [];
  #length = 0;
  #end: string | null = null;
  #wake: () => void = () => {};

  constructor(stream: Stream) {
    stream.read((bytes) => {
      this.#chunks.push(bytes.slice());
      this.#length += bytes.length;
      this.onData();
      this.#wake();
    }, (detail) => {
      this.#end = detail;
      this.#wake();
    });
  }

  async #more(): Promise<void> {
    if (this.#end !== null) throw new Error(`the inspector closed the connection (${this.#end})`);
    await new Promise<void>((resolve) => this.#wake = resolve);
  }

  /** All bytes so far, in one array. */
  #all(): Uint8Array {
    if (this.#chunks.length === 1) return this.#chunks[0]!;
    const all = new Uint8Array(this.#length);
    let at = 0;
    for (const chunk of this.#chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [all];
    return all;
  }

  /** The next `length` bytes. */
  async take(length: number): Promise<Uint8Array> {
    if (length > maxMessageBytes) {
      throw new Error(`the inspector sent a message of ${length} bytes, which is too long`);
    }
    while (this.#length < length) await this.#more();
    const all = this.#all();
    this.#chunks = [all.subarray(length)];
    this.#length -= length;
    return all.subarray(0, length);
  }

  /** The head of an HTTP response. */
  async head(): Promise<string> {
    for (;;) {
      const text = fromUtf8.decode(this.#all());
      const end = text.indexOf("\r\n\r\n");
      if (end >= 0) return fromUtf8.decode(await this.take(end + 4));
      await this.#more();
    }
  }

  /** The next message of a WebSocket. */
  async message(): Promise<Message> {
    for (;;) {
      const [first, second] = await this.take(2) as unknown as [number, number];
      let length = second & 0x7f;
      if (length >= 126) {
        const bytes = await this.take(length === 126 ? 2 : 8);
        length = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
      }
      const payload = await this.take(length);
      if ((first & 0x0f) === 8) throw new Error("the inspector is being closed"); // it waits for the end of this session
      if ((first & 0x0f) === 1) return JSON.parse(fromUtf8.decode(payload));
    }
  }
}

/** Makes a WebSocket text frame, masked with zeros, with `padding` blanks before the message. */
function frame(message: object, padding = 0): Uint8Array {
  const payload = utf8.encode(" ".repeat(padding) + JSON.stringify(message));
  const { length } = payload;
  const head = length < 126
    ? [0x81, 0x80 | length, 0, 0, 0, 0]
    : [0x81, 0x80 | 126, length >> 8, length & 0xff, 0, 0, 0, 0];
  return Uint8Array.of(...head, ...payload);
}

/** The id of the last request: its answer is the last message. */
const lastId = 4;

/**
 * Closes Node's inspector at the next turn of the event loop. Closing it at once would not do: Node opens it once more at that
 * turn. The global `process` may be a fake, in which case nothing is closed.
 */
const closing = 'process.getBuiltinModule("node:timers").setImmediate(process._debugEnd)';

/** One session with the inspector, over connections that `connect` makes. */
export class InspectorSession {
  readonly #connect: () => Promise<Stream>;
  /** The current connection. */
  #stream: Stream | null = null;
  #incoming!: Incoming;
  /** The messages that resume the process, with padding before them: see `stack()`. */
  readonly #last: Uint8Array;
  readonly #padding: number = 0;
  /** The number of bytes of `#last` that were sent. */
  #sent = 0;
  /** The connection is a WebSocket, so that `#last` can be sent. */
  #upgraded = false;
  #left = false;

  /** `closes`: the inspector was opened for this session, and is closed after it. */
  constructor(connect: () => Promise<Stream>, closes: boolean) {
    this.#connect = connect;
    if (!closes) {
      this.#last = frame({ id: lastId, method: "Debugger.disable" });
      return;
    }
    this.#padding = paddingBytes;
    // The debugger is disabled first. Otherwise a late pause could stop inside the expression, and Node would never resume.
    this.#last = Uint8Array.of(
      ...frame({ id: 3, method: "Debugger.disable" }, paddingBytes),
      ...frame({ id: lastId, method: "Runtime.evaluate", params: { expression: closing } }),
    );
  }

  /** Pauses the process and returns its stack, the innermost frame first. The process stays paused until `leave()`. */
  async stack(): Promise<StackFrame[]> {
    await this.#open();
    // Node's inspector sends many small messages. The sender's kernel holds back each one until the last was acknowledged, and
    // our kernel delays the acknowledgment by 40 ms unless we send something. So each arrival is answered by one byte of
    // `#last` (measured: a stack takes 40 ms, and 95 ms without). Deno has no such delay, and takes no message in pieces.
    const stream = this.#stream!;
    this.#incoming.onData = () => {
      if (this.#sent < this.#padding) stream.write(this.#last.subarray(this.#sent, ++this.#sent));
    };
    stream.write(frame({ id: 1, method: "Debugger.enable" }));
    stream.write(frame({ id: 2, method: "Debugger.pause" }));
    const scripts = new Map<string, Script>();
    return await new Promise<StackFrame[]>((resolve, reject) => {
      this.#receiveAll(({ method, params, error }) => {
        if (error) reject(new Error(`the inspector refused: ${error.message}`));
        if (method === "Debugger.scriptParsed") {
          const { scriptId, url, sourceMapURL } = params!;
          scripts.set(scriptId!, { url: url || "?", mapUrl: sourceMapURL ?? "" });
        }
        if (method !== "Debugger.paused") return;
        const frames = params!.callFrames!.slice(0, maxFrames);
        resolve(frames.map(({ functionName, url, location }) => ({
          functionName,
          script: scripts.get(location.scriptId) ?? { url: url || "?", mapUrl: "" },
          line: location.lineNumber,
          column: location.columnNumber,
        })));
      }).catch(reject);
    });
  }

  /**
   * Receives all messages up to the last answer, and closes the connection then. If it were closed while Node's inspector still
   * sends, the process would crash (measured: one time in a hundred).
   */
  async #receiveAll(onMessage: (message: Message) => void): Promise<void> {
    try {
      for (;;) {
        const message = await this.#incoming.message();
        if (message.id === lastId) return;
        onMessage(message);
      }
    } finally {
      this.#stream!.close();
    }
  }

  async #open(): Promise<void> {
    await this.#request("/json/list");
    const length = /^content-length: *(\d+)/im.exec(await this.#incoming.head())?.[1];
    const list = fromUtf8.decode(await this.#incoming.take(Number(length ?? 0)));
    const [target] = JSON.parse(list) as { webSocketDebuggerUrl: string }[];
    this.#stream!.close();
    const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
    await this.#request(
      new URL(target!.webSocketDebuggerUrl).pathname,
      "Upgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n`,
    );
    await this.#incoming.head();
    if (this.#left) throw new Error("the session has ended");
    this.#upgraded = true;
  }

  async #request(path: string, headers = ""): Promise<void> {
    const stream = this.#stream = await this.#connect();
    this.#incoming = new Incoming(stream);
    if (this.#left) stream.close();
    stream.write(utf8.encode(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers}\r\n`));
  }

  /** Resumes the process, or keeps it from pausing if it has not noticed the session yet. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    if (!this.#upgraded) return this.#stream?.close();
    this.#incoming.onData = () => {};
    this.#stream!.write(this.#last.subarray(this.#sent));
  }
}
