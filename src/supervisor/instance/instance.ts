/** One process of the program, with its endpoint and its link: what the driver starts, signals, hears of and buries. */
import type { Endpoint, Kept, Link, Transport } from "../../../transports/transport.ts";
import { decodeClient, encodeServer, type ServerMessage } from "../../core/wire.ts";
import type { Evidence, Note, Problem, ServerInput } from "../../core/server/types.ts";
import type { Signal } from "../../core/signals.ts";
import { SamError } from "../../errors.ts";
import { familyVariable, type Guard, type Ward } from "./guard.ts";
import { heapDetail } from "./heap_limit.ts";
import { processState } from "../../runtime/procfs.ts";
import { ProcessTree } from "./process_tree.ts";
import { linkVariable } from "../../runtime/launch.ts";
import type { Child, Command, Runtime } from "../../runtime/runtime.ts";
import {
  type StackAttempt,
  type StackFinding,
  type StackTarget,
  takeStack,
} from "./stack_capture.ts";
import { Tail } from "./output_tail.ts";

/** What an instance is started with. */
export interface InstanceParts {
  readonly runtime: Runtime;
  readonly transport: Transport;
  readonly otherTransport?: () => Promise<Transport>;
  readonly command: () => Promise<Command>;
  readonly settings: { readonly maxDataSize: number; readonly serverLost: "exit" | "continue" };
  readonly guard?: Guard | undefined;
  readonly killMode?: "group" | "process";
}

/** Who hears of an instance. */
export interface InstanceSink {
  input(input: ServerInput): void;
  fallback(side: "server" | "program", detail: string): void;
  problem(error: unknown, what: string): void;
}

/** Ctrl-C reaches the program and this server; where the program's end is seen first, the signal is not far behind. */
const ctrlCMs = 100;
/** What the driver knows of an instance, beside what the core knows. */
type Findings = Omit<Evidence, "detail" | "exitCode" | "signal" | "heartbeatAge">;

const heartbeat: ServerInput = { type: "heartbeat" };
/** An exit waits so long for the last output that was written before it. */
const lastOutputMs = 50;
/** Output is passed on for so long after an instance was buried: a helper may still write. */
const restOfOutputMs = 1000;
/** The same, where whoever reads our own output is slow. */
const slowReaderMs = 10_000;

/** One process of the program. */
export class Instance {
  /** Resolved when the process has been reaped, or could not be started. */
  readonly ended: Promise<void>;

  readonly #parts: InstanceParts;
  readonly #sink: InstanceSink;
  #endpoint: Endpoint | null = null;
  #child: Child | null = null;
  #link: Link | null = null;
  /** Its processes; null before there is one. */
  #tree: ProcessTree | null = null;
  /** What the guard knows of it; null when it is not, or no longer, guarded. */
  #ward: Ward | null = null;
  #sampled = 0;
  /** Data come by messages, after those that were kept. */
  #outdated = false;
  #words: readonly string[] = [];
  /** A module, and not a command, which need not have a JavaScript stack. */
  #isModule = false;
  #tail: Tail | null = null;
  /** How the process said that its stack can be had. */
  #stackAccess: string | null = null;
  #note: { readonly text: string; readonly at: number } | undefined;
  #findings: Findings = {};
  #examined: Promise<void> = Promise.resolve();
  /** The attempt to take the stack; null while there is none. */
  #attempt: StackAttempt | null = null;
  /** The last attempt, while it may have left an inspector open. */
  #late: StackAttempt | null = null;
  readonly #before: StackTarget["before"] = { ports: null };
  /** Signals that wait for the stack. */
  #held: Signal[] = [];
  #doomed = false;
  #buried = false;
  #abandon: () => void = () => {};
  /** Resolved when it cannot be killed. */
  readonly #abandoned = new Promise<void>((resolve) => this.#abandon = resolve);

  /** Starts the process. */
  constructor(parts: InstanceParts, sink: InstanceSink) {
    this.#parts = parts;
    this.#sink = sink;
    this.ended = this.#start();
  }

