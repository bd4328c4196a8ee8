/**
 * The wire codec: the messages between an active process and its server, and their encoding.
 *
 * A message is a type byte, followed by its fields in the order of the tables below. `hello` and `welcome` carry the protocol
 * version, so that two releases notice if they are not compatible. A decoder trusts nothing: it checks lengths before it
 * allocates memory, and rejects every frame that does not fit the table with MESSAGE_ERROR.
 */
import { SamError } from "../errors.ts";

// Version of the protocol. Both sides must have the same.
export const protocolVersion = 1;

// Largest number of data bytes in a frame. An empty socket or pipe takes that many at once.
export const chunkBytes: number = 60 * 1024;

// Largest size of a note, in bytes.
export const maxNoteBytes: number = 1024;

// Largest size of a frame, in bytes.
export const maxFrameBytes: number = 64 * 1024;

type Kind = "u8" | "u32" | "f64" | "bool" | "text" | "bytes";
type Value<K> = K extends "u8" | "u32" | "f64" ? number
  : K extends "bool" ? boolean
  : K extends "text" ? string
  : K extends "bytes" ? Uint8Array
  : never;
type Schema = Readonly<Record<string, Readonly<Record<string, Kind>>>>;
type Messages<S extends Schema> = {
  [T in keyof S & string]:
    & { readonly type: T }
    & { readonly [F in keyof S[T]]: Value<S[T][F]> };
}[keyof S & string];

/** The messages of the active process. A message with an `id` is a request. Its answer is `done`, `chunk` or `refused`. */
const clientSchema = {
  // The process registers. A non-empty `notice` says why the link is slower than it could be.
  hello: { version: "u8", id: "u32", pid: "u32", notice: "text" },
  start: { id: "u32" },
  stop: { id: "u32" },
  finalize: { id: "u32" },
  markFailed: { id: "u32" },
  setWarnSignal: { id: "u32", signal: "text" },
  // One part of the data. The last part, which ends at `total`, replaces the previous data.
  store: { id: "u32", total: "f64", offset: "f64", bytes: "bytes" },
  fetch: { id: "u32", offset: "f64" },
  checkBegin: {},
  checkEnd: { healthy: "bool", detail: "text" },
  // How the stack of this process can be captured while its event loop is blocked (see `Runtime.stackAccess`).
  stackAccess: { how: "text" },
  // A note of the program: what it is about to do. The last note is part of the evidence.
  note: { text: "text" },
  // The program listens on an address. `isHeld` is true if it uses a socket of the server. `drains` is true if the process can
  // finish its requests and then end by itself: see `warn`. `checkPort` is not 0 if the process accepts no connections at the
  // address before the message `accept`. Until then, it answers health checks at this port of 127.0.0.1.
  listens: { address: "text", isHeld: "bool", drains: "bool", checkPort: "u32" },
  // Sent before the hello of a preload below a wrapper. The program itself knows nothing of the server.
  belowWrapper: {},
  // With `healthy` false, HTTP requests wait, and none has finished for the time `progressLimit` of `welcome`. `detail` describes
  // them. With `healthy` true, one has finished again, or none waits any more.
  progress: { healthy: "bool", detail: "text" },
  // The process is about to start a worker of node:cluster, which will connect with this key. Or, with `hasEnded`, it has ended.
  member: { key: "text", hasEnded: "bool" },
} as const;

/** The messages of the server. */
const serverSchema = {
  // The answer to `hello`: the instance id, and the options of the server, which replace those of the program.
  welcome: {
    version: "u8",
    id: "u32",
    instanceId: "u32",
    first: "bool",
    timeInterval: "u32",
    heartbeatWindow: "f64",
    warnSignal: "text",
    dataSize: "f64",
    maxDataSize: "f64",
    exitWhenLost: "bool",
    captureStack: "bool",
    hasQuorum: "bool",
    hasClusterMap: "bool",
    // Milliseconds without a finished HTTP request after which the process sends `progress`. With 0, it counts no requests.
    progressLimit: "u32",
  },
  // The process is a spare. Its `welcome` follows when it is promoted.
  parked: { id: "u32" },
  done: { id: "u32" },
  chunk: { id: "u32", bytes: "bytes" },
  refused: { id: "u32", code: "text", message: "text" },
  // The instance is about to be ended. The warn signal follows. Exception: if `drain` names a signal, the process first finishes
  // its requests, and then sends itself that signal.
  warn: { reason: "text", detail: "text", drain: "text" },
  // The replacement takes over: from now on, it accepts connections.
  accept: {},
} as const;

/** A message of the active process to its server. */
export type ClientMessage = Messages<typeof clientSchema>;
/** A message of the server to its active process. */
export type ServerMessage = Messages<typeof serverSchema>;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Longer texts are cut, not refused: they are evidence for people. */
const maxTextBytes = 4096;

