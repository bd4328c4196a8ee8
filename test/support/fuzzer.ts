// Makes frames that no client sends: random bytes, good frames with bytes changed, removed or added, and well-formed
// messages with absurd values. One seed always gives the same frames.

import { ok as assert } from "node:assert/strict";
import {
  type ClientMessage,
  decodeClient,
  decodeServer,
  encodeClient,
  encodeServer,
  envelope,
  FrameReader,
} from "../../src/core/wire.ts";
import { SamError } from "../../src/errors.ts";
import { Bench, settings } from "./core_bench.ts";
import { Dice } from "./sim_plan.ts";

const numbers = [0, -0, -1, 0.5, 1, 255, 4096, 2 ** 31, 2 ** 32 - 1, 2 ** 52, 1e308, NaN, Infinity];
const texts = ["", "SIGKILL", "SIGSTOP", "__proto__", "\u0000", "é".repeat(2000), "x".repeat(9000)];

/** A source of frames. */
export class Fuzzer {
  readonly #dice: Dice;

  constructor(seed: number) {
    this.#dice = new Dice(seed);
  }

  /** A message with arbitrary field values. None of them ends the process that sends it. */
  absurd(): ClientMessage {
    const dice = this.#dice;
    const number = () => dice.oneOf(...numbers);
    const text = () => dice.oneOf(...texts);
    const id = number();
    switch (dice.upTo(5)) {
      case 0:
        return { type: "hello", version: dice.upTo(255), id, pid: number(), notice: text() };
      case 1:
        return { type: "setWarnSignal", id, signal: text() };
      case 2:
        return { type: "fetch", id, offset: number() };
      case 3:
        return { type: "checkEnd", healthy: true, detail: text() };
      case 4:
        return { type: "markFailed", id };
      default: {
        const bytes = new Uint8Array(dice.oneOf(0, 1, 100, 60_000));
        return { type: "store", id, total: number(), offset: number(), bytes };
      }
    }
  }

  /** A frame of any kind. */
  frame(): Uint8Array {
    const dice = this.#dice;
    if (dice.once(3)) return this.#noise(1 + dice.upTo(80));
    const good = dice.once(2)
      ? encodeClient(this.absurd())
      : encodeServer({ type: "refused", id: 1, code: "x", message: dice.oneOf(...texts) });
    const bad = new Uint8Array(Math.min(good.length, 200) + dice.upTo(3));
    bad.set(good.subarray(0, bad.length));
    for (let left = dice.upTo(4); left > 0; left--) bad[dice.upTo(bad.length - 1)] = dice.upTo(255);
    return bad.subarray(0, dice.once(3) ? 1 + dice.upTo(bad.length - 1) : bad.length);
  }

  #noise(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.#dice.upTo(255));
  }
}

/**
 * Decodes frames, and a stream of them, and feeds valid messages to a server's core. Throws if a frame is neither a
 * message nor a MESSAGE_ERROR, or if the server breaks a rule.
 */
export class Decoding {
  /** Number of frames that were valid messages. */
  messages = 0;
  readonly #fuzzer: Fuzzer;
  #reader = new FrameReader();
  #bench: Bench | undefined;

  constructor(seed: number) {
    this.#fuzzer = new Fuzzer(seed);
  }

  /** A server in the state `started` gets messages until supervision or the instance ends. */
  #hear(message: ClientMessage): void {
    this.#bench ??= new Bench().start();
    this.#bench.say(message);
    this.#bench.now++;
    assert(this.#bench.server.dataSize <= settings.maxDataSize);
    if (this.#bench.state !== "started" || this.#bench.log.length > 1000) this.#bench = undefined;
  }

  /** Decodes this many more frames. */
  run(count: number): void {
    for (let left = count; left > 0; left--) {
      const frame = this.#fuzzer.frame();
      attempt(() => {
        const message = decodeClient(frame);
        this.messages++;
        this.#hear(message);
      });
      attempt(() => decodeServer(frame));
      // A malformed stream ends, and the next one begins.
      try {
        this.#reader.push(left % 3 === 0 ? envelope(frame) : frame, () => {}, () => {});
      } catch (error) {
        if (!(error instanceof SamError)) throw error;
        this.#reader = new FrameReader();
      }
    }
  }
}

function attempt(act: () => unknown): void {
  try {
    act();
  } catch (error) {
    if (error instanceof SamError && error.code === "MESSAGE_ERROR") return;
    throw error;
  }
}
