/**
 * The requests of the active process to its server. A request has an id. It ends with the server's answer or refusal, at its
 * deadline, or with the end of the link. Data is sent in parts, and each part is a request.
 */
import { SamError, type SamErrorCode } from "../../errors.ts";
import { chunkBytes, type ClientMessage, type ServerMessage } from "../wire.ts";
import type { ClientEffect } from "./types.ts";

/** Time limit for the server's answer to a request, in milliseconds. */
export const answerMs = 10_000;

/** A message that the server answers. */
export interface Request {
  /** The call that is rejected if the request fails; null if no caller waits for it. */
  readonly call: number | null;
  /** Creates the message. `id` is the id of the request. */
  readonly message: (id: number) => ClientMessage;
  /** Continues the call after the server's answer. */
  readonly onAnswer: (answer: ServerMessage, now: number) => void;
  /** Undoes the call's changes of state. Runs before the call is rejected. */
  readonly onFailure?: (now: number) => void;
  /** Settles the call at the end of the link, if that end is no failure of the call. */
  readonly onLinkEnd?: () => void;
  /** Message that revokes the call after its deadline, because the server may still carry it out. */
  readonly revokedBy?: "start" | "stop";
  /** True if the request has no deadline. */
  readonly isUnlimited?: boolean;
}

interface Pending extends Request {
  /** Time at which the call is rejected with TIMEOUT. */
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

/** The requests that have no answer yet. Sends and settles them. */
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

  /** Earliest deadline of a request; Infinity if there is none. */
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

  /** Starts sending: the link is open. Ids continue after `lastId`. */
  open(lastId: number): void {
    this.#isOpen = true;
    this.#lastId = lastId;
  }

  /** Stops sending: the link is closed. */
  close(): void {
    this.#isOpen = false;
  }

  /** Takes the answer to a request. An answer after the deadline is ignored. */
  receive(
    answer: Exclude<ServerMessage, { type: "warn" | "parked" | "accept" }>,
    now: number,
  ): void {
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
        `the SAM server did not answer within ${answerMs} ms: check that it is not stopped or overloaded`,
        now,
      );
    }
  }

  // Actions.

  /** Sends a request. Without a link, the request fails at once. */
  send(request: Request, now: number): void {
    if (!this.#isOpen) return this.#fail(request, "LIBRARY", serverGone, now);
    const id = this.#nextId();
    const deadline = request.isUnlimited ? Infinity : now + answerMs;
    this.#pending.set(id, { ...request, deadline });
    this.#send(request.message(id));
  }

  /** Removes the deadline of a request, because the server has announced a later answer. False without such a request. */
  removeLimit(id: number): boolean {
    const request = this.#pending.get(id);
    if (request) this.#pending.set(id, { ...request, deadline: Infinity });
    return request !== undefined;
  }

  /** Separates a request from its call: the answer is then ignored. */
  disown(call: number): void {
    for (const [id, request] of this.#pending) {
      if (request.call !== call) continue;
      this.#pending.set(id, { ...request, call: null, onAnswer: () => {}, onFailure: () => {} });
    }
  }

  /** Ends all requests: rejects their calls. */
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

/** A transfer of data, and the functions that continue the call after it. */
export interface Transfer {
  /** The call that is rejected if the transfer fails. */
  readonly call: number;
  readonly onDone: (now: number) => void;
  readonly onFailure: (now: number) => void;
}

/** A `data.store()` that the server has not acknowledged yet. */
interface Store {
  readonly call: number;
  readonly bytes: Uint8Array;
}

/** The data of the program: the bytes that the server has acknowledged, and the stores on their way to it. */
export class ClientData {
  readonly #push: (effect: ClientEffect) => void;
  readonly #requests: Requests;
  #bytes: Uint8Array = new Uint8Array(0);
  /** Stores in the order of their calls. Only the first one is on its way. */
  readonly #stores: Store[] = [];
  /** True if the link can store data without a message. */
  #linkStoresData = false;

  constructor(push: (effect: ClientEffect) => void, requests: Requests) {
    this.#push = push;
    this.#requests = requests;
  }

  // Queries.

  /** The data that the server acknowledged last; before `register()`, the data stored last. The caller must not change it. */
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

  /** Notes the abilities of the link, which is open now. */
  open(linkStoresData: boolean): void {
    this.#linkStoresData = linkStoresData;
  }

  /** Copies the bytes of a store, because the caller may change them later. Returns undefined if the call is rejected. */
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
    // No copy is needed if the link stores the bytes at once, and they replace the previous data in place.
    const isStoredNow = this.#linkStoresData && this.#requests.isOpen && !isDeferred;
    if (isStoredNow && this.#stores.length === 0 && length === this.#bytes.length) return bytes;
    const copy = copyOf(bytes);
    if (copy === undefined) this.#rejectCopy(call, length);
    return copy;
  }

  /** Replaces the data before there is a server. */
  replace(bytes: Uint8Array): void {
    this.#bytes = bytes;
  }

  /** Stores data at the server, after all earlier stores are acknowledged. */
  store(call: number, bytes: Uint8Array, now: number): void {
    this.#stores.push({ call, bytes });
    if (this.#stores.length === 1) this.#sendStore(now);
  }

  /** The link has stored the bytes of the first store: finishes that store. */
  finishStoreInLink(call: number, now: number): void {
    const [store] = this.#stores;
    if (store?.call !== call) return; // rejected meanwhile
    if (store.bytes.length === this.#bytes.length) this.#bytes.set(store.bytes);
    else this.#bytes = store.bytes;
    this.#finishStore(call, now);
  }

  /** The link has no room for the first store: sends it, and all later ones, by messages instead. */
  sendByMessage(call: number, now: number): void {
    this.#linkStoresData = false;
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

  /** Ends the stores for which no request was sent, and returns their calls. */
  dropStores(): number[] {
    return this.#stores.splice(this.#linkStoresData ? 0 : 1).map(({ call }) => call);
  }

  // Actions.

  /** Sends all data to the server. */
  sendAll(transfer: Transfer, now: number): void {
    if (this.#bytes.length === 0) transfer.onDone(now);
    else this.#send(this.#bytes, transfer, now);
  }

  /** Fetches data from the server until `into` is full. */
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
          const message = "the SAM server sent less or more data than it announced";
          return this.#push({ type: "reject", id: call, code: "MESSAGE_ERROR", message });
        }
        into.set(bytes, offset);
        this.fetchData(into, transfer, then, end);
      },
      onFailure,
    }, now);
  }

  /**
   * Sends the first store. Only one part of one store is on its way at a time, because a heartbeat must not queue behind data:
   * two parts fill a pipe that Node has created (128 KiB). A full pipe takes no heartbeats of a loop that never yields.
   */
  #sendStore(now: number): void {
    const [store] = this.#stores;
    if (!store) return;
    const { call, bytes } = store;
    if (this.#linkStoresData && this.#requests.isOpen) {
      return this.#push({ type: "storeInLink", id: call, bytes });
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

/** Allocates memory for data. Returns undefined if there is not enough memory, or if the size is not allowed. */
export function allocate(bytes: number, maxBytes: number): Uint8Array | undefined {
  if (!(Number.isInteger(bytes) && bytes >= 0 && bytes <= maxBytes)) return undefined;
  try {
    return new Uint8Array(bytes);
  } catch {
    return undefined;
  }
}

/** Returns a copy; undefined if there is not enough memory for it. */
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
