/**
 * What the active process asks of its server. A request has an id. It ends with the server's answer or refusal, at its
 * deadline, or with the link. The data of the program travel in parts, each a request of its own.
 */
import { SamError, type SamErrorCode } from "../../errors.ts";
import { chunkBytes, type ClientMessage, type ServerMessage } from "../wire.ts";
import type { ClientEffect } from "./types.ts";

/** Milliseconds that the server has to answer a request. */
export const answerMs = 10_000;

/** A message that the server answers. */
export interface Request {
  /** The call that fails with the request; null if no caller waits for it. */
  readonly call: number | null;
  /** Makes the message, with the id of the request. */
  readonly message: (id: number) => ClientMessage;
  /** Carries on when the server has answered. */
  readonly onAnswer: (answer: ServerMessage, now: number) => void;
  /** Undoes what the call has begun. Runs before the call is rejected. */
  readonly onFailure?: (now: number) => void;
  /** Settles the call when the link ends, where that is no failure. */
  readonly onLinkEnd?: () => void;
  /** The message that revokes the call after its deadline: the server may still carry it out. */
  readonly revokedBy?: "start" | "stop";
  /** True if the server may take any time to answer. */
  readonly isUnlimited?: boolean;
}

interface Pending extends Request {
  /** When to reject the call with TIMEOUT. */
  readonly deadline: number;
}

/** The message for a call without a server. */
export const serverGone = "the SAM server of this process has ended";

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

/** The requests that have no answer yet. */
export class Requests {
  readonly #push: (effect: ClientEffect) => void;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #isOpen = false;

  constructor(push: (effect: ClientEffect) => void) {
    this.#push = push;
  }

  // Queries.

  /** True while there is a link to the server. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** When the earliest request times out; Infinity for never. */
  get deadline(): number {
    let at = Infinity;
    for (const { deadline } of this.#pending.values()) at = Math.min(at, deadline);
    return at;
  }

  /** True while a request waits for its answer. */
  get areWaiting(): boolean {
    return this.#pending.size > 0;
  }

  /** The id of the last request. */
  get lastId(): number {
    return this.#lastId;
  }

  // Inputs.

  /** There is a link. The ids continue after `lastId`. */
  open(lastId: number): void {
    this.#isOpen = true;
    this.#lastId = lastId;
  }

  /** There is no link any more. */
  close(): void {
    this.#isOpen = false;
  }

  /** Takes the answer to a request. One that comes too late is ignored. */
  receive(answer: Exclude<ServerMessage, { type: "warn" | "parked" }>, now: number): void {
    const request = this.#pending.get(answer.id);
    if (!request) return;
    this.#pending.delete(answer.id);
    if (answer.type !== "refused") return request.onAnswer(answer, now);
    const code = errorCodes.includes(answer.code) ? answer.code as SamErrorCode : "LIBRARY";
    this.#fail(request, code, answer.message, now);
  }

  /** Ends the requests whose deadline has passed. */
  tick(now: number): void {
    for (const [id, request] of this.#pending) {
      if (request.deadline > now) continue;
      this.#pending.delete(id);
      if (request.revokedBy) this.#send({ type: request.revokedBy, id: this.#nextId() });
      this.#fail(
        request,
        "TIMEOUT",
        `the server did not answer within ${answerMs} ms: check that it is not stopped or overloaded`,
        now,
      );
    }
  }

  // What it does.

