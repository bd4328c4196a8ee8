// The wire codec: every message, streams cut at any place, and frames of a broken peer.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as fc from "fast-check";
import {
  type ClientMessage,
  decodeClient,
  decodeServer,
  encodeClient,
  encodeServer,
  envelope,
  FrameReader,
  heartbeatByte,
  maxFrameBytes,
  protocolVersion,
  type ServerMessage,
} from "../../src/core/wire.ts";
import { SamError } from "../../src/errors.ts";
import { test } from "../support/harness.ts";
import { checked, runs } from "../support/property.ts";

const u8 = fc.integer({ min: 0, max: 255 });
const u32 = fc.nat({ max: 2 ** 32 - 1 });
const f64 = fc.double();
const text = fc.string({ unit: "binary", maxLength: 60 });
const bytes = fc.uint8Array({ maxLength: 200 });
const bool = fc.boolean();
/** The message with an ordinary prototype, as the decoder returns it. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record<T>(model, { noNullPrototype: true });
const is = <const T extends string>(type: T) => fc.constant(type);

const clientMessages = {
  hello: record({ type: is("hello"), version: u8, id: u32, pid: u32, notice: text }),
  start: record({ type: is("start"), id: u32 }),
  stop: record({ type: is("stop"), id: u32 }),
  finalize: record({ type: is("finalize"), id: u32 }),
  markFailed: record({ type: is("markFailed"), id: u32 }),
  setWarnSignal: record({ type: is("setWarnSignal"), id: u32, signal: text }),
  store: record({ type: is("store"), id: u32, total: f64, offset: f64, bytes }),
  fetch: record({ type: is("fetch"), id: u32, offset: f64 }),
  checkBegin: record({ type: is("checkBegin") }),
  checkEnd: record({ type: is("checkEnd"), healthy: bool, detail: text }),
  stackAccess: record({ type: is("stackAccess"), how: text }),
  note: record({ type: is("note"), text }),
  listens: record({
    type: is("listens"),
    address: text,
    isHeld: bool,
    drains: bool,
    checkPort: u32,
  }),
  belowWrapper: record({ type: is("belowWrapper") }),
  progress: record({ type: is("progress"), healthy: bool, detail: text }),
  member: record({ type: is("member"), key: text, hasEnded: bool }),
} satisfies { [T in ClientMessage["type"]]: fc.Arbitrary<ClientMessage & { type: T }> };

const serverMessages = {
  welcome: record({
    type: is("welcome"),
    version: u8,
    id: u32,
    instanceId: u32,
    first: bool,
    timeInterval: u32,
    heartbeatWindow: f64,
    warnSignal: text,
    dataSize: f64,
    maxDataSize: f64,
    exitWhenLost: bool,
    captureStack: bool,
    hasQuorum: bool,
    hasClusterMap: bool,
    progressLimit: u32,
  }),
  parked: record({ type: is("parked"), id: u32 }),
  done: record({ type: is("done"), id: u32 }),
  chunk: record({ type: is("chunk"), id: u32, bytes }),
  refused: record({ type: is("refused"), id: u32, code: text, message: text }),
  warn: record({ type: is("warn"), reason: text, detail: text, drain: text }),
  accept: record({ type: is("accept") }),
} satisfies { [T in ServerMessage["type"]]: fc.Arbitrary<ServerMessage & { type: T }> };

const client: fc.Arbitrary<ClientMessage> = fc.oneof(...Object.values(clientMessages));
const server: fc.Arbitrary<ServerMessage> = fc.oneof(...Object.values(serverMessages));
const frame: fc.Arbitrary<Uint8Array> = fc.oneof(
  client.map(encodeClient),
  server.map(encodeServer),
);

/** Decodes a frame, and checks that an error is MESSAGE_ERROR. */
function survives(decode: () => unknown): void {
  try {
    decode();
  } catch (error) {
    assert(error instanceof SamError && error.code === "MESSAGE_ERROR", String(error));
    assert(error.message.length < 500);
  }
}

