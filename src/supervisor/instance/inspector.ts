/**
 * A session with the inspector of V8 (the Chrome DevTools protocol over WebSocket), just long enough to ask where a
 * process is. Written here because Node 20 has no WebSocket, and because the one of a browser could not do what
 * `acknowledge` does.
 */
import type { Stream } from "../../runtime/runtime.ts";
import type { Script, ScriptPlace } from "./source_map.ts";

/** A longer message is not waited for: source maps may come with it. */
const maxMessageBytes = 32 * 1024 * 1024;
/** More frames than that say no more. */
const maxFrames = 50;
/** Blanks before a message, which mean nothing. */
const paddingBytes = 1000;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();

/** A message of the protocol, as far as it is used here. */
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

/** A function that was called and has not returned, and where it is. */
export interface StackFrame extends ScriptPlace {
  /** Empty for code outside functions, and for functions without a name. */
  readonly functionName: string;
}

/** Bytes as they arrive. */
class Incoming {
  /** Called whenever some have arrived. */
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

  /** All that is there, in one piece. */
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
    if (length > maxMessageBytes) throw new Error(`the inspector sent ${length} bytes at once`);
    while (this.#length < length) await this.#more();
    const all = this.#all();
    this.#chunks = [all.subarray(length)];
    this.#length -= length;
    return all.subarray(0, length);
  }

  /** The head of an HTTP answer. */
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
      if ((first & 0x0f) === 8) throw new Error("the inspector is being closed"); // and waits until we are gone
      if ((first & 0x0f) === 1) return JSON.parse(fromUtf8.decode(payload));
    }
  }
}

/** A text message of a WebSocket client, masked with zero; `padding` blanks before it make it longer. */
function frame(message: object, padding = 0): Uint8Array {
  const payload = utf8.encode(" ".repeat(padding) + JSON.stringify(message));
  const { length } = payload;
  const head = length < 126
    ? [0x81, 0x80 | length, 0, 0, 0, 0]
    : [0x81, 0x80 | 126, length >> 8, length & 0xff, 0, 0, 0, 0];
  return Uint8Array.of(...head, ...payload);
}

/** The number of the last request; when it is answered, nothing more is to come. */
const lastId = 4;

/**
 * Has Node close its inspector when the event loop turns: it opens it once more then, where it was closed before. The global
 * `process` may be a fake, which closes nothing.
 */
const closing = 'process.getBuiltinModule("node:timers").setImmediate(process._debugEnd)';

/** One session, over connections made by `connect`. */
export class InspectorSession {
  readonly #connect: () => Promise<Stream>;
  /** The present connection. */
  #stream: Stream | null = null;
  #incoming!: Incoming;
  /** Lets the process go on. Its beginning is padding; see `stack`. */
  readonly #last: Uint8Array;
  readonly #padding: number = 0;
  #sent = 0;
  /** Where the WebSocket begins: before, `#last` would make no sense. */
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
    // The debugger first: a pause that is still to come would come in the expression, and Node would never leave it.
    this.#last = Uint8Array.of(
      ...frame({ id: 3, method: "Debugger.disable" }, paddingBytes),
      ...frame({ id: lastId, method: "Runtime.evaluate", params: { expression: closing } }),
    );
  }

  /** Where the process is, the innermost frame first. It stands still from then on, until `leave()`. */
  async stack(): Promise<StackFrame[]> {
    await this.#open();
    // Node's inspector sends its many messages one by one, and the kernel there holds the next until the last has been
    // acknowledged, which the kernel here delays by 40 ms as long as we say nothing (measured: 95 ms for a stack, else
    // 40). So each arrival is answered by a byte of `#last`. Deno's has no such delay, and takes no message in pieces.
    const stream = this.#stream!;
    this.#incoming.onData = () => {
      if (this.#sent < this.#padding) stream.write(this.#last.subarray(this.#sent, ++this.#sent));
    };
    stream.write(frame({ id: 1, method: "Debugger.enable" }));
    stream.write(frame({ id: 2, method: "Debugger.pause" }));
    const scripts = new Map<string, Script>();
    return await new Promise<StackFrame[]>((resolve, reject) => {
      this.#hear(({ method, params, error }) => {
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
   * Hears all that is said, up to the last answer. Node's inspector dies of a connection that ends while it has something
   * to say (measured: one in a hundred), and the process with it.
   */
  async #hear(onMessage: (message: Message) => void): Promise<void> {
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
    if (this.#left) throw new Error("it was left");
    this.#upgraded = true;
  }

  async #request(path: string, headers = ""): Promise<void> {
    const stream = this.#stream = await this.#connect();
    this.#incoming = new Incoming(stream);
    if (this.#left) stream.close();
    stream.write(utf8.encode(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers}\r\n`));
  }

  /** Lets the process go on, also one that will notice the session only later. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    if (!this.#upgraded) return this.#stream?.close();
    this.#incoming.onData = () => {};
    this.#stream!.write(this.#last.subarray(this.#sent));
  }
}