  /** Sends a request. Without a link, it fails at once. */
  send(request: Request, now: number): void {
    if (!this.#isOpen) return this.#fail(request, "LIBRARY", serverGone, now);
    const id = this.#nextId();
    const deadline = request.isUnlimited ? Infinity : now + answerMs;
    this.#pending.set(id, { ...request, deadline });
    this.#send(request.message(id));
  }

  /** Takes the time limit off a request: the server has said that its answer comes later. False if there is no such request. */
  removeLimit(id: number): boolean {
    const request = this.#pending.get(id);
    if (request) this.#pending.set(id, { ...request, deadline: Infinity });
    return request !== undefined;
  }

  /** Separates a request from its call: the server's answer to it settles and changes nothing. */
  disown(call: number): void {
    for (const [id, request] of this.#pending) {
      if (request.call !== call) continue;
      this.#pending.set(id, { ...request, call: null, onAnswer: () => {}, onFailure: () => {} });
    }
  }

  /** Ends all requests. */
  rejectAll(code: SamErrorCode, message: string, now: number): void {
    const requests = [...this.#pending.values()];
    this.#pending.clear();
    for (const request of requests) {
      if (request.onLinkEnd) request.onLinkEnd();
      else this.#fail(request, code, message, now);
    }
  }

  #fail(request: Request, code: SamErrorCode, message: string, now: number): void {
    request.onFailure?.(now);
    if (request.call !== null) this.#push({ type: "reject", id: request.call, code, message });
  }

  #nextId(): number {
    return this.#lastId = this.#lastId >= 2 ** 32 - 1 ? 1 : this.#lastId + 1;
  }

  #send(message: ClientMessage): void {
    this.#push({ type: "send", message });
  }
}

/** How a transfer of data goes on. */
export interface Transfer {
  /** The call that fails with the transfer. */
  readonly call: number;
  readonly onDone: (now: number) => void;
  readonly onFailure: (now: number) => void;
}

/** A store that is not acknowledged yet. */
interface Store {
  readonly call: number;
  readonly bytes: Uint8Array;
}

/** The data of the program: what the server has last acknowledged, and what is on its way there. */
export class ClientData {
  readonly #push: (effect: ClientEffect) => void;
  readonly #requests: Requests;
  #bytes: Uint8Array = new Uint8Array(0);
  /** In the order of their calls. Only the first is on its way. */
  readonly #stores: Store[] = [];
  /** The link keeps data without a message. */
  #linkKeeps = false;

  constructor(push: (effect: ClientEffect) => void, requests: Requests) {
    this.#push = push;
    this.#requests = requests;
  }

  // Queries.

