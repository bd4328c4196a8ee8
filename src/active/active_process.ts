/** The process that is watched: what carries out what the core of the active side decides. */
import type { Link, Transport } from "../../transports/transport.ts";
import { type Call, callable, Client } from "../core/client/machine.ts";
import type { ClientEffect, ClientInput } from "../core/client/types.ts";
import { decodeServer, encodeClient, maxNoteBytes } from "../core/wire.ts";
import type { Signal } from "../core/signals.ts";
import { SamError, type SamErrorCode } from "../errors.ts";
import { type CheckedOptions, checkObject, checkSignal, invalid } from "../api/options.ts";
import { offerLink, type OpenedLink } from "../runtime/launch.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { HealthCheck, Sam, SamData, SamState, StartOptions } from "./initialize.ts";

/** How to reach the server that started this process. */
export interface ServerAddress {
  readonly transport: Transport;
  readonly address: string;
}

/** So many notes may go to the server at once, and so many in a millisecond after them. */
const noteBurst = 50;
const notesPerMs = 1;

type Settle = { resolve: () => void; reject: (error: SamError) => void };

export class ActiveProcess implements Sam {
  readonly data: SamData;

  readonly #runtime: Runtime;
  readonly #options: CheckedOptions;
  readonly #server: ServerAddress | OpenedLink | undefined;
  readonly #client: Client;
  readonly #abort = new AbortController();
  readonly #calls = new Map<number, Settle>();
  #lastCall = 0;
  #link: Link | null = null;
  #holding = false;
  #check: HealthCheck | null = null;
  #cancelTimer: (() => void) | null = null;
  #armedFor = Infinity;
  #lastBeat = -Infinity;
  #isServer = false;
  #notes: Notes | null = null;

