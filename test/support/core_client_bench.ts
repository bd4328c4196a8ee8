// Runs the active process's core on a virtual clock. A test gives the server's answers by hand, or lets a simple
// stand-in give them.

import { assert, fail } from "@std/assert";
import { Client } from "../../src/core/client/machine.ts";
import type { ClientEffect, ClientInput } from "../../src/core/client/types.ts";
import {
  chunkBytes,
  type ClientMessage,
  protocolVersion,
  type ServerMessage,
} from "../../src/core/wire.ts";

export const T = 100;

type Welcome = ServerMessage & { readonly type: "welcome" };
type Call = Extract<ClientInput, { readonly id: number }>;
/** A call, without its id. */
export type Asked = Call extends infer C ? C extends Call ? Omit<C, "id"> : never : never;
type Sent<K> = ClientMessage & { readonly type: K };

export const welcome: Welcome = {
  type: "welcome",
  version: protocolVersion,
  id: 0,
  instanceId: 1,
  first: true,
  timeInterval: T,
  heartbeatWindow: 0,
  warnSignal: "SIGTERM",
  dataSize: 0,
  maxDataSize: 1e6,
  exitWhenLost: true,
  hasQuorum: false,
  captureStack: true,
  hasClusterMap: false,
  progressLimit: 0,
};

/** A client, its clock and the results of its calls. */
export class ClientBench {
  readonly client: Client = new Client({ timeInterval: T, maxDataSize: 1e6 });
  now = 1000;
  last: readonly ClientEffect[] = [];
  /** By call id: "resolved", or the code it was rejected with. */
  readonly settled: Map<number, string> = new Map();
  readonly calls: Set<number> = new Set();
  /** Requests that have no answer yet. */
  readonly unanswered: ClientMessage[] = [];
  #connected = false;
  #lastCall = 0;

  get state(): string {
    return this.client.state;
  }

  feed(input: ClientInput): readonly ClientEffect[] {
    if (input.type === "register") this.#connected = true;
    if (input.type === "linkEnd") this.#connected = false;
    this.last = this.client.step(input, this.now);
    for (const effect of this.last) this.#note(effect);
    return this.last;
  }

  #note(effect: ClientEffect): void {
    if (effect.type === "resolve" || effect.type === "reject") {
      assert(this.calls.has(effect.id), `call ${effect.id} was never made`);
      if (this.settled.has(effect.id)) fail(`call ${effect.id} settled twice`);
      this.settled.set(effect.id, effect.type === "resolve" ? "resolved" : effect.code);
    } else if (effect.type === "send") {
      assert(this.#connected, `${effect.message.type} without a link`);
      if ("id" in effect.message) this.unanswered.push(effect.message);
    } else if (effect.type === "disconnect") this.#connected = false;
  }

  /** Makes a call; returns its id. */
  call(asked: Asked): number {
    if (asked.type === "register" && this.state === "initialized") this.feed({ type: "connect" });
    const id = ++this.#lastCall;
    this.calls.add(id);
    this.feed({ ...asked, id } as ClientInput);
    return id;
  }

  /** Sends the server's answer to the oldest request: `done`, unless the test gives another one. */
  answer(answer: Partial<ServerMessage> & { type?: ServerMessage["type"] } = {}): ClientMessage {
    const request = this.unanswered.shift();
    assert(request && "id" in request, "nothing to answer");
    const message = { type: "done", ...answer, id: request.id } as ServerMessage;
    this.feed({ type: "message", message });
    return request;
  }

  refuse(code = "BAD_HANDLE"): ClientMessage {
    return this.answer({ type: "refused", code, message: "no" });
  }

  /** Answers all open requests, as a server that has stored `data` does. */
  answerAll(data: Uint8Array = new Uint8Array(0), some: Partial<Welcome> = {}): void {
    while (this.unanswered.length > 0) {
      const request = this.unanswered[0]!;
      if (request.type === "hello") this.answer({ ...welcome, dataSize: data.length, ...some });
      else if (request.type === "fetch") {
        const bytes = data.subarray(request.offset, request.offset + chunkBytes);
        this.answer({ type: "chunk", bytes });
      } else this.answer();
    }
  }

  sent(): ClientMessage[] {
    return this.last.flatMap((effect) => effect.type === "send" ? [effect.message] : []);
  }

  ofType<K extends ClientMessage["type"]>(type: K): Sent<K>[] {
    return this.sent().filter((message): message is Sent<K> => message.type === type);
  }

  count(type: ClientEffect["type"]): number {
    return this.last.filter((effect) => effect.type === type).length;
  }

  abort(): { code: string; message: string } | undefined {
    return this.last.find((effect) => effect.type === "abort");
  }

  /** Lets this time pass, with punctual ticks. The effects are in `last`. */
  pass(ms: number): void {
    const done: ClientEffect[] = [];
    const end = this.now + ms;
    for (let ticks = 0;; ticks++) {
      assert(ticks < 100_000, "ticks without end");
      const due = this.client.deadline;
      if (due === undefined || due > end) break;
      this.now = Math.max(this.now, due);
      done.push(...this.feed({ type: "tick" }));
    }
    this.now = end;
    this.last = done;
  }

  register(some: Partial<Welcome> = {}, linkStoresData = false): this {
    this.call({ type: "register", pid: 7, notice: "", linkStoresData });
    this.answerAll(undefined, some);
    return this;
  }

  start(): this {
    this.register().call({ type: "start" });
    this.answerAll();
    return this;
  }

  /** Starts with a health check. */
  check(): this {
    this.register().feed({ type: "useHealthCheck", on: true });
    this.call({ type: "start" });
    this.answerAll();
    return this;
  }
}