/** The frames and heartbeats that a reader finds in a stream of these pieces. */
function read(...pieces: Uint8Array[]): (Uint8Array | "heartbeat")[] {
  const reader = new FrameReader();
  const got: (Uint8Array | "heartbeat")[] = [];
  for (const piece of pieces) {
    reader.push(piece, (each) => got.push(each), () => got.push("heartbeat"));
  }
  return got;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

test("core frame: every message is decoded as it was encoded", () => {
  for (const message of Object.values(clientMessages) as fc.Arbitrary<ClientMessage>[]) {
    checked(message, (sent) => assertEquals(decodeClient(encodeClient(sent)), sent));
  }
  for (const message of Object.values(serverMessages) as fc.Arbitrary<ServerMessage>[]) {
    checked(message, (sent) => assertEquals(decodeServer(encodeServer(sent)), sent));
  }
});

test("core frame: hello and welcome carry the version as their first byte after the type", () => {
  const hello = encodeClient({
    type: "hello",
    version: protocolVersion,
    id: 1,
    pid: 2,
    notice: "",
  });
  assertEquals([...hello], [0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
  checked(serverMessages.welcome, (welcome) => {
    assertEquals([...encodeServer(welcome).subarray(0, 2)], [0, welcome.version]);
  });
});

test("core frame: the offset of a frame in its buffer does not matter", () => {
  checked(client, fc.nat({ max: 20 }), (message, offset) => {
    const sent = encodeClient(message);
    const memory = new Uint8Array(sent.length + 40).fill(255);
    memory.set(sent, offset);
    assertEquals(decodeClient(memory.subarray(offset, offset + sent.length)), message);
  });
});

test("core frame: a stream may be cut at any place", () => {
  const item = fc.oneof(frame, fc.constant(heartbeatByte));
  checked(
    fc.array(item, { maxLength: 12 }),
    fc.array(fc.nat({ max: 70 }), { maxLength: 40 }),
    (items, sizes) => {
      const stream = join(items.map((each) => each === heartbeatByte ? each : envelope(each)));
      const pieces: Uint8Array[] = [];
      let at = 0;
      for (const size of sizes) pieces.push(stream.subarray(at, at += size));
      pieces.push(stream.subarray(at));
      const got = read(...pieces);
      const frames = (all: readonly (Uint8Array | "heartbeat")[]) =>
        all.filter((each): each is Uint8Array => typeof each !== "string");
      assertEquals(frames(got), items.filter((each) => each !== heartbeatByte));
      // Several heartbeats in a row may count as one, and must stay between the same frames.
      const runsOf = (all: readonly (Uint8Array | "heartbeat")[]) =>
        all.map((each) => typeof each === "string" ? "b" : "f").join("").replaceAll(/b+/g, "b");
      assertEquals(
        runsOf(got),
        runsOf(items.map((each) => each === heartbeatByte ? "heartbeat" : each)),
      );
    },
  );
});

test("core frame: byte by byte", () => {
  const one = encodeServer({ type: "warn", reason: "timeout", detail: "x", drain: "" });
  const stream = join([heartbeatByte, envelope(one), heartbeatByte, heartbeatByte, envelope(one)]);
  const got = read(...[...stream].map((byte) => Uint8Array.of(byte)));
  assertEquals(got, ["heartbeat", one, "heartbeat", "heartbeat", one]);
});

test("core frame: overwriting the buffer of a frame does not change the frame", () => {
  const sent = encodeServer({ type: "chunk", id: 1, bytes: Uint8Array.of(1, 2, 3) });
  const buffer = envelope(sent);
  const [got] = read(buffer);
  buffer.fill(0);
  assertEquals(got, sent);
});

test("core frame: random bytes give a message or a MESSAGE_ERROR", () => {
  runs(2000, fc.uint8Array({ maxLength: 80 }), (random) => {
    survives(() => decodeClient(random));
    survives(() => decodeServer(random));
    survives(() => read(random));
  });
});

test("core frame: shortened, lengthened and mutated frames give a message or a MESSAGE_ERROR", () => {
  const change = fc.record({ at: fc.nat(), to: u8, cut: fc.nat(), add: fc.nat({ max: 3 }) });
  runs(2000, frame, change, (good, { at, to, cut, add }) => {
    const long = new Uint8Array(good.length + add);
    long.set(good);
    long[at % long.length] = to;
    for (
      const bad of [long, long.subarray(0, cut % long.length), good.subarray(0, at % good.length)]
    ) {
      survives(() => decodeClient(bad));
      survives(() => decodeServer(bad));
      survives(() => read(envelope(bad)));
      survives(() => read(bad));
    }
  });
});

test("core frame: the error names an unknown type, a missing field, extra bytes and broken UTF-8", () => {
  const cases: readonly [number[], RegExp][] = [
    [[], /unknown message type/],
    [[200], /unknown message type 200/],
    [[1, 0, 0, 0], /"start" ends before "id"/],
    [[1, 0, 0, 0, 1, 9], /"start" has 1 extra bytes/],
    [[5, 0, 0, 0, 1, 0, 9, 65], /"setWarnSignal" ends inside "signal"/],
    [[5, 0, 0, 0, 1, 0, 1, 255], /"signal" of "setWarnSignal" is not UTF-8/],
  ];
  for (const [bad, message] of cases) {
    const error = assertThrows(() => decodeClient(Uint8Array.from(bad)), SamError);
    assertEquals(error.code, "MESSAGE_ERROR");
    assert(message.test(error.message), error.message);
  }
});

test("core frame: a length is checked before memory is allocated or more bytes are awaited", () => {
  for (const length of [0, maxFrameBytes + 1, 2 ** 31, 2 ** 32 - 1]) {
    const head = envelope(new Uint8Array(0));
    new DataView(head.buffer).setUint32(1, length);
    const error = assertThrows(() => read(head), SamError);
    assertEquals(error.code, "MESSAGE_ERROR");
  }
  const largest = new Uint8Array(maxFrameBytes).fill(7);
  assertEquals(read(envelope(largest)), [largest]);
  const stray = assertThrows(() => read(Uint8Array.of(0, 0, 2)), SamError);
  assertEquals(stray.code, "MESSAGE_ERROR");
});

test("core frame: the codec allocates no memory for an announced data size", () => {
  const huge = {
    type: "store",
    id: 1,
    total: 2 ** 52,
    offset: 2 ** 51,
    bytes: Uint8Array.of(1),
  } as const;
  assertEquals(decodeClient(encodeClient(huge)), huge);
});

test("core frame: text over 4 KiB is shortened, and remains valid UTF-8", () => {
  for (const letter of ["a", "ä", "€", "😀"]) {
    const detail = letter.repeat(5000);
    const sent = encodeServer({ type: "warn", reason: "unhealthy", detail, drain: "" });
    assert(sent.length < 4096 + 100);
    const got = decodeServer(sent);
    assert(got.type === "warn");
    assert(got.detail.length > 1000);
    assert(detail.startsWith(got.detail.replace(/\ufffd$/, "")));
  }
  const whole = "x".repeat(4096);
  const got = decodeServer(encodeServer({ type: "warn", reason: whole, detail: "", drain: "" }));
  assert(got.type === "warn" && got.reason === whole);
});

test("core frame: the longest messages fit into a frame", () => {
  const long = "€".repeat(100_000);
  const refused = encodeServer({ type: "refused", id: 1, code: long, message: long });
  assert(refused.length < maxFrameBytes);
  const store = encodeClient({
    type: "store",
    id: 1,
    total: 1e9,
    offset: 0,
    bytes: new Uint8Array(32 * 1024),
  });
  assert(store.length < maxFrameBytes);
});
