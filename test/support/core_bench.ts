// Runs the server's core on a virtual clock, and checks every step against the rules that hold in every state. Programs
// of test/fixtures use this too and have no import map, so nothing of @std/assert is imported.
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import type { ClientMessage, ServerMessage } from "../../src/core/wire.ts";
import { protocolVersion } from "../../src/core/wire.ts";
import { checkOptions } from "../../src/api/options.ts";
import { Server } from "../../src/core/server/machine.ts";
import type {
  ExitStatus,
  MapKeys,
  ProcessEvidence,
  ServerEffect,
  ServerEvent,
  ServerInput,
  ServerSettings,
  SpareInput,
} from "../../src/core/server/types.ts";
import type { Signal } from "../../src/core/signals.ts";
import { StepRules } from "./step_rules.ts";

export const T = 100;
export const stopTimeout = 1000;

/** The defaults of the option `restart`. */
export const restartDefaults: ServerSettings["restart"] =
  checkOptions({ timeInterval: T, recoveryPolicy: "restart" }).settings.restart;

export const settings: ServerSettings = {
  program: "app",
  timeInterval: T,
  recoveryPolicy: "restart",
  warnSignal: "SIGTERM",
  restart: restartDefaults,
  startupTimeout: 0,
  stopTimeout,
  maxDataSize: 1000,
  serverLost: "exit",
  standby: 0,
  startedAtSpawn: false,
  hasQuorum: false,
  captureStack: true,
  observe: false,
  hasClusterMap: false,
  heartbeatWindow: 0,
};

type Only<T extends ServerEffect["type"]> = ServerEffect & { readonly type: T };
type Event<T extends ServerEvent["type"]> = ServerEvent & { readonly type: T };

/** A server, its clock and its effects. */
export class Bench {
  readonly server: Server;
  now = 1000;
  /** All effects so far. */
  readonly log: ServerEffect[] = [];
  /** The effects of the last call. */
  last: readonly ServerEffect[] = [];
  readonly #rules: StepRules;
  #lastRequest = 0;

  constructor(some: Partial<ServerSettings> = {}, seed = 1) {
    this.server = new Server({ ...settings, ...some }, seed);
    this.#rules = new StepRules(this.server);
  }

  get state(): string {
    return this.server.state;
  }

  /** Feeds one input at the present time. */
  feed(input: ServerInput): readonly ServerEffect[] {
    this.last = this.#rules.step(input, this.now);
    this.log.push(...this.last);
    return this.last;
  }

  /** Feeds a message of the active process, and returns the answers. Notes are not for the core. */
  say(message: ClientMessage): readonly ServerMessage[] {
    if (message.type !== "note") this.feed({ type: "message", message });
    return this.sent();
  }

  /** Sends a request without arguments, and returns the answer. */
  ask(type: "start" | "stop" | "finalize" | "markFailed"): ServerMessage | undefined {
    return this.say({ type, id: this.id() }).find((answer) => "id" in answer);
  }

  /** A new request id. */
  id(): number {
    return ++this.#lastRequest;
  }

  hello(version: number = protocolVersion): ServerMessage {
    this.say({ type: "hello", version, id: this.id(), pid: 7, notice: "" });
    const effects = this.last;
    this.last = [...effects, ...this.feed({ type: "mapped" })];
    return this.sent()[0]!;
  }

  store(bytes: Uint8Array, total: number = bytes.length, offset = 0): ServerMessage {
    return this.say({ type: "store", id: this.id(), total, offset, bytes })[0]!;
  }

  /** The data that the server has stored. */
  stored(): Uint8Array {
    const answer = this.say({ type: "fetch", id: this.id(), offset: 0 })[0]!;
    assertEquals(answer.type, "chunk");
    return (answer as ServerMessage & { type: "chunk" }).bytes.slice();
  }

  /** Lets time pass, with a punctual tick at every deadline. Returns the effects of that time. */
  pass(ms: number): readonly ServerEffect[] {
    const from = this.log.length;
    const end = this.now + ms;
    for (let ticks = 0;; ticks++) {
      assert(ticks < 10_000, "ticks without end");
      const due = this.server.deadline;
      if (due === undefined || due > end) break;
      this.now = Math.max(this.now, due);
      this.feed({ type: "tick" });
    }
    this.now = end;
    return this.last = this.log.slice(from);
  }

  // The effects of one type in the last call.

  of<K extends ServerEffect["type"]>(type: K): Only<K>[] {
    return this.last.filter((effect): effect is Only<K> => effect.type === type);
  }

  sent(): ServerMessage[] {
    return this.of("send").map(({ message }) => message);
  }

  signals(): Signal[] {
    return this.of("signal").map(({ signal }) => signal);
  }

  events<K extends ServerEvent["type"]>(type: K): Event<K>[] {
    return this.of("emit").map(({ event }) => event)
      .filter((event): event is Event<K> => event.type === type);
  }

  /** The exit status, once supervision has ended. */
  status(): ExitStatus | undefined {
    return this.log.find((effect): effect is Only<"finish"> => effect.type === "finish")?.status;
  }

  /** The cluster map at present; null when its keys are deleted. */
  map(): MapKeys | null {
    let keys = null as MapKeys | null;
    for (const effect of this.log) {
      if (effect.type === "map") keys = { ...keys, ...effect.keys };
      else if (effect.type === "unmap") keys = null;
    }
    return keys;
  }

  // Brings the program to the state `launched`.

  launch(): this {
    if (this.state === "idle") this.feed({ type: "begin" });
    this.feed({ type: "spawned", pid: 7 });
    return this;
  }

  register(): this {
    this.launch();
    assertEquals(this.hello().type, "welcome");
    return this;
  }

  start(): this {
    this.register();
    this.ask("start");
    return this;
  }

  /** Starts the spare's process when a spare is due. */
  startSpare(): this {
    this.pass(1000);
    return this.spare({ type: "spawned", pid: 8 });
  }

  /** Lets the spare call `register()`. */
  park(version: number = protocolVersion): this {
    const message = { type: "hello", version, id: 77, pid: 8, notice: "" } as const;
    return this.spare({ type: "hello", message });
  }

  /** Feeds an input about the spare. */
  spare(input: SpareInput): this {
    this.feed({ type: "spare", input });
    return this;
  }

  /** The process has ended, and all it said is known. */
  conclude(evidence: ProcessEvidence = {}): this {
    this.feed({ type: "concluded", evidence });
    return this;
  }

  /** Ends the process and its link. */
  exit(end: number | Signal): this {
    const from = this.log.length;
    this.feed(
      typeof end === "number"
        ? { type: "exit", code: end, signal: null }
        : { type: "exit", code: null, signal: end },
    );
    this.feed({ type: "linkEnd" });
    this.conclude();
    this.last = this.log.slice(from);
    return this;
  }
}
