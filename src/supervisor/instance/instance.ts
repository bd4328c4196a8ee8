/** One process of the program: how it is started, signaled, and buried with all that belongs to it. */
import type { Endpoint, Link, ServerTransport } from "../../../transports/transport.ts";
import type { Problem, ServerEffect, ServerInput } from "../../core/server/types.ts";
import type { Signal } from "../../core/signals.ts";
import type { ServerMessage } from "../../core/wire.ts";
import { SamError } from "../../errors.ts";
import { linkVariable } from "../../runtime/launch.ts";
import { endsWithin } from "../time_limit.ts";
import { Examination } from "./examination.ts";
import { familyVariable, type Guard, type Ward } from "./guard.ts";
import { heapDetail } from "./heap_limit.ts";
import { LinkSession } from "./link_session.ts";
import { OutputTail } from "./output_tail.ts";
import { ProcessTree } from "./process_tree.ts";
import type {
  Child,
  Clock,
  Command,
  Exit,
  Files,
  OwnProcess,
  Processes,
  Sockets,
  SystemFiles,
} from "../../runtime/runtime.ts";

/** The roles of a runtime by which an instance is run. */
export type InstanceRuntime =
  & Clock
  & Processes
  & SystemFiles
  & Pick<Files, "readText">
  & Pick<Sockets, "connectPort">
  & Pick<OwnProcess, "name" | "pid" | "stdinIsTerminal" | "writeOutput">;

/** The parts of an instance. */
export interface InstanceParts {
  readonly runtime: InstanceRuntime;
  readonly transport: ServerTransport;
  readonly otherTransport?: () => Promise<ServerTransport>;
  readonly command: () => Promise<Command>;
  readonly settings: { readonly maxDataSize: number; readonly serverLost: "exit" | "continue" };
  readonly guard?: Guard | undefined;
  readonly killMode?: "group" | "process";
}

/** Hears of an instance. */
export interface InstanceSink {
  input(input: ServerInput): void;
  fallback(side: "server" | "program", detail: string): void;
  problem(error: unknown, what: string): void;
}

/** Ctrl-C reaches the program and this server. If the server sees the program's end first, the signal follows soon. */
const ctrlCMs = 100;
/** How long an exit waits for the end of the link and of the output, which a helper may hold open. */
const lastWordsMs = 50;
/** How long output is passed on after an instance was buried: a helper may still write. */
const restOfOutputMs = 1000;
/** The same if the reader of the server's own output is slow. */
const slowReaderMs = 10_000;

/** One process of the program. */
export class Instance {
  /** Resolved when the process has been reaped, or could not be started. */
  readonly ended: Promise<void>;

  readonly #parts: InstanceParts;
  readonly #sink: InstanceSink;
  #endpoint: Endpoint | null = null;
  #child: Child | null = null;
  /** Null before the process has connected. */
  #session: LinkSession | null = null;
  /** The processes of the instance; null before there is one. */
  #tree: ProcessTree | null = null;
  /** The guard's entry for the instance; null while it is not guarded. */
  #ward: Ward | null = null;
  /** Null where no output is read. */
  #output: OutputTail | null = null;
  /** Null before there is a process. */
  #examination: Examination | null = null;
  /** Signals that wait for the stack. */
  #held: Signal[] = [];
  #doomed = false;
  #buried = false;
  #abandon: () => void = () => {};
  /** Resolved when the process cannot be killed. */
  readonly #abandoned = new Promise<void>((resolve) => this.#abandon = resolve);

  /** Starts the process. */
  constructor(parts: InstanceParts, sink: InstanceSink) {
    this.#parts = parts;
    this.#sink = sink;
    this.ended = this.#run();
  }

