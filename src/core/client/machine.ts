/**
 * The active process: the state machine behind `Sam`. It takes inputs, returns effects, and gets the time as an argument.
 *
 * Theory of operation. An active process connects to its server, registers (and gets its predecessor's data), starts, stops,
 * and finalizes. `callable` lists the states in which each call is allowed. A call that needs the server becomes a request (see
 * requests.ts). While it waits, the machine has a state of its own, so that a second `start()` is refused like any call that is
 * not allowed. When the link ends, all waiting calls are rejected, and the process ends unless `serverLost` is `"continue"`.
 *
 * `deadline` is the earliest of these timers. A tick before that does nothing.
 * - Reject a request with TIMEOUT (requests.ts).
 * - Send an event-loop heartbeat, or call the health check (schedules.ts).
 * - Send a note that was held back (schedules.ts).
 */
import { SamError, type SamErrorCode } from "../../errors.ts";
import { protocolVersion, type ServerMessage } from "../wire.ts";
import type { Signal } from "../signals.ts";
import {
  allocate,
  ClientData,
  type Request,
  Requests,
  serverGone,
  type Transfer,
} from "./requests.ts";
import { HealthSchedule, NoteSchedule } from "./schedules.ts";
import type {
  ClientCall,
  ClientEffect,
  ClientInput,
  ClientOptions,
  ClientSettings,
  ClientState,
} from "./types.ts";

const open: readonly ClientState[] = [
  "initialized",
  "connecting",
  "registering",
  "registered",
  "starting",
  "started",
  "stopping",
];

/**
 * The states in which each call is allowed. In all others, the call fails with BAD_HANDLE. `heartbeat()` is also allowed while
 * `stop()` waits for its answer: it is often called by a timer, which does not know of `stop()` and must not throw.
 */