  async #start(): Promise<void> {
    const { runtime, command, guard, killMode = "group", settings } = this.#parts;
    let child: Child;
    let leads = false;
    let family = "";
    let expected: Ward | null = null;
    let asked: Command;
    try {
      asked = await Promise.resolve().then(command);
      // At a terminal it stays in the foreground, where Ctrl-C reaches it, and where it may read.
      leads = guard !== undefined && !(asked.stdio[0] === "inherit" && runtime.stdinIsTerminal);
      if (guard && killMode === "group") family = familyVariable(runtime.pid);
      this.#words = [...asked.flags, ...asked.args];
      this.#isModule = asked.module !== undefined;
      const env = { ...asked.env, ...(family && { [family]: "1" }) };
      const line = { ...asked, env, ownGroup: leads };
      const { transport, endpoint } = await this.#open();
      this.#endpoint = endpoint;
      const { address } = endpoint;
      if (family && settings.serverLost === "exit") {
        // Known to the guard before it is there: a server that is killed while it starts its program leaves nothing.
        expected = { pid: 0, leads: false, family };
        await guard!.add(expected).catch(() => {}); // said when it is there
      }
      const variable = (text: string): Record<string, string> =>
        asked.unlinked ? {} : { [linkVariable]: `${transport.name}:${text}` };
      child = this.#child = typeof address === "string"
        ? await runtime.spawn({ ...line, env: { ...line.env, ...variable(address) } })
        : await runtime.spawn(line, (descriptor) => variable(address(descriptor)));
    } catch (error) {
      if (expected) guard!.remove(expected);
      this.#sink.input({ type: "spawnFailed", error: problemOf(error) });
      return;
    }
    const tree = this.#tree = new ProcessTree(runtime, child, {
      mayBeWrapper: !this.#isModule && killMode === "group",
      family: family && `${family}=1`,
    }, {
      problem: (error, what) => this.#sink.problem(error, what),
      unkillable: (problem) => {
        this.#abandon();
        this.#sink.input({ type: "unkillable", problem });
      },
    });
    if (child.outputs.length > 0) this.#tail = new Tail(runtime, child.outputs);
    if (this.#doomed) this.end("SIGKILL");
    this.#watch({ pid: child.pid, leads: leads && killMode === "group", family });
    if (expected) guard!.remove(expected);
    this.#sink.input({ type: "spawned", pid: child.pid });
    try {
      this.#endpoint!.accept(child, (link) => this.#linked(link));
    } catch (error) {
      this.#sink.problem(error, "the transport cannot accept the program, which is killed");
      this.end("SIGKILL");
    }
    const exit = await child.exited;
    if ((exit.signal === "SIGINT" || exit.code === 130) && runtime.stdinIsTerminal) {
      await new Promise<void>((resolve) => runtime.schedule(resolve, ctrlCMs, true));
    }
    await tree.gone(() => this.#sink.input({ type: "orphaned", ...exit }));
    this.#sweep();
    this.#attempt?.abandon("the process ended before it could be taken");
    await this.#examined;
    await this.#tail?.drained(lastOutputMs);
    this.#takeKept();
    const detail = heapDetail(asked, exit, this.#tail?.lines);
    this.#sink.input({ type: "exit", ...exit, detail });
  }

  /** What is not permitted is for the user to permit; what the system has no room for may be had in another way. */
  async #open(): Promise<{ transport: Transport; endpoint: Endpoint }> {
    const { runtime, transport, otherTransport } = this.#parts;
    try {
      return { transport, endpoint: await transport.open(runtime) };
    } catch (error) {
      if (!otherTransport || (error instanceof SamError && error.code === "ACCESS")) throw error;
      const other = await otherTransport().catch(() => {
        throw error; // what was to be used instead cannot even be loaded
      });
      const endpoint = await other.open(runtime);
      this.#sink.fallback(
        "server",
        `${messageOf(error)}; transport "${other.name}" is used instead`,
      );
      return { transport: other, endpoint };
    }
  }

  #watch(ward: Ward): void {
    const { guard, settings } = this.#parts;
    if (!guard) return;
    this.#ward = ward;
    (settings.serverLost === "exit" ? guard.add(ward) : guard.ready()).catch((error) =>
      this.#sink.fallback(
        "server",
        `there is no guard process (${
          messageOf(error)
        }): if this server is killed, a program that is blocked outlives it, and so may helpers`,
      )
    );
  }

  /** The process has ended: what it started goes with it, unless it was let go. */
  #sweep(): void {
    const ward = this.#ward;
    if (!ward) return;
    const { runtime, guard, killMode } = this.#parts;
    this.#ward = null;
    if (killMode === "process") return guard!.remove(ward);
    guard!.sweep(ward);
    try {
      // Nobody else gets the number of a group that still has members; where another process has it, there are none left.
      const reused = runtime.systemText(`/proc/${ward.pid}/stat`) !== undefined;
      if (ward.leads && !reused) runtime.kill(-ward.pid, "SIGKILL");
    } catch {
      // not permitted (Deno without --allow-run): the guard finds them by their family
    }
  }

  /** It goes on without us. */
  letGo(): void {
    if (this.#tree) this.#tree.isFree = true;
    if (this.#ward) this.#parts.guard!.remove(this.#ward);
    this.#ward = null;
  }

  #linked(link: Link): void {
    this.#close(this.#endpoint);
    if (this.#buried) return link.close();
    this.#link = link;
    if (link.sample) this.#sampled = link.sample();
    if (link.notice) this.#sink.fallback("server", link.notice);
    link.receive({
      heartbeat: () => this.#heartbeat(),
      frame: (frame) => this.#receive(frame),
      end: () => {
        this.#takeKept();
        this.#note = this.#lastNote;
        this.#link = null;
        this.#sink.input({ type: "linkEnd" });
      },
    });
  }

  #receive(frame: Uint8Array): void {
    try {
      const message = decodeClient(frame);
      if (message.type === "note") {
        this.#note = { text: message.text, at: Date.now() };
        return;
      }
      if (message.type === "stackAccess") {
        this.#stackAccess = message.how;
        return;
      }
      if (message.type === "hello") {
        if (message.notice) this.#sink.fallback("program", message.notice);
        this.#tree!.noteProgram(message.pid);
      }
      // A process that sends data after it has kept some had no room for more, and keeps none any more.
      if (message.type === "store" && this.#kept) {
        this.#takeKept();
        this.#outdated = true;
      }
      // Heartbeats before a start or an answer are older than it: they are counted first.
      this.sample();
      this.#sink.input({ type: "message", message });
    } catch (error) {
      this.#sink.problem(error, "the program sent what is no frame; its link is closed");
      this.#dropLink();
    }
  }

  /** Ends the link from here; what was left beside it is taken first. */
  #dropLink(): void {
    this.#takeKept();
    this.#link?.close();
  }

  get #kept(): Kept | undefined {
    return this.#outdated ? undefined : this.#link?.kept?.();
  }

  /** How many bytes the process has left without a message; undefined for none, or for more than it may. */
  get keptSize(): number | undefined {
    const size = this.#kept?.size;
    return size === undefined || size > this.#parts.settings.maxDataSize ? undefined : size;
  }

  /** The process can leave nothing more: what it left is the server's from now on. */
  #takeKept(): void {
    const { maxDataSize } = this.#parts.settings;
    try {
      const kept = this.#kept;
      if (!kept) return;
      if (kept.size > maxDataSize) {
        throw new Error(`${kept.size} bytes, of which ${maxDataSize} are allowed`);
      }
      const bytes = kept.read();
      if (!bytes) throw new Error(`there are no ${kept.size} bytes`);
      this.#sink.input({ type: "kept", bytes });
    } catch (error) {
      this.#sink.problem(error, "the data that the program left cannot be read");
    }
  }

  /** Looks for heartbeats that wake nobody. */
  sample(): void {
    try {
      const count = this.#link?.sample?.();
      if (count === undefined || count === this.#sampled) return;
      this.#sampled = count;
    } catch (error) {
      this.#sink.problem(error, "the transport cannot look for heartbeats; its link is closed");
      return this.#dropLink();
    }
    this.#heartbeat();
  }

  /** It lives, perhaps again, after it was only observed. */
  #heartbeat(): void {
    if (this.#late?.closeLate() === false) this.#late = null;
    this.#sink.input(heartbeat);
  }

  /** Says something to the process. */
  send(message: ServerMessage): void {
    this.#link?.send(encodeServer(message));
  }

  /** Sends the signal by which the process is to end. */
  end(signal: Signal): void {
    if (this.#tree) this.#tree.ending = signal;
    this.signal(signal);
  }

  /** Sends a signal to the program. Waits while its stack is taken. */
  signal(signal: Signal): void {
    if (this.#attempt) this.#held.push(signal);
    else this.#tree?.signal(signal);
  }

  /** The program has got the signal by which it is to end. */
  noteDelivered(): void {
    if (this.#tree) this.#tree.isDelivered = true;
  }

  /** The wrapper has ended: the program below it gets the wrapper's signal. */
  passOn(): void {
    this.#tree?.passOn();
  }

  /** The process that registered; before that the one that was spawned, and undefined before there is one. */
  get pid(): number | undefined {
    return this.#tree?.pid;
  }

  /**
   * Looks at the process, which is about to be ended; takes its stack within `stackMs`, unless that is 0. A stack shows that
   * its event loop is blocked, and so does a main thread that never pauses (`isBusy`).
   */
  examine(stackMs: number, isBusy: boolean): void {
    const { pid } = this;
    if (pid === undefined || this.#attempt) return;
    const { runtime } = this.#parts;
    const state = processState(runtime, pid);
    this.#findings = { ...(state && { processState: state }), ...this.#noteBefore(Date.now()) };
    const judge = (isBlocked: boolean) => isBlocked && this.#sink.input({ type: "blocked" });
    if (stackMs === 0 || (this.#stackAccess === null && !this.#isModule)) return void judge(isBusy);
    const target = { pid, access: this.#stackAccess, words: this.#words, before: this.#before };
    const attempt = this.#attempt = takeStack(runtime, target, stackMs);
    this.#late = null;
    this.#examined = attempt.found.then((finding) => {
      this.#endExamination(attempt, finding);
      judge(isBusy || "stack" in finding);
    });
  }

  #endExamination(attempt: StackAttempt, finding: StackFinding): void {
    this.#findings = { ...this.#findings, ...finding };
    this.#attempt = null;
    this.#late = attempt;
    for (const signal of this.#held.splice(0)) this.signal(signal);
  }

  /** Resolved when `examine` has done its work. */
  get examined(): Promise<void> {
    return this.#examined;
  }

  /** What is known about the process, beside what it said. */
  get findings(): Findings {
    const lines = this.#tail?.lines;
    return { ...this.#noteBefore(Date.now()), ...this.#findings, ...(lines && { output: lines }) };
  }

  get #lastNote(): { readonly text: string; readonly at: number } | undefined {
    return this.#link?.noted?.() ?? this.#note;
  }

  #noteBefore(now: number): { note?: Note } {
    const note = this.#lastNote;
    return note ? { note: { text: note.text, age: Math.max(0, now - note.at) } } : {};
  }

  /** The process has ended: gives back what belonged to it. Returns what the rest of its output waits for. */
  bury(): Promise<void> | undefined {
    if (this.#buried) return;
    this.#buried = true;
    this.#tree?.release();
    this.#sweep();
    if (this.#link) this.#close(this.#link);
    else this.#close(this.#child?.stream);
    this.#close(this.#endpoint);
    const tail = this.#tail;
    return tail?.drained(restOfOutputMs, slowReaderMs).then(() => tail.close());
  }

  #close(what: { close(): void } | null | undefined): void {
    try {
      what?.close();
    } catch (error) {
      this.#sink.problem(error, "the transport did not close");
    }
  }

  /** Ends a process that is not the active one, wherever it is in its life, and buries it. */
  async destroy(): Promise<void> {
    this.#doomed = true;
    this.end("SIGKILL");
    await Promise.race([this.ended, this.#abandoned]);
    await this.bury();
  }
}

function problemOf(error: unknown): Problem {
  if (error instanceof SamError) {
    return { code: error.code, message: error.message, cause: error.cause };
  }
  return {
    code: "LIBRARY",
    message: `cannot start the program: ${messageOf(error)}`,
    cause: error,
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