  /** From the start of the process to its end. */
  async #run(): Promise<void> {
    const { runtime, command, guard, killMode = "group", settings } = this.#parts;
    let child: Child;
    let leads = false;
    let family = "";
    let expected: Ward | null = null;
    let asked: Command;
    try {
      asked = await Promise.resolve().then(command);
      // At a terminal the program stays in the foreground, where Ctrl-C reaches it and where it may read.
      leads = guard !== undefined && !(asked.stdio[0] === "inherit" && runtime.stdinIsTerminal);
      if (guard && killMode === "group") family = familyVariable(runtime.pid);
      const env = { ...asked.env, ...(family && { [family]: "1" }) };
      const line = { ...asked, env, ownGroup: leads };
      const { transport, endpoint } = await this.#open();
      this.#endpoint = endpoint;
      const { address } = endpoint;
      if (family && settings.serverLost === "exit") {
        // The guard knows the process before it starts, so that a server that is killed meanwhile leaves nothing behind.
        expected = { pid: 0, leads: false, family };
        await guard!.add(expected).catch(() => {}); // reported when the process exists
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
    this.#own(child, asked, family);
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
    await this.#tree!.gone(() => this.#sink.input({ type: "orphaned", ...exit }));
    this.#sweep();
    await this.#conclude(exit, asked);
  }

  /** The process exists: takes what belongs to it. */
  #own(child: Child, asked: Command, family: string): void {
    const { runtime, killMode = "group" } = this.#parts;
    this.#tree = new ProcessTree(runtime, child, {
      mayBeWrapper: asked.module === undefined && killMode === "group",
      family: family && `${family}=1`,
    }, {
      problem: (error, what) => this.#sink.problem(error, what),
      unkillable: (problem) => {
        this.#abandon();
        this.#sink.input({ type: "unkillable", problem });
      },
    });
    if (child.outputs.length > 0) this.#output = new OutputTail(runtime, child.outputs);
    this.#examination = new Examination({
      runtime,
      words: [...asked.flags, ...asked.args],
      note: () => this.#session?.note,
      output: () => this.#output?.lines,
    });
  }

  /** The process has ended: says how, and then, when all that the process said is known, what that was. */
  async #conclude(exit: Exit, asked: Command): Promise<void> {
    const { runtime } = this.#parts;
    this.#sink.input({ type: "exit", ...exit });
    this.#examination!.end();
    const lastWords = Promise.all([
      this.#session?.ended,
      this.#output?.ended,
      this.#examination!.over,
    ]);
    // A server that was stalled sees the time-out first, and reads what had arrived before it after that.
    if (!await endsWithin(runtime, lastWords, lastWordsMs)) await runtime.settle();
    this.#session?.takeKept();
    const { evidence } = this.#examination!;
    const detail = heapDetail(asked, exit, evidence.output);
    this.#sink.input({ type: "concluded", detail, evidence });
  }

  /** Opens an endpoint. Without a permission that fails, for the user to decide; otherwise the other transport is used. */
  async #open(): Promise<{ transport: ServerTransport; endpoint: Endpoint }> {
    const { transport, otherTransport } = this.#parts;
    try {
      return { transport, endpoint: await transport.open() };
    } catch (error) {
      if (!otherTransport || (error instanceof SamError && error.code === "ACCESS")) throw error;
      const other = await otherTransport().catch(() => {
        throw error; // the other transport cannot even be loaded
      });
      const endpoint = await other.open();
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

  /** The process has ended: ends what it started, unless the process was let go. */
  #sweep(): void {
    const ward = this.#ward;
    if (!ward) return;
    const { runtime, guard, killMode } = this.#parts;
    this.#ward = null;
    if (killMode === "process") return guard!.remove(ward);
    guard!.sweep(ward);
    try {
      // The number of a group stays taken while it has members: if another process has it, the group is empty.
      const reused = runtime.systemText(`/proc/${ward.pid}/stat`) !== undefined;
      if (ward.leads && !reused) runtime.kill(-ward.pid, "SIGKILL");
    } catch {
      // not permitted (Deno without --allow-run): the guard finds them by their family
    }
  }

  /** The process goes on without its server. */
  letGo(): void {
    if (this.#tree) this.#tree.isFree = true;
    if (this.#ward) this.#parts.guard!.remove(this.#ward);
    this.#ward = null;
  }

  #linked(link: Link): void {
    this.#close(this.#endpoint);
    if (this.#buried) return link.close();
    this.#session = new LinkSession(link, this.#parts.settings.maxDataSize, {
      ...this.#sink,
      introduced: (pid) => this.#tree!.noteProgram(pid),
    });
    this.#session.begin();
  }

  /** How many bytes the process has left without a message; undefined for none, or for more than it may. */
  get keptSize(): number | undefined {
    return this.#session?.keptSize;
  }

  /** Looks for heartbeats that do not wake the server. */
  sample(): void {
    this.#session?.sample();
  }

  /** Sends a message to the process. */
  send(message: ServerMessage): void {
    this.#session?.send(message);
  }

  /** Sends the signal by which the process is to end. */
  end(signal: Signal): void {
    if (this.#tree) this.#tree.ending = signal;
    this.signal(signal);
  }

  /** Sends a signal to the program. Waits while its stack is taken. */
  signal(signal: Signal): void {
    if (this.#examination?.isTakingStack) this.#held.push(signal);
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

  /** Looks at the process, as the core asks. `isBusy`: its main thread never pauses, so that its event loop is blocked. */
  examine(request: ServerEffect & { readonly type: "examine" }, isBusy: boolean): void {
    const { pid } = this;
    if (pid === undefined) return;
    const examination = this.#examination!;
    examination.look(pid, request, (hasStack) => {
      for (const signal of this.#held.splice(0)) this.signal(signal);
      const { evidence } = examination;
      this.#sink.input({ type: "examined", evidence, isBlocked: isBusy || hasStack });
    });
  }

  /** The process has ended: gives back what belonged to it. Returns what the rest of its output waits for. */
  bury(): Promise<void> | undefined {
    if (this.#buried) return;
    this.#buried = true;
    this.#tree?.release();
    this.#sweep();
    // A link owns the stream of the process where it is built on that.
    this.#close(this.#session?.link ?? this.#child?.stream);
    this.#close(this.#endpoint);
    const output = this.#output;
    return output?.drained(restOfOutputMs, slowReaderMs).then(() => output.close());
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
