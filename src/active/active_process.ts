/**
 * The implementation of `Sam`, around the state machine in `core/client`. It feeds the machine with calls, messages
 * and ticks, and carries out its effects. It checks the arguments of calls; all other decisions are made by the machine.
 */
import type { Link } from "../../transports/transport.ts";
import { Client } from "../core/client/machine.ts";
import { serverGone } from "../core/client/requests.ts";
import type { ClientEffect, ClientInput, ClientState } from "../core/client/types.ts";
import type { Fact } from "../core/server/types.ts";
import { decodeServer, encodeClient, maxNoteBytes } from "../core/wire.ts";
import type { Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import type { CheckedOptions } from "../api/options.ts";
import type {
  HealthCheck,
  InheritedSocket,
  Sam,
  SamData,
  SamState,
  StartOptions,
} from "../api/sam.ts";
import {
  checkAbortSignal,
  checkBytes,
  checkSignal,
  describeThrown,
  invalid,
} from "../api/validate.ts";
import { launch } from "../runtime/launch.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Connection, ServerAccess } from "./server_access.ts";

type WaitingCall = { resolve: () => void; reject: (error: SamError) => void };

/** The state that the program sees. It changes when a call is answered, not when it is made. */
const visibleState: Readonly<Record<ClientState, SamState>> = {
  initialized: "initialized",
  serving: "initialized",
  connecting: "initialized",
  registering: "initialized",
  registered: "registered",
  starting: "registered",
  started: "started",
  stopping: "started",
  finalizing: "finalized",
  finalized: "finalized",
};

export class ActiveProcess implements Sam {
  readonly data: SamData;
  readonly sockets: readonly InheritedSocket[] = launch.sockets;
  /** Undefined in the first process of a program, which `register()` turns into the server. */
  readonly server: ServerAccess | undefined;

  readonly #runtime: Runtime;
  readonly #options: CheckedOptions;
  readonly #client: Client;
  readonly #abort = new AbortController();
  readonly #calls = new Map<number, WaitingCall>();
  #lastCall = 0;
  #link: Link | null = null;
  #holdsEventLoop = false;
  #check: HealthCheck | null = null;
  #cancelTimer: (() => void) | null = null;
  #armedFor = Infinity;
  #lastHeartbeat = -Infinity;

  constructor(runtime: Runtime, options: CheckedOptions, server: ServerAccess | undefined) {
    this.#runtime = runtime;
    this.#options = options;
    this.server = server;
    const client = new Client(options.settings);
    this.#client = client;
    this.data = {
      get size() {
        client.checkCall("data.size");
        return client.data.length;
      },
      store: (bytes) => this.#store(bytes),
      restore: () => {
        client.checkCall("data.restore");
        return client.copyData();
      },
    };
  }

  // Queries.

  get state(): SamState {
    return visibleState[this.#client.state];
  }

  get instanceId(): number | null {
    return this.#client.instanceId;
  }

  get timeInterval(): number {
    return this.#client.options.timeInterval;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  // The calls of the program.

  async register(): Promise<number> {
    this.#client.checkCall("register");
    if (!this.server) return await this.#serve();
    const { link, lastId } = await this.#connect(this.server);
    this.#link = link;
    link.receive({
      heartbeat() {},
      frame: (frame) => this.#receive(frame),
      end: (detail) => {
        this.#link = null;
        this.#feed({ type: "linkEnd", detail });
      },
    });
    link.hold(false);
    // Sent first, because the process may end at any moment: the server must not take it for a program that registers itself.
    if (this.isBelowWrapper) link.send(encodeClient({ type: "belowWrapper" }));
    await this.#call((id) => ({
      type: "register",
      id,
      pid: this.#runtime.pid,
      notice: link.notice ?? "",
      linkStoresData: link.storeData !== undefined,
      lastId,
    }));
    const { captureStack, progressLimit, timeInterval } = this.#client.options;
    const announce = (key: string, hasEnded: boolean) =>
      this.report({ type: "member", key, hasEnded });
    if (timeInterval > 0) this.#runtime.announceWorkers?.(announce, captureStack);
    if (progressLimit > 0) {
      const { watchProgress } = await import("./progress.ts");
      await watchProgress(this.#runtime, progressLimit, (fact) => this.report(fact));
    }
    return this.#client.instanceId!;
  }

  async #connect(server: ServerAccess): Promise<Connection> {
    this.#feed({ type: "connect" });
    try {
      return await server.connect(this.#runtime);
    } catch (error) {
      this.#feed({ type: "registerFailed" });
      throw error;
    }
  }

  async #serve(): Promise<never> {
    this.#feed({ type: "serve" });
    try {
      // Imported here, because an active process must not wait for modules that only a server needs.
      const { serve } = await import("../supervisor/own_process/serve_self.ts");
      return await serve(this.#runtime, this.#options);
    } catch (error) {
      this.#feed({ type: "registerFailed" });
      throw error;
    }
  }

  async start(options: StartOptions = {}): Promise<void> {
    this.#client.checkCall("start");
    const signal = checkAbortSignal(options);
    if (signal?.aborted) throw interrupted(signal);
    this.#runtime.saveCompileCache?.(); // may block the event loop, so it runs before the watch starts
    const started = this.#call((id) => ({ type: "start", id }));
    const id = this.#lastCall;
    const abort = () => this.#feed({ type: "interruptStart", id });
    signal?.addEventListener("abort", abort, { once: true });
    try {
      await started;
    } catch (error) {
      throw signal?.aborted && (error as SamError).code === "INTERRUPT"
        ? interrupted(signal)
        : error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  async stop(): Promise<void> {
    this.#client.checkCall("stop");
    await this.#call((id) => ({ type: "stop", id }));
  }

  heartbeat(): void {
    const client = this.#client;
    if (client.state !== "started") client.checkCall("heartbeat");
    if (this.#link === null) return client.checkLostHeartbeat();
    const { heartbeatWindow } = client.options;
    if (heartbeatWindow > 0) {
      const now = this.#runtime.now();
      if (now - this.#lastHeartbeat < heartbeatWindow) return;
      this.#lastHeartbeat = now;
    }
    this.#link.heartbeat();
  }

  setHealthCheck(check: HealthCheck | null): void {
    this.#client.checkCall("setHealthCheck");
    if (check !== null && typeof check !== "function") {
      throw invalid("check", check, "a function, or null");
    }
    if (check === null && !this.#client.hadHealthCheck) {
      const message =
        "setHealthCheck(null) removes a health check, but none was ever set: pass a function";
      throw new SamError("INVALID_PARAM", message);
    }
    this.#check = check;
    this.#feed({ type: "useHealthCheck", on: check !== null });
  }

  note(text: string): void {
    this.#client.checkCall("note");
    if (typeof text !== "string") throw invalid("text", text, "a string");
    if (text.length > maxNoteBytes / 3) {
      const { length } = new TextEncoder().encode(text);
      if (length > maxNoteBytes) {
        throw new SamError("TOO_BIG", `the note has ${length} bytes; the limit is ${maxNoteBytes}`);
      }
    }
    if (this.#link?.note) this.#link.note(text);
    else this.#feed({ type: "note", text });
  }

  async setWarnSignal(signal: Signal): Promise<void> {
    this.#client.checkCall("setWarnSignal");
    checkSignal("signal", signal);
    await this.#call((id) => ({ type: "setWarnSignal", id, signal }));
  }

  async markFailed(): Promise<void> {
    this.#client.checkCall("markFailed");
    await this.#call((id) => ({ type: "markFailed", id }));
  }

  async finalize(): Promise<void> {
    this.#client.checkCall("finalize");
    await this.#call((id) => ({ type: "finalize", id }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#client.allows("finalize")) await this.finalize();
  }

  async #store(bytes: Uint8Array | null): Promise<void> {
    this.#client.checkCall("data.store");
    const stored = checkBytes("bytes", bytes);
    await this.#call((id) => ({ type: "store", id, bytes: stored }));
  }

  // For a preload.

  /** True if a preload below a wrapper registers this process. */
  isBelowWrapper = false;
  /** Called when this process is to finish its requests and then to send itself the signal. */
  onDrain: ((signal: Signal) => void) | null = null;
  /** Called when this process is a replacement that takes over, and is to accept connections. */
  onAccept: (() => void) | null = null;

  /** Tells the server a fact about this process. */
  report(fact: Fact): void {
    this.#link?.send(encodeClient(fact));
  }

  /** Sends an event-loop heartbeat. */
  confirm(): void {
    if (this.#link?.confirm) this.#link.confirm();
    else this.#link?.heartbeat();
  }

  /** Hands the link over to the program, which registers itself. This object cannot be used afterwards. */
  handOver(): Connection {
    const link = this.#link;
    if (link === null) throw new SamError("LIBRARY", serverGone);
    this.#link = null; // otherwise, the end of this object would close the link
    link.receive(null);
    this.#feed({ type: "handOver" });
    return { link, lastId: this.#client.lastId };
  }

  // The machine and its effects.

  #call(input: (id: number) => ClientInput): Promise<void> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastCall;
      this.#calls.set(id, { resolve, reject });
      this.#feed(input(id));
    });
  }

  #receive(frame: Uint8Array): void {
    try {
      this.#feed({ type: "message", message: decodeServer(frame) });
    } catch (error) {
      if (!(error instanceof SamError)) throw error;
      this.#link?.close();
    }
  }

  #feed(input: ClientInput): void {
    for (const effect of this.#client.step(input, this.#runtime.now())) this.#carryOut(effect);
    const hold = this.#client.waiting;
    if (hold !== this.#holdsEventLoop) {
      this.#holdsEventLoop = hold;
      this.#link?.hold(hold);
    }
    this.#arm();
  }

  #carryOut(effect: ClientEffect): void {
    switch (effect.type) {
      case "send":
        return this.#link?.send(encodeClient(effect.message));
      case "storeInLink": {
        const type = this.#storeInLink(effect.bytes) ? "storedInLink" : "notStoredInLink";
        return this.#feed({ type, id: effect.id });
      }
      case "sendStackAccess":
        return this.report({ type: "stackAccess", how: this.#runtime.stackAccess() });
      case "confirm":
        return this.confirm();
      case "check":
        return void this.#runCheck();
      case "resolve":
        return this.#takeCall(effect.id)?.resolve();
      case "reject":
        return this.#takeCall(effect.id)?.reject(new SamError(effect.code, effect.message));
      case "abort":
        this.#abort.abort(new SamError(effect.code, effect.message));
        if (effect.drain !== "") this.onDrain?.(effect.drain as Signal);
        return;
      case "accept":
        return this.onAccept?.();
      case "disconnect":
        return this.#disconnect();
      case "exit":
        this.#runtime.exit(1);
    }
  }

  #storeInLink(bytes: Uint8Array): boolean {
    try {
      this.#link!.storeData!(bytes);
      return true;
    } catch {
      return false;
    }
  }

  #takeCall(id: number): WaitingCall | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    return call;
  }

  #disconnect(): void {
    this.#cancelTimer?.();
    this.#armedFor = Infinity;
    const link = this.#link;
    this.#link = null;
    link?.receive({ heartbeat() {}, frame() {}, end() {} });
    link?.close();
  }

  async #runCheck(): Promise<void> {
    let healthy = true;
    let detail = "";
    try {
      const answer = await this.#check!();
      healthy = answer !== false && (typeof answer !== "number" || answer === 0);
      if (!healthy) detail = `the health check returned ${answer}`;
    } catch (error) {
      healthy = false;
      detail = `the health check failed: ${describeThrown(error)}`;
    }
    this.#feed({ type: "checked", healthy, detail });
  }

  #arm(): void {
    const due = this.#client.deadline ?? Infinity;
    if (due >= this.#armedFor) return;
    this.#cancelTimer?.();
    this.#armedFor = due;
    const tick = () => {
      this.#armedFor = Infinity;
      this.#feed({ type: "tick" });
    };
    this.#cancelTimer = this.#runtime.schedule(tick, Math.max(0, due - this.#runtime.now()), false);
  }
}

function interrupted(signal: AbortSignal): SamError {
  const message = "start() was aborted by its AbortSignal";
  return new SamError("INTERRUPT", message, { cause: signal.reason });
}