function encode(schema: Schema, message: { readonly type: string }): Uint8Array {
  const fields = Object.entries(schema[message.type]!);
  const values = message as unknown as Readonly<Record<string, unknown>>;
  const parts: Uint8Array[] = [Uint8Array.of(Object.keys(schema).indexOf(message.type))];
  for (const [name, kind] of fields) parts.push(encodeField(kind, values[name]));
  const frame = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

function encodeField(kind: Kind, value: unknown): Uint8Array {
  if (kind === "bytes") return value as Uint8Array;
  if (kind === "text") {
    let text = utf8.encode(value as string);
    if (text.length > maxTextBytes) {
      text = utf8.encode(new TextDecoder().decode(text.subarray(0, maxTextBytes - 8)));
    }
    const part = new Uint8Array(2 + text.length);
    new DataView(part.buffer).setUint16(0, text.length);
    part.set(text, 2);
    return part;
  }
  const part = new Uint8Array(fieldBytes[kind]);
  const view = new DataView(part.buffer);
  if (kind === "f64") view.setFloat64(0, value as number);
  else if (kind === "u32") view.setUint32(0, value as number);
  else view.setUint8(0, Number(value));
  return part;
}

const fieldBytes = { u8: 1, bool: 1, u32: 4, f64: 8, text: 2, bytes: 0 } as const;

function decode(schema: Schema, frame: Uint8Array): { type: string } & Record<string, unknown> {
  const type = Object.keys(schema)[frame[0] ?? -1];
  if (type === undefined) throw malformed(`unknown message type ${frame[0]}`);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const message: { type: string } & Record<string, unknown> = { type };
  let at = 1;
  for (const [name, kind] of Object.entries(schema[type]!)) {
    if (at + fieldBytes[kind] > frame.length) throw malformed(`"${type}" ends before "${name}"`);
    if (kind === "bytes") {
      message[name] = frame.subarray(at);
      at = frame.length;
    } else if (kind === "text") {
      const end = at + 2 + view.getUint16(at);
      if (end > frame.length) throw malformed(`"${type}" ends inside "${name}"`);
      try {
        message[name] = fromUtf8.decode(frame.subarray(at + 2, end));
      } catch {
        throw malformed(`"${name}" of "${type}" is not UTF-8`);
      }
      at = end;
    } else {
      message[name] = kind === "f64"
        ? view.getFloat64(at)
        : kind === "u32"
        ? view.getUint32(at)
        : kind === "u8"
        ? view.getUint8(at)
        : view.getUint8(at) !== 0;
      at += fieldBytes[kind];
    }
  }
  if (at !== frame.length) throw malformed(`"${type}" has ${frame.length - at} extra bytes`);
  return message;
}

function malformed(what: string): SamError {
  return new SamError(
    "MESSAGE_ERROR",
    `malformed frame: ${what}. Use the same version of @x/sam on both sides.`,
  );
}

export function encodeClient(message: ClientMessage): Uint8Array {
  return encode(clientSchema, message);
}

/** Decodes a message of the active process. Throws MESSAGE_ERROR. */
export function decodeClient(frame: Uint8Array): ClientMessage {
  return decode(clientSchema, frame) as unknown as ClientMessage;
}

export function encodeServer(message: ServerMessage): Uint8Array {
  return encode(serverSchema, message);
}

/** Decodes a message of the server. Throws MESSAGE_ERROR. */
export function decodeServer(frame: Uint8Array): ServerMessage {
  return decode(serverSchema, frame) as unknown as ServerMessage;
}

/** A heartbeat in a byte stream. A single byte cannot be written in part. */
export const heartbeatByte: Uint8Array = Uint8Array.of(0);

/** Size of the head of a frame in a byte stream: a byte that differs from a heartbeat, and the length. */
const headBytes = 5;

/** Adds the head to a frame, for a byte stream. */
export function envelope(frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(headBytes + frame.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 1);
  view.setUint32(1, frame.length);
  bytes.set(frame, headBytes);
  return bytes;
}

/** Reads frames and heartbeats from a byte stream that arrives in pieces of any size. */
export class FrameReader {
  /** The head that is being read. */
  readonly #head: Uint8Array = new Uint8Array(headBytes);
  #headLength = 0;
  /** The frame that is being read; null between frames. */
  #frame: Uint8Array | null = null;
  #frameLength = 0;

  /** Calls `onFrame` and `onHeartbeat` in the order of arrival. Throws MESSAGE_ERROR for a malformed stream. */
  push(bytes: Uint8Array, onFrame: (frame: Uint8Array) => void, onHeartbeat: () => void): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#frame) {
        const more = bytes.subarray(at, at + this.#frame.length - this.#frameLength);
        this.#frame.set(more, this.#frameLength);
        this.#frameLength += more.length;
        at += more.length;
        if (this.#frameLength < this.#frame.length) return;
        const frame = this.#frame;
        this.#frame = null;
        onFrame(frame);
      } else if (this.#headLength === 0 && bytes[at] === 0) {
        while (bytes[at] === 0) at++; // several heartbeats in a row count as one
        onHeartbeat();
      } else this.#readHead(bytes[at++]!);
    }
  }

  #readHead(byte: number): void {
    if (this.#headLength === 0 && byte !== 1) throw malformed(`stray byte ${byte} between frames`);
    this.#head[this.#headLength++] = byte;
    if (this.#headLength < headBytes) return;
    const length = new DataView(this.#head.buffer).getUint32(1);
    if (length === 0 || length > maxFrameBytes) throw malformed(`invalid frame length ${length}`);
    this.#headLength = 0;
    this.#frame = new Uint8Array(length);
    this.#frameLength = 0;
  }
}