  constructor(
    runtime: Runtime,
    options: CheckedOptions,
    server: ServerAddress | OpenedLink | undefined,
  ) {
    this.#runtime = runtime;
    this.#options = options;
    this.#server = server;
    const { timeInterval, maxDataSize } = options.settings;
    this.#client = new Client({ timeInterval, maxDataSize });
    // deno-lint-ignore no-this-alias
    const sam = this;
    this.data = {
      get size() {
        sam.#allow("data.size");
        return sam.#client.data.length;
      },
      store: (bytes) => this.#store(bytes),
      restore: () => {
        this.#allow("data.restore");
        return copyOf(this.#client.data);
      },
    };
  }

  get state(): SamState {
    switch (this.#client.state) {
      case "registering":
        return "initialized";
      case "starting":
        return "registered";
      case "stopping":
        return "started";
      case "finalizing":
        return "finalized";
      default:
        return this.#client.state;
    }
  }

  get instanceId(): number | null {
    return this.#client.instanceId;
  }

  /** The time interval in force. */
  get timeInterval(): number {
    return this.#client.timeInterval;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  async register(): Promise<number> {
    this.#allow("register");
    if (!this.#server) {
      this.#isServer = true;
      const { serve } = await import("../supervisor/own_process/serve_self.ts"); // not in the active process, whose start it would delay
      await serve(this.#runtime, this.#options).catch((error) => {
        this.#isServer = false;
        throw error;
      });
    }
    this.#client.state = "registering";
    const { link, lastId } = await this.#connect(this.#server!);
    if (this.#client.state as string !== "registering") {
      link.close();
      throw new SamError("INTERRUPT", "finalize() was called while register() connected");
    }
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
    await this.#call((id) => ({
      type: "register",
      id,
      pid: this.#runtime.pid,
      notice: link.notice ?? "",
      keeps: link.keep !== undefined,
      lastId,
    }));
    this.#tellStackAccess();
    return this.#client.instanceId!;
  }

  /** Says how the stack of a blocked loop can be had. */
  #tellStackAccess(): void {
    if (!this.#client.captureStack) return;
    const how = this.#runtime.stackAccess();
    this.#link?.send(encodeClient({ type: "stackAccess", how }));
  }

  async #connect(
    server: ServerAddress | OpenedLink,
  ): Promise<{ readonly link: Link; readonly lastId: number }> {
    if ("take" in server) return server.take();
    const { transport, address } = server;
    try {
      return { link: await transport.connect(address, this.#runtime), lastId: 0 };
    } catch (error) {
      if (this.#client.state as string === "registering") this.#client.state = "initialized";
      throw linkError(error, transport.name);
    }
  }

  /** Tells the server that the event loop turns. */
  confirm(): void {
    if (this.#link?.confirm) this.#link.confirm();
    else this.#link?.heartbeat();
  }

  /** Leaves the link to a program that registers itself; what was begun here is over then, and nobody's business. */
  offer(): void {
    const { transport } = this.#server as ServerAddress;
    const client = this.#client;
    const give = () => {
      const link = this.#link!;
      this.#link = null; // or it would be closed
      client.step({ type: "linkEnd", detail: "the program has it" }, this.#runtime.now());
      this.#disconnect();
      client.state = "finalized";
      link.receive(null);
      return { link, lastId: client.lastId };
    };
    offerLink({
      transport: transport.name,
      get taken() {
        return client.state === "finalized";
      },
      take: give,
    });
  }

  async start(options: StartOptions = {}): Promise<void> {
    this.#allow("start");
    const signal = checkAbortSignal(options);
    if (signal?.aborted) throw interrupted(signal);
    this.#runtime.keepCompiled?.(); // it may take a while: before anybody watches
    this.#tellStackAccess(); // again: it may listen for SIGUSR1 since
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
    this.#allow("stop");
    await this.#call((id) => ({ type: "stop", id }));
  }

  heartbeat(): void {
    if (this.#client.state !== "started") this.#allow("heartbeat");
    if (this.#link === null) {
      if (!this.#client.exitWhenLost) return; // it goes on unprotected, and its timer must not end it
      throw new SamError(
        "LIBRARY",
        "the server of this process is gone: nobody sees this heartbeat",
      );
    }
    const window = this.#client.heartbeatWindow;
    if (window > 0) {
      const now = this.#runtime.now();
      if (now - this.#lastBeat < window) return;
      this.#lastBeat = now;
    }
    this.#link.heartbeat();
  }

  setHealthCheck(check: HealthCheck | null): void {
    this.#allow("setHealthCheck");
    if (check !== null && typeof check !== "function") {
      throw invalid("check", check, "a function, or null");
    }
    if (this.#client.timeInterval === 0) {
      throw new SamError(
        "INVALID_PARAM",
        "a health check needs a time interval: timeInterval is 0",
      );
    }
    if (check === null && !this.#client.hadHealthCheck) {
      throw new SamError(
        "INVALID_PARAM",
        "check is null, but no health check was ever set; it must be a function",
      );
    }
    this.#check = check;
    this.#feed({ type: "useHealthCheck", on: check !== null });
  }

  note(text: string): void {
    this.#allow("note");
    if (typeof text !== "string") throw invalid("text", text, "a text");
    if (text.length > maxNoteBytes / 3) {
      const { length } = new TextEncoder().encode(text);
      if (length > maxNoteBytes) {
        throw new SamError("TOO_BIG", `a note of ${length} bytes, ${maxNoteBytes} allowed`);
      }
    }
    if (this.#link?.note) this.#link.note(text);
    else if (this.#link) (this.#notes ??= new Notes(this.#runtime)).push(text, this.#link);
  }

  async setWarnSignal(signal: Signal): Promise<void> {
    this.#allow("setWarnSignal");
    checkSignal("signal", signal);
    await this.#call((id) => ({ type: "setWarnSignal", id, signal }));
  }

  async markFailed(): Promise<void> {
    this.#allow("markFailed");
    if (!this.#client.hasClusterMap) {
      throw new SamError(
        "INVALID_PARAM",
        "markFailed() needs a cluster map: set the option clusterMap",
      );
    }
    await this.#call((id) => ({ type: "markFailed", id }));
  }

  async finalize(): Promise<void> {
    this.#allow("finalize");
    await this.#call((id) => ({ type: "finalize", id }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (callable.finalize.includes(this.#client.state) && !this.#isServer) await this.finalize();
  }

  async #store(bytes: Uint8Array | null): Promise<void> {
    this.#allow("data.store");
    if (bytes !== null && !(bytes instanceof Uint8Array)) {
      throw invalid("bytes", bytes, "a Uint8Array, or null");
    }
    const length = bytes?.length ?? 0;
    if (length > this.#client.maxDataSize) {
      throw new SamError(
        "TOO_BIG",
        `${length} bytes of data, ${this.#client.maxDataSize} allowed: store less or raise maxDataSize`,
      );
    }
    const given = bytes ?? new Uint8Array(0);
    const taken = this.#client.keepsAtOnce ? attached(given) : copyOf(given);
    await this.#call((id) => ({ type: "store", id, bytes: taken }));
  }

  #allow(call: Call): void {
    const { state } = this.#client;
    if (callable[call].includes(state) && !this.#isServer) return;
    const where = this.#isServer ? "in the process that became the server" : `while ${state}`;
    throw new SamError(
      "BAD_HANDLE",
      `${call} is not allowed ${where}; it is allowed while ${callable[call].join(", ")}`,
    );
  }

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
    if (hold !== this.#holding) {
      this.#holding = hold;
      this.#link?.hold(hold);
    }
    this.#arm();
  }

  #carryOut(effect: ClientEffect): void {
    switch (effect.type) {
      case "send":
        this.#link?.send(encodeClient(effect.message));
        break;
      case "keep":
        this.#keep(effect.id, effect.bytes);
        break;
      case "confirm":
        this.confirm();
        break;
      case "check":
        void this.#runCheck();
        break;
      case "resolve":
        this.#settle(effect.id, ({ resolve }) => resolve());
        break;
      case "reject":
        this.#settle(effect.id, ({ reject }) => reject(new SamError(effect.code, effect.message)));
        break;
      case "abort":
        this.#abort.abort(new SamError(effect.code, effect.message));
        break;
      case "disconnect":
        this.#disconnect();
        break;
      case "exit":
        this.#runtime.exit(1);
    }
  }

  #keep(id: number, bytes: Uint8Array): void {
    const last = this.#client.data;
    try {
      // Nobody else has the last copy: where it is as long, it serves again.
      const copy = last.length === bytes.length ? last : copyOf(bytes);
      if (!this.#isKept(bytes)) return this.#feed({ type: "unkept", id, bytes: copyOf(bytes) });
      if (copy === last) copy.set(bytes);
      this.#client.data = copy;
      this.#settle(id, ({ resolve }) => resolve());
    } catch (error) {
      this.#settle(id, ({ reject }) => reject(error as SamError)); // no memory for a copy
    }
  }

  #isKept(bytes: Uint8Array): boolean {
    try {
      this.#link!.keep!(bytes);
      return true;
    } catch {
      return false;
    }
  }

  #settle(id: number, how: (settle: Settle) => void): void {
    const settle = this.#calls.get(id);
    this.#calls.delete(id);
    if (settle) how(settle);
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
    const check = this.#check!;
    let healthy = true;
    let detail = "";
    try {
      const answer = await check();
      if (answer === false || (typeof answer === "number" && answer !== 0)) {
        healthy = false;
        detail = `the health check answered ${answer}`;
      }
    } catch (error) {
      healthy = false;
      detail = `the health check failed: ${describeThrown(error)}`;
    }
    this.#feed({ type: "checked", healthy, detail });
  }

  #arm(): void {
    const due = this.#client.deadline;
    if (due === undefined || due >= this.#armedFor || due === Infinity) return;
    this.#cancelTimer?.();
    this.#armedFor = due;
    this.#cancelTimer = this.#runtime.schedule(
      () => {
        this.#armedFor = Infinity;
        this.#feed({ type: "tick" });
      },
      Math.max(0, due - this.#runtime.now()),
      false,
    );
  }
}

/** Notes that go as messages: each at once, as long as there are not too many for the server. */
class Notes {
  readonly #runtime: Runtime;
  #credit = noteBurst;
  #creditedAt = 0;
  #waiting: string | null = null;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  push(text: string, link: Link): void {
    const now = this.#runtime.now();
    this.#credit = Math.min(noteBurst, this.#credit + (now - this.#creditedAt) * notesPerMs);
    this.#creditedAt = now;
    if (this.#credit >= 1) {
      this.#credit--;
      this.#waiting = null;
      return link.send(encodeClient({ type: "note", text }));
    }
    const idle = this.#waiting === null;
    this.#waiting = text;
    if (idle) {
      this.#runtime.schedule(
        () => {
          if (this.#waiting !== null) this.push(this.#waiting, link);
        },
        noteBurst / notesPerMs,
        false,
      );
    }
  }
}

function checkAbortSignal(options: unknown): AbortSignal | undefined {
  const signal = checkObject("options", options, ["signal"])["signal"] as Partial<AbortSignal>;
  if (
    signal === undefined ||
    (typeof signal?.aborted === "boolean" && typeof signal.addEventListener === "function")
  ) return signal as AbortSignal | undefined;
  throw invalid("options.signal", signal, "an AbortSignal");
}

function interrupted(signal: AbortSignal): SamError {
  return new SamError("INTERRUPT", "start() was ended by its AbortSignal", {
    cause: signal.reason,
  });
}

function copyOf(bytes: Uint8Array): Uint8Array {
  try {
    return new Uint8Array(attached(bytes));
  } catch (cause) {
    if (cause instanceof SamError) throw cause;
    throw new SamError("NO_MEMORY", `no memory for a copy of ${bytes.length} bytes`, { cause });
  }
}

/** `bytes`, which were not given away to a worker. */
function attached(bytes: Uint8Array): Uint8Array {
  try {
    new Uint8Array(bytes.buffer, 0, 0);
    return bytes;
  } catch {
    throw invalid("bytes", bytes, "a Uint8Array that is not detached");
  }
}

/** What was thrown, for people; it may be anything. */
function describeThrown(error: unknown): string {
  try {
    return error instanceof Error ? error.stack ?? error.message : String(error);
  } catch {
    return "something that cannot be shown was thrown";
  }
}

function linkError(error: unknown, transport: string): SamError {
  if (error instanceof SamError && error.code !== "LIBRARY") return error;
  const message = error instanceof Error ? error.message : String(error);
  const code: SamErrorCode = (error as { code?: string }).code === "EACCES" ? "ACCESS" : "LIBRARY";
  return new SamError(
    code,
    `cannot reach the server of this process over "${transport}" (${message}). Either the server has ended, or another process of the same program has registered, and a server watches only one: start each with a "sam run" or supervise() of its own, or without SAM_LINK in its environment`,
    {
      cause: error,
    },
  );
}