  /** What the server has last acknowledged; before `register()`, what was stored last. The caller must not change it. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** A copy of the data. Throws NO_MEMORY. */
  copy(): Uint8Array {
    const copy = copyOf(this.#bytes);
    if (copy) return copy;
    throw new SamError("NO_MEMORY", noMemory(this.#bytes.length));
  }

  // Inputs.

  /** There is a link. */
  open(linkKeeps: boolean): void {
    this.#linkKeeps = linkKeeps;
  }

  /** Takes the bytes of a store from the caller, who may change them afterwards. Undefined if the call is rejected. */
  takeOver(
    call: number,
    bytes: Uint8Array,
    maxBytes: number,
    isDeferred: boolean,
  ): Uint8Array | undefined {
    const { length } = bytes;
    if (length > maxBytes) {
      const message =
        `cannot store ${length} bytes: maxDataSize is ${maxBytes}. Store less, or raise maxDataSize.`;
      this.#push({ type: "reject", id: call, code: "TOO_BIG", message });
      return undefined;
    }
    // No copy is needed where the link keeps the bytes at once, and they replace the last ones in place.
    const isKeptNow = this.#linkKeeps && this.#requests.isOpen && !isDeferred;
    if (isKeptNow && this.#stores.length === 0 && length === this.#bytes.length) return bytes;
    const copy = copyOf(bytes);
    if (copy === undefined) this.#rejectCopy(call, length);
    return copy;
  }

  /** Replaces the data before there is a server. */
  replace(bytes: Uint8Array): void {
    this.#bytes = bytes;
  }

  /** Leaves data with the server, after all that are not acknowledged yet. */
  store(call: number, bytes: Uint8Array, now: number): void {
    this.#stores.push({ call, bytes });
    if (this.#stores.length === 1) this.#sendStore(now);
  }

  /** The link has kept the bytes of the first store. */
  finishKept(call: number, now: number): void {
    const [store] = this.#stores;
    if (store?.call !== call) return; // rejected meanwhile
    if (store.bytes.length === this.#bytes.length) this.#bytes.set(store.bytes);
    else this.#bytes = store.bytes;
    this.#finishStore(call, now);
  }

  /** The link has no room for the first store. From now on, data go by messages. */
  sendUnkept(call: number, now: number): void {
    this.#linkKeeps = false;
    const [store] = this.#stores;
    if (store?.call !== call) return; // rejected meanwhile
    const bytes = copyOf(store.bytes);
    if (bytes) this.#stores[0] = { call, bytes };
    else {
      this.#stores.shift();
      this.#rejectCopy(call, store.bytes.length);
    }
    this.#sendStore(now);
  }

  /** Ends the stores that have no request of their own, and returns their calls. */
  dropStores(): number[] {
    return this.#stores.splice(this.#linkKeeps ? 0 : 1).map(({ call }) => call);
  }

  // What it does.

  /** Gives the server all data. */
  sendAll(transfer: Transfer, now: number): void {
    if (this.#bytes.length === 0) transfer.onDone(now);
    else this.#send(this.#bytes, transfer, now);
  }

  /** Gets data from the server: as many bytes as `into` has. */
  fetchData(into: Uint8Array, transfer: Transfer, now: number, offset = 0): void {
    if (offset >= into.length) {
      this.#bytes = into;
      return transfer.onDone(now);
    }
    const { call, onFailure } = transfer;
    this.#requests.send({
      call,
      message: (id) => ({ type: "fetch", id, offset }),
      onAnswer: (answer, then) => {
        const bytes = answer.type === "chunk" ? answer.bytes : new Uint8Array(0);
        const end = offset + bytes.length;
        if (end === offset || end > into.length) {
          onFailure(then);
          const message = "the server sent data of another size than it had announced";
          return this.#push({ type: "reject", id: call, code: "MESSAGE_ERROR", message });
        }
        into.set(bytes, offset);
        this.fetchData(into, transfer, then, end);
      },
      onFailure,
    }, now);
  }

  /**
   * Sends the first store. One store at a time, one part at a time: a heartbeat must never queue behind data. Two parts fill
   * a pipe that Node has made (128 KiB). After seven heartbeats it takes no more, and a loop that never yields sends no rest.
   */
  #sendStore(now: number): void {
    const [store] = this.#stores;
    if (!store) return;
    const { call, bytes } = store;
    if (this.#linkKeeps && this.#requests.isOpen) {
      return this.#push({ type: "keep", id: call, bytes });
    }
    const onDone = (then: number) => {
      this.#bytes = bytes;
      this.#finishStore(call, then);
    };
    const onFailure = (then: number) => {
      this.#stores.shift();
      this.#sendStore(then);
    };
    this.#send(bytes, { call, onDone, onFailure }, now);
  }

  #finishStore(call: number, now: number): void {
    this.#stores.shift();
    this.#push({ type: "resolve", id: call });
    this.#sendStore(now);
  }

  #rejectCopy(call: number, bytes: number): void {
    this.#push({ type: "reject", id: call, code: "NO_MEMORY", message: noMemory(bytes) });
  }

  #send(data: Uint8Array, transfer: Transfer, now: number, offset = 0): void {
    const bytes = data.subarray(offset, offset + chunkBytes);
    const end = offset + bytes.length;
    this.#requests.send({
      call: transfer.call,
      message: (id) => ({ type: "store", id, total: data.length, offset, bytes }),
      onAnswer: (_answer, then) => {
        if (end >= data.length) transfer.onDone(then);
        else this.#send(data, transfer, then, end);
      },
      onFailure: transfer.onFailure,
    }, now);
  }
}

/** Memory for the data that a server announces; undefined if there is none, or it announces more than it takes. */
export function allocate(bytes: number, maxBytes: number): Uint8Array | undefined {
  if (!(Number.isInteger(bytes) && bytes >= 0 && bytes <= maxBytes)) return undefined;
  try {
    return new Uint8Array(bytes);
  } catch {
    return undefined;
  }
}

/** A copy; undefined if there is no memory for it. */
function copyOf(bytes: Uint8Array): Uint8Array | undefined {
  try {
    return new Uint8Array(bytes);
  } catch {
    return undefined;
  }
}

function noMemory(bytes: number): string {
  return `cannot allocate ${bytes} bytes for a copy of the data`;
}
