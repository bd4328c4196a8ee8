/**
 * The active process: the state machine behind `Sam`. Calls, messages and ticks in, effects out, `now` an argument.
 *
 * Theory of operation. `callable` says which call is allowed in which state. A call that needs the server becomes a
 * request with an id, which is settled by the server's answer, by the end of the link, or by its deadline. Between
 * request and answer the state has a name of its own, so that a second `start()` before the first is answered is refused
 * like any other call out of turn. With a health check the machine also keeps the two rhythms of rule 7: confirmations
 * of the event loop, and calls of the check, never two at once.
 */
import type { SamErrorCode } from "../../errors.ts";
import type { ClientEffect, ClientInput, ClientSettings, ClientState } from "./types.ts";
import { chunkBytes, type ClientMessage, protocolVersion, type ServerMessage } from "../wire.ts";
import { HealthRhythm } from "./health_schedule.ts";
import type { Signal } from "../signals.ts";

/** The calls of `Sam` that depend on the state. */
export type Call =
  | "register"
  | "setHealthCheck"
  | "start"
  | "stop"
  | "heartbeat"
  | "setWarnSignal"
  | "data.size"
  | "data.store"
  | "data.restore"
  | "note"
  | "markFailed"
  | "finalize";

const open: readonly ClientState[] = [
  "initialized",
  "registering",
  "registered",
  "starting",
  "started",
  "stopping",
];

/**
 * Which call is allowed where; anywhere else it is BAD_HANDLE. `heartbeat()` comes from timers, which do not know that
 * `stop()` waits for its answer: it must not be what ends the program.
 */
export const callable: Readonly<Record<Call, readonly ClientState[]>> = {
  register: ["initialized"],
  setHealthCheck: ["registered"],
  start: ["registered"],
  stop: ["started"],
  heartbeat: ["started", "stopping"],
  setWarnSignal: open,
  "data.size": open,
  "data.store": open,
  "data.restore": open,
  note: open,
  markFailed: ["registered", "started"],
  finalize: open,
};

interface Request {
  /** The caller's id, or null for one of our own. */
  readonly call: number | null;
  readonly deadline: number;
  readonly then: (answer: ServerMessage, now: number) => void;
  /** Undoes what the call had begun, when it fails. */
  readonly otherwise: (now: number) => void;
  /** The message that takes the call back at a server that carries it out after its TIMEOUT. */
  readonly undo?: "start" | "stop" | undefined;
}

/** The server has this long to answer; `start()` while it waits for quorum has no limit. */
export const answerMs = 10_000;

const errorCodes: readonly string[] = [
  "INVALID_PARAM",
  "BAD_HANDLE",
  "TOO_BIG",
  "NO_MEMORY",
  "INTERRUPT",
  "MESSAGE_ERROR",
  "ACCESS",
  "NOT_SUPPORTED",
  "TRY_AGAIN",
];

/** The active process of a program. */
export class Client {
  /** Where it is. */
  state: ClientState = "initialized";
  /** Which instance this is; null before it has registered. */
  instanceId: number | null = null;
  /** The time interval in force. */
  timeInterval: number;
  /** A second heartbeat within so many milliseconds may be left out. */
  heartbeatWindow = 0;
  /** What the server last acknowledged (before `register()`: what was stored here). */
  data: Uint8Array = new Uint8Array(0);
  /** The most bytes that may be stored. */
  maxDataSize: number;
  /** Whether the server has a cluster map; undefined before it is known. */
  hasClusterMap: boolean | undefined;
  /** Whether the server wants to know how the stack of a blocked loop can be had. */
  captureStack = false;
  /** Whether the process is to end when the server is gone. */
  exitWhenLost = true;
  /** Whether a health check was ever set. */
  hadHealthCheck = false;

  #warnSignal: Signal | null = null;
  #effects: ClientEffect[] = [];
  #requests = new Map<number, Request>();
  #lastId = 0;
  #hasQuorum = false;
  #linked = false;
  /** The link keeps data without a message. */
  #keeps = false;
  #stores: { id: number; bytes: Uint8Array }[] = [];
  /** Calls made while `register()` waits for the server: carried out after it. */
  #deferred: (ClientInput & { readonly type: "setWarnSignal" | "store" })[] = [];
  /** The call of `finalize()`, while it waits. */
  #finalizeCall: number | null = null;
  /** A spare that waits for its promotion. */
  #parked = false;
  readonly #health = new HealthRhythm((effect) => this.#effects.push(effect));

  constructor(settings: ClientSettings) {
    this.timeInterval = settings.timeInterval;
    this.maxDataSize = settings.maxDataSize;
  }