export const callable: Readonly<Record<ClientCall, readonly ClientState[]>> = {
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

/** The active process of a program. */
export class Client {
  #state: ClientState = "initialized";
  #instanceId: number | null = null;
  #options: ClientOptions;
  #warnSignal: Signal | null = null;
  /** True while `register()` waits for the promotion of this spare. */
  #isParked = false;
  /** Calls that wait for the answer to `register()`. */
  readonly #deferred = new Map<number, (now: number) => void>();
  #effects: ClientEffect[] = [];
  readonly #requests: Requests;
  readonly #data: ClientData;
  readonly #health: HealthSchedule;
  readonly #notes: NoteSchedule;

  constructor(settings: ClientSettings) {
    this.#options = {
      ...settings,
      heartbeatWindow: 0,
      exitWhenLost: true,
      captureStack: false,
      hasQuorum: false,
      hasClusterMap: false,
      progressLimit: 0,
    };
    const push = (effect: ClientEffect) => void this.#effects.push(effect);
    this.#requests = new Requests(push);
    this.#data = new ClientData(push, this.#requests);
    this.#health = new HealthSchedule(push);
    this.#notes = new NoteSchedule(push);
  }

  // Queries.

  get state(): ClientState {
    return this.#state;
  }

  /** Number of this instance; null before it has registered. */
  get instanceId(): number | null {
    return this.#instanceId;
  }

  /** The options in force: those of the program until the server answers `register()`, then those of the server. */
  get options(): ClientOptions {
    return this.#options;
  }

  /** The data that the server acknowledged last; before `register()`, the data stored here. The caller must not change it. */
  get data(): Uint8Array {
    return this.#data.bytes;
  }

  /** A copy of the data. Throws NO_MEMORY. */
  copyData(): Uint8Array {
    return this.#data.copy();
  }

  /** True if a health check was set at any time. */
  get hadHealthCheck(): boolean {
    return this.#health.wasUsed;
  }

  /** The id of the last request. */
  get lastId(): number {
    return this.#requests.lastId;
  }

  /** True while a call waits for the server. */
  get waiting(): boolean {
    return this.#requests.areWaiting;
  }

  /** Time of the next tick; undefined if none is needed. */
  get deadline(): number | undefined {
    const at = Math.min(this.#requests.deadline, this.#health.deadline, this.#notes.deadline);
    return at === Infinity ? undefined : at;
  }

  /** True if a call is allowed now. */
  allows(call: ClientCall): boolean {
    return callable[call].includes(this.#state);
  }

  /** Throws BAD_HANDLE if the state does not allow a call, and INVALID_PARAM if the options do not allow it. */
  checkCall(call: ClientCall): void {
    if (!this.allows(call)) {
      const isServer = this.#state === "serving";
      const where = isServer ? "in the process that became the server" : `while ${this.#state}`;
      const states = callable[call].join(", ");
      const message = `${call} is not allowed ${where}; it is allowed while ${states}`;
      throw new SamError("BAD_HANDLE", message);
    }
    if (call === "setHealthCheck" && this.#options.timeInterval === 0) {
      const message = "a health check needs a time interval: set timeInterval above 0";
      throw new SamError("INVALID_PARAM", message);
    }
    if (call === "markFailed" && !this.#options.hasClusterMap) {
      const message = "markFailed() needs a cluster map: set the option clusterMap";
      throw new SamError("INVALID_PARAM", message);
    }
  }

  /** Checks a heartbeat that no server receives. Throws LIBRARY, unless the program is to outlive its server. */
  checkLostHeartbeat(): void {
    if (!this.#options.exitWhenLost) return;
    throw new SamError("LIBRARY", `${serverGone}: it cannot receive heartbeats`);
  }

  // Inputs.

  /** Takes one input, and returns the effects in their order. The caller checks calls with `checkCall()` before. */
  step(input: ClientInput, now: number): readonly ClientEffect[] {
    this.#take(input, now);
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #take(input: ClientInput, now: number): void {
    switch (input.type) {
      case "serve":
        return void (this.#state = "serving");
      case "connect":
        return void (this.#state = "connecting");
      case "registerFailed":
        if (["connecting", "serving"].includes(this.#state)) this.#state = "initialized";
        return;
      case "register":
        return this.#register(input, now);
      case "useHealthCheck":
        return this.#health.use(input.on);
      case "start":
        return this.#start(input.id, now);
      case "interruptStart":
        return this.#interruptStart(input.id, now);
      case "checked":
        return this.#health.answer(input.healthy, input.detail, now);
      case "setWarnSignal":
        return this.#runAfterRegistration(
          input.id,
          (then) => this.#setWarnSignal(input, then),
          now,
        );
      case "store":
        return this.#store(input.id, input.bytes, now);
      case "storedInLink":
        return this.#data.finishStoreInLink(input.id, now);
      case "notStoredInLink":
        return this.#data.sendByMessage(input.id, now);
      case "note":
        return this.#requests.isOpen ? this.#notes.note(input.text, now) : undefined;
      case "markFailed":
        return this.#ask(input.id, (id) => ({ type: "markFailed", id }), now);
      case "stop":
        return this.#stop(input.id, now);
      case "finalize":
        return this.#finalize(input.id, now);
      case "handOver":
        return this.#end("register() was called: the preload module's watch has ended", now);
      case "message":
        return this.#receive(input.message, now);
      case "linkEnd":
        return this.#lose(input.detail, now);
      case "tick":
        this.#requests.tick(now);
        this.#health.tick(now);
        return this.#notes.tick(now);
    }
  }

  #receive(message: ServerMessage, now: number): void {
    if (message.type === "parked") this.#isParked ||= this.#requests.removeLimit(message.id);
    else if (message.type === "accept") this.#effects.push(message);
    else if (message.type === "warn") {
      const text = `${message.reason}: ${message.detail}`;
      this.#abort("INTERRUPT", `SAM is about to end this instance (${text})`, message.drain);
    } else this.#requests.receive(message, now);
  }

  // Registration.

  #register(input: ClientInput & { readonly type: "register" }, now: number): void {
    const { id: call, pid, notice } = input;
    if (this.#state !== "connecting") {
      this.#effects.push({ type: "disconnect" });
      return this.#reject(call, "INTERRUPT", "finalize() was called during register()");
    }
    this.#state = "registering";
    this.#requests.open(input.lastId ?? 0);
    this.#data.open(input.linkStoresData ?? false);
    this.#requests.send({
      call,
      message: (id) => ({ type: "hello", version: protocolVersion, id, pid, notice }),
      onAnswer: (answer, then) => this.#enter(call, answer, then),
      onFailure: (then) => this.#unregister(then),
    }, now);
  }

  /** Adopts the options of the server. The first instance then sends its data; a later one fetches that of its predecessor. */
  #enter(call: number, welcome: ServerMessage, now: number): void {
    if (welcome.type !== "welcome" || welcome.version !== protocolVersion) {
      this.#unregister(now);
      const message =
        "the SAM server gave a wrong answer to register(): use the same version of @x/sam in the program and its SAM server";
      return this.#reject(call, "MESSAGE_ERROR", message);
    }
    const { first, instanceId, dataSize, maxDataSize } = welcome;
    const data = first ? this.data : allocate(dataSize, maxDataSize);
    if (data === undefined) {
      this.#unregister(now);
      return this.#reject(call, "NO_MEMORY", `cannot allocate ${dataSize} bytes for the data`);
    }
    this.#isParked = false;
    this.#instanceId = instanceId;
    this.#options = welcome;
    const transfer: Transfer = {
      call,
      onDone: (then) => this.#finishRegistration(call, then),
      onFailure: (then) => this.#unregister(then),
    };
    const signal = this.#warnSignal;
    if (!first) this.#data.fetchData(data, transfer, now);
    else if (signal === null) this.#data.sendAll(transfer, now);
    else {
      this.#requests.send({
        call,
        message: (id) => ({ type: "setWarnSignal", id, signal }),
        onAnswer: (_answer, then) => this.#data.sendAll(transfer, then),
        onFailure: transfer.onFailure,
      }, now);
    }
  }

  #finishRegistration(call: number, now: number): void {
    this.#resolve(call);
    if (this.#state !== "registering") return; // finalize() was called
    this.#state = "registered";
    this.#sendStackAccess();
    this.#runDeferred(now);
  }

  #unregister(now: number): void {
    if (this.#state !== "registering") return; // finalize() was called
    this.#state = "initialized";
    this.#requests.close();
    this.#effects.push({ type: "disconnect" });
    this.#runDeferred(now);
  }

  /** Runs a call at once, or while `register()` waits for its answer, after that. */
  #runAfterRegistration(call: number, run: (now: number) => void, now: number): void {
    if (this.#state === "registering") this.#deferred.set(call, run);
    else run(now);
  }

  #runDeferred(now: number): void {
    for (const [call, run] of this.#deferred) {
      this.#deferred.delete(call);
      run(now);
    }
  }

  // Start and stop.

  #start(call: number, now: number): void {
    this.#state = "starting";
    this.#sendStackAccess(); // sent again, because the program may listen for SIGUSR1 by now
    this.#requests.send({
      call,
      message: (id) => ({ type: "start", id }),
      isUnlimited: this.#options.hasQuorum,
      revokedBy: "stop",
      onAnswer: (_answer, then) => {
        if (this.#state === "starting") {
          this.#state = "started";
          this.#health.begin(this.#options.timeInterval, then);
        }
        this.#resolve(call);
      },
      onFailure: () => this.#goBack("starting", "registered"),
    }, now);
  }

  /** Ends a `start()` early by a `stop`, which undoes both a wait for quorum and a granted start. */
  #interruptStart(call: number, now: number): void {
    if (this.#state !== "starting") return;
    this.#requests.disown(call);
    this.#state = "stopping";
    const goBack = () => this.#goBack("stopping", "registered");
    this.#requests.send({
      call,
      message: (id) => ({ type: "stop", id }),
      onAnswer: () => {
        goBack();
        this.#reject(call, "INTERRUPT", "start() was aborted by its AbortSignal");
      },
      onFailure: goBack,
    }, now);
  }

  #stop(call: number, now: number): void {
    this.#state = "stopping";
    this.#health.end();
    this.#requests.send({
      call,
      message: (id) => ({ type: "stop", id }),
      revokedBy: "start",
      onAnswer: () => {
        this.#goBack("stopping", "registered");
        this.#resolve(call);
      },
      onFailure: (then) => {
        if (!this.#goBack("stopping", "started")) return;
        if (this.#requests.isOpen) this.#health.begin(this.#options.timeInterval, then);
      },
    }, now);
  }

  /** Changes a state back. Returns false if the state is another one by now. */
  #goBack(from: ClientState, to: ClientState): boolean {
    if (this.#state !== from) return false;
    this.#state = to;
    return true;
  }

  #sendStackAccess(): void {
    if (this.#options.captureStack) this.#effects.push({ type: "sendStackAccess" });
  }

  // Settings that may change at any time.

  #setWarnSignal(input: ClientInput & { readonly type: "setWarnSignal" }, now: number): void {
    const { id: call, signal } = input;
    this.#warnSignal = signal;
    if (this.#isEarly) this.#resolve(call);
    else this.#ask(call, (id) => ({ type: "setWarnSignal", id, signal }), now);
  }

  #store(call: number, bytes: Uint8Array, now: number): void {
    const isDeferred = this.#state === "registering";
    const own = this.#data.takeOver(call, bytes, this.#options.maxDataSize, isDeferred);
    if (own === undefined) return;
    this.#runAfterRegistration(call, (then) => {
      if (this.#isEarly) {
        this.#data.replace(own);
        this.#resolve(call);
      } else this.#data.store(call, own, then);
    }, now);
  }

  /** True before there is a server: settings are then stored here, for the first instance. */
  get #isEarly(): boolean {
    return this.#state === "initialized" || this.#state === "connecting";
  }

  // The end.

  #finalize(call: number, now: number): void {
    this.#state = "finalizing";
    this.#health.end();
    const end = (then: number) => this.#end("finalize() was called: this handle is closed", then);
    if (!this.#requests.isOpen || this.#isParked) {
      end(now);
      return this.#resolve(call);
    }
    this.#requests.send({
      call,
      message: (id) => ({ type: "finalize", id }),
      onAnswer: (_answer, then) => {
        end(then);
        this.#resolve(call);
      },
      onFailure: end, // the server reads the message before the end of the link, if it can
      onLinkEnd: () => {
        this.#state = "finalized";
        this.#resolve(call);
      },
    }, now);
  }

  #end(why: string, now: number): void {
    this.#state = "finalized";
    this.#close();
    this.#effects.push({ type: "disconnect" });
    this.#rejectAll("BAD_HANDLE", why, now);
  }

  #lose(detail: string, now: number): void {
    if (!this.#requests.isOpen) return;
    const state = this.#state;
    this.#close();
    if (state === "registering") {
      if (this.#isParked) return void this.#effects.push({ type: "exit" });
      const message =
        `the SAM server closed the connection before it answered register() (${detail})`;
      return this.#rejectAll("MESSAGE_ERROR", message, now);
    }
    const gone = `${serverGone} (${detail})`;
    this.#rejectAll("LIBRARY", gone, now);
    if (state === "finalizing") return;
    this.#abort("LIBRARY", gone);
    if (this.#options.exitWhenLost) this.#effects.push({ type: "exit" });
  }

  #close(): void {
    this.#requests.close();
    this.#health.end();
    this.#notes.end();
  }

  // How calls are settled.

  #ask(call: number, message: Request["message"], now: number): void {
    this.#requests.send({ call, message, onAnswer: () => this.#resolve(call) }, now);
  }

  #rejectAll(code: SamErrorCode, message: string, now: number): void {
    const stores = this.#data.dropStores();
    this.#requests.rejectAll(code, message, now);
    for (const call of [...stores, ...this.#deferred.keys()]) this.#reject(call, code, message);
    this.#deferred.clear();
  }

  #resolve(id: number): void {
    this.#effects.push({ type: "resolve", id });
  }

  #reject(id: number, code: SamErrorCode, message: string): void {
    this.#effects.push({ type: "reject", id, code, message });
  }

  #abort(code: SamErrorCode, message: string, drain = ""): void {
    this.#effects.push({ type: "abort", code, message, drain });
  }
}