  /** When the next tick is due; undefined for never. */
  get deadline(): number | undefined {
    let at = Infinity;
    for (const request of this.#requests.values()) at = Math.min(at, request.deadline);
    at = Math.min(at, this.#health.deadline);
    return at === Infinity ? undefined : at;
  }

  /** The id of the last request. */
  get lastId(): number {
    return this.#lastId;
  }

  /** Whether a call of the program waits for an answer. */
  get waiting(): boolean {
    return this.#requests.size > 0;
  }

  /** Whether a store is carried out within its step, so that its bytes need not be copied before. */
  get keepsAtOnce(): boolean {
    return this.#keeps && this.#linked && this.state !== "registering";
  }

  /** Takes one input and returns what must be done, in this order. Calls must be allowed by `callable`. */
  step(input: ClientInput, now: number): readonly ClientEffect[] {
    this.#take(input, now);
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #take(input: ClientInput, now: number): void {
    switch (input.type) {
      case "register":
        this.#keeps = input.keeps ?? false;
        this.#lastId = input.lastId ?? 0;
        this.#register(input.id, input.pid, input.notice, now);
        break;
      case "start":
        this.#start(input.id, now);
        break;
      case "interruptStart":
        this.#interruptStart(input.id, now);
        break;
      case "stop":
        this.#stop(input.id, now);
        break;
      case "finalize":
        this.#finalize(input.id, now);
        break;
      case "markFailed":
        this.#request(
          input.id,
          (id) => ({ type: "markFailed", id }),
          now,
          () => this.#resolve(input.id),
        );
        break;
      case "setWarnSignal":
        if (this.#defers) this.#deferred.push(input);
        else this.#setWarnSignal(input.id, input.signal, now);
        break;
      case "store":
        if (this.#defers) this.#deferred.push(input);
        else this.#store(input.id, input.bytes, now);
        break;
      case "unkept":
        this.#keeps = false;
        this.#store(input.id, input.bytes, now);
        break;
      case "useHealthCheck":
        this.#health.on = input.on;
        this.hadHealthCheck ||= input.on;
        break;
      case "checked":
        this.#health.answered(input.healthy, input.detail, now);
        break;
      case "message":
        this.#receive(input.message, now);
        break;
      case "linkEnd":
        this.#lose(input.detail, now);
        break;
      case "tick":
        this.#tick(now);
    }
  }

  // The calls.

  #register(call: number, pid: number, notice: string, now: number): void {
    this.state = "registering";
    this.#linked = true;
    const hello = (id: number): ClientMessage => ({
      type: "hello",
      version: protocolVersion,
      id,
      pid,
      notice,
    });
    const back = (then: number) => this.#unregister(then);
    this.#request(call, hello, now, (answer, then) => {
      if (answer.type !== "welcome" || answer.version !== protocolVersion) {
        back(then);
        return this.#reject(
          call,
          "MESSAGE_ERROR",
          "the server did not answer a hello with a welcome of this version",
        );
      }
      const data = answer.first ? this.data : allocate(answer.dataSize, answer.maxDataSize);
      if (data === undefined) {
        back(then);
        return this.#reject(call, "NO_MEMORY", `no memory for ${answer.dataSize} bytes of data`);
      }
      this.#parked = false;
      this.instanceId = answer.instanceId;
      this.timeInterval = answer.timeInterval;
      this.heartbeatWindow = answer.heartbeatWindow;
      this.maxDataSize = answer.maxDataSize;
      this.hasClusterMap = answer.hasClusterMap;
      this.captureStack = answer.captureStack;
      this.#hasQuorum = answer.hasQuorum;
      this.exitWhenLost = answer.exitWhenLost;
      if (answer.first) this.#handOver(call, then);
      else this.#fetch(call, data, 0, then);
    }, back);
  }

  /** Whether calls wait until the server has answered `register()`. */
  get #defers(): boolean {
    return this.state === "registering" && this.#linked;
  }

  #unregister(now: number): void {
    if (this.state !== "registering") return; // finalized meanwhile
    this.state = "initialized";
    this.#linked = false;
    this.#effects.push({ type: "disconnect" });
    this.#catchUp(now);
  }

  /** What was set before `register()` is the first instance's: the server gets it now. */
  #handOver(call: number, now: number): void {
    const store = (from: number) => {
      if (this.data.length === 0) return this.#registered(call, from);
      this.#sendPart(
        call,
        this.data,
        0,
        from,
        (then) => this.#registered(call, then),
        (then) => this.#unregister(then),
      );
    };
    const signal = this.#warnSignal;
    if (signal === null) return store(now);
    this.#request(
      call,
      (id) => ({ type: "setWarnSignal", id, signal }),
      now,
      (_answer, then) => store(then),
      (then) => this.#unregister(then),
    );
  }

  #registered(call: number, now: number): void {
    this.#resolve(call);
    if (this.state !== "registering") return; // finalized meanwhile
    this.state = "registered";
    this.#catchUp(now);
  }

  #catchUp(now: number): void {
    for (const input of this.#deferred.splice(0)) this.#take(input, now);
  }

  /** Gets the data of the predecessor, part by part. */
  #fetch(call: number, into: Uint8Array, offset: number, now: number): void {
    if (offset >= into.length) {
      this.data = into;
      return this.#registered(call, now);
    }
    this.#request(call, (id) => ({ type: "fetch", id, offset }), now, (answer, then) => {
      if (
        answer.type !== "chunk" || answer.bytes.length === 0 ||
        offset + answer.bytes.length > into.length
      ) {
        this.#unregister(then);
        return this.#reject(
          call,
          "MESSAGE_ERROR",
          "the server sent data of another size than it had announced",
        );
      }
      into.set(answer.bytes, offset);
      this.#fetch(call, into, offset + answer.bytes.length, then);
    }, (then) => this.#unregister(then));
  }

  #start(call: number, now: number): void {
    this.state = "starting";
    this.#request(
      call,
      (id) => ({ type: "start", id }),
      this.#hasQuorum ? Infinity : now,
      (_answer, then) => {
        if (this.state === "starting") {
          this.state = "started";
          this.#health.begin(this.timeInterval, then);
        }
        this.#resolve(call);
      },
      () => {
        if (this.state === "starting") this.state = "registered";
      },
      "stop",
    );
  }

  /** What the server has granted meanwhile is taken back: the stop behind the start undoes both a wait and a start. */
  #interruptStart(call: number, now: number): void {
    if (this.state !== "starting") return;
    for (const [id, request] of this.#requests) {
      if (request.call === call) {
        this.#requests.set(id, { ...request, call: null, then: () => {}, otherwise: () => {} });
      }
    }
    this.state = "stopping";
    const back = () => {
      if (this.state === "stopping") this.state = "registered";
    };
    this.#request(call, (id) => ({ type: "stop", id }), now, () => {
      back();
      this.#reject(call, "INTERRUPT", "start() was ended by its AbortSignal");
    }, back);
  }

  #stop(call: number, now: number): void {
    this.state = "stopping";
    this.#health.end();
    this.#request(call, (id) => ({ type: "stop", id }), now, () => {
      if (this.state === "stopping") this.state = "registered";
      this.#resolve(call);
    }, (then) => {
      if (this.state !== "stopping") return;
      this.state = "started";
      if (this.#linked) this.#health.begin(this.timeInterval, then);
    }, "start");
  }

  #finalize(call: number, now: number): void {
    this.#health.end();
    const end = (then: number) => {
      this.state = "finalized";
      this.#linked = false;
      this.#effects.push({ type: "disconnect" });
      this.#rejectAll("BAD_HANDLE", "finalize() ended this handle", then);
    };
    this.state = "finalizing";
    this.#finalizeCall = call;
    if (this.#linked && !this.#parked) {
      this.#request(call, (id) => ({ type: "finalize", id }), now, (_answer, then) => {
        end(then);
        this.#resolve(call);
      }, end); // unanswered, it has been sent: the server reads it before the link's end
    } else {
      end(now);
      this.#resolve(call);
    }
  }

  /** Nothing is with the server yet: what is set is what the first instance begins with. */
  get #isEarly(): boolean {
    return this.state === "initialized" || this.state === "registering";
  }

  #rejectLost(call: number): void {
    this.#reject(call, "LIBRARY", "the server of this process is gone");
  }

  #setWarnSignal(call: number, signal: Signal, now: number): void {
    if (!this.#linked) {
      if (!this.#isEarly) return this.#rejectLost(call);
      this.#warnSignal = signal;
      return this.#resolve(call);
    }
    this.#warnSignal = signal;
    this.#request(
      call,
      (id) => ({ type: "setWarnSignal", id, signal }),
      now,
      () => this.#resolve(call),
    );
  }

  #store(call: number, bytes: Uint8Array, now: number): void {
    if (!this.#linked) {
      if (!this.#isEarly) return this.#rejectLost(call);
      this.data = bytes;
      return this.#resolve(call);
    }
    if (this.keepsAtOnce) return void this.#effects.push({ type: "keep", id: call, bytes });
    this.#stores.push({ id: call, bytes });
    if (this.#stores.length === 1) this.#nextStore(now);
  }

  /**
   * One store at a time, one part at a time: a heartbeat must never queue behind data. Two fill a pipe that Node has made
   * (128 KiB): seven heartbeats later it takes no more, and in a loop that never yields the rest waits for its end.
   */
  #nextStore(now: number): void {
    const store = this.#stores[0];
    if (!store) return;
    const next = (then: number) => {
      this.#stores.shift();
      this.#nextStore(then);
    };
    this.#sendPart(store.id, store.bytes, 0, now, (then) => {
      this.data = store.bytes;
      this.#resolve(store.id);
      next(then);
    }, next);
  }

  #sendPart(
    call: number,
    data: Uint8Array,
    offset: number,
    now: number,
    done: (now: number) => void,
    otherwise: Request["otherwise"] = () => {},
  ): void {
    const bytes = data.subarray(offset, offset + chunkBytes);
    const part = (id: number): ClientMessage => ({
      type: "store",
      id,
      total: data.length,
      offset,
      bytes,
    });
    this.#request(call, part, now, (_answer, then) => {
      const next = offset + bytes.length;
      if (next >= data.length) done(then);
      else this.#sendPart(call, data, next, then, done, otherwise);
    }, otherwise);
  }

  #tick(now: number): void {
    for (const [id, request] of this.#requests) {
      if (request.deadline > now) continue;
      this.#requests.delete(id);
      if (request.undo) this.#send({ type: request.undo, id: this.#nextId() });
      request.otherwise(now);
      if (request.call !== null) {
        this.#reject(
          request.call,
          "TIMEOUT",
          `the server gave no answer within ${answerMs} ms; is it stopped?`,
        );
      }
    }
    this.#health.tick(now);
  }

  // The link.

  #request(
    call: number | null,
    message: (id: number) => ClientMessage,
    now: number,
    then: Request["then"],
    otherwise: Request["otherwise"] = () => {},
    undo?: Request["undo"],
  ): void {
    if (!this.#linked) {
      otherwise(now);
      if (call !== null) this.#rejectLost(call);
      return;
    }
    const id = this.#nextId();
    this.#requests.set(id, { call, deadline: now + answerMs, then, otherwise, undo });
    this.#send(message(id));
  }

  #nextId(): number {
    return this.#lastId = this.#lastId >= 2 ** 32 - 1 ? 1 : this.#lastId + 1;
  }

  #send(message: ClientMessage): void {
    this.#effects.push({ type: "send", message });
  }

  #receive(message: ServerMessage, now: number): void {
    if (message.type === "warn") {
      const text = `${message.reason}: ${message.detail}`;
      this.#effects.push({
        type: "abort",
        code: "INTERRUPT",
        message: `this instance is about to be ended (${text})`,
      });
      return;
    }
    const request = this.#requests.get(message.id);
    if (!request) return;
    if (message.type === "parked") {
      this.#requests.set(message.id, { ...request, deadline: Infinity });
      this.#parked = true;
      return;
    }
    this.#requests.delete(message.id);
    if (message.type !== "refused") return request.then(message, now);
    request.otherwise(now);
    const code = errorCodes.includes(message.code) ? message.code as SamErrorCode : "LIBRARY";
    if (request.call !== null) this.#reject(request.call, code, message.message);
  }

  #lose(detail: string, now: number): void {
    if (!this.#linked) return;
    this.#linked = false;
    this.#health.end();
    if (this.state === "finalizing") {
      this.state = "finalized";
      for (const [id, request] of this.#requests) {
        if (request.call !== this.#finalizeCall) continue;
        this.#requests.delete(id);
        this.#resolve(request.call!);
      }
      return this.#rejectAll("LIBRARY", `the server of this process is gone (${detail})`, now);
    }
    const registering = this.state === "registering";
    if (registering && this.#parked) return void this.#effects.push({ type: "exit" });
    if (registering) {
      this.#rejectAll(
        "MESSAGE_ERROR",
        `the server closed the link before it answered (${detail})`,
        now,
      );
    } else this.#rejectAll("LIBRARY", `the server of this process is gone (${detail})`, now);
    if (registering) return;
    this.#effects.push({
      type: "abort",
      code: "LIBRARY",
      message: `the server of this process is gone (${detail})`,
    });
    if (this.exitWhenLost) this.#effects.push({ type: "exit" });
  }

  #rejectAll(code: SamErrorCode, message: string, now: number): void {
    const requests = [...this.#requests.values()];
    const stores = this.#stores.splice(1);
    this.#requests.clear();
    for (const request of requests) {
      request.otherwise(now);
      if (request.call !== null) this.#reject(request.call, code, message);
    }
    for (const { id } of [...stores, ...this.#deferred.splice(0)]) this.#reject(id, code, message);
    this.#stores.length = 0;
  }

  #resolve(id: number): void {
    this.#effects.push({ type: "resolve", id });
  }

  #reject(id: number, code: SamErrorCode, message: string): void {
    this.#effects.push({ type: "reject", id, code, message });
  }
}

/** Room for the data that the server announced; undefined when there is none, or it announced more than it takes. */
function allocate(bytes: number, maxBytes: number): Uint8Array | undefined {
  if (!(Number.isInteger(bytes) && bytes >= 0 && bytes <= maxBytes)) return undefined;
  try {
    return new Uint8Array(bytes);
  } catch {
    return undefined;
  }
}
