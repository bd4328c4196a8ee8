/** One instance of the program, or a spare: starts its process, signals it, and cleans up after it. */
import type {
  Endpoint,
  Link,
  ServerTransport,
  Transport,
  WorkerEndpoint,
} from "../../../transports/transport.ts";
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
  Runtime,
  Sockets,
  SystemFiles,
} from "../../runtime/runtime.ts";

/** The roles of a runtime that an instance needs. */
export type InstanceRuntime =
  & Clock
  & Processes
  & SystemFiles
  & Pick<Files, "readText">
  & Pick<Sockets, "connectPort">
  & Pick<OwnProcess, "name" | "pid" | "stdinIsTerminal" | "writeOutput">;

/** Binds a transport to the runtime that it uses. */
export function bindRuntime(transport: Transport, runtime: Runtime): ServerTransport {
  const { name, sampled = false } = transport;
  return { name, sampled, open: () => transport.open(runtime) };
}

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

/** Receives what happens to an instance. */
export interface InstanceSink {
  input(input: ServerInput): void;
  fallback(side: "server" | "program", detail: string): void;
  problem(error: unknown, failure: string): void;
}

/** Milliseconds that the server waits for its own SIGINT after Ctrl-C has ended the program: Ctrl-C reaches both. */
const ctrlCMs = 100;
/** Milliseconds that SAM waits after the exit for the end of the link and of the output. A child process may hold them open. */
const lastWordsMs = 50;
/** Milliseconds for which the output is passed on after the end of an instance: a child process may still write. */
const restOfOutputMs = 1000;
/** Milliseconds for which the output is passed on if the reader of the server's own output is slow. */
const slowReaderMs = 10_000;

/** One instance of the program, or a spare. */
export class Instance {
  /** Resolves when the process has been reaped, or could not be started. */
  readonly ended: Promise<void>;

  readonly #parts: InstanceParts;
  readonly #sink: InstanceSink;
  #endpoint: Endpoint | null = null;
  #child: Child | null = null;
  /** The link to the process; null before the process has connected. */
  #session: LinkSession | null = null;
  /** Resolves when the link is open again for the next program below the wrapper. */
  #reopened: Promise<void> | undefined;
  /** The processes of the instance; null before there is one. */
  #tree: ProcessTree | null = null;
  /** The guard's entry for the instance; null while it is not guarded. */
  #ward: Ward | null = null;
  /** The output of the process; null if SAM does not read it. */
  #output: OutputTail | null = null;
  /** Collects the evidence; null before there is a process. */
  #examination: Examination | null = null;
  /** Signals that wait until the stack trace is captured. */
  #held: Signal[] = [];
  /** True if the process must be killed as soon as it exists. */
  #isDoomed = false;
  #isBuried = false;
  #abandon: () => void = () => {};
  /** Resolves when the process cannot be killed. */
  readonly #abandoned = new Promise<void>((resolve) => this.#abandon = resolve);

  /** Starts the process. */
  constructor(parts: InstanceParts, sink: InstanceSink) {
    this.#parts = parts;
    this.#sink = sink;
    this.ended = this.#run();
  }

  /** Runs from the start of the process to its end. */
  async #run(): Promise<void> {
    const { runtime, command, guard, killMode = "group", settings } = this.#parts;
    let child: Child;
    let leads = false;
    let family = "";
    let expected: Ward | null = null;
    let asked: Command;
    try {
      asked = await Promise.resolve().then(command);
      // At a terminal, the program stays in the foreground process group: Ctrl-C must reach it, and it may read the terminal.
      leads = guard !== undefined && !(asked.stdio[0] === "inherit" && runtime.stdinIsTerminal);
      if (guard && killMode === "group") family = familyVariable(runtime.pid);
      const env = { ...asked.env, ...(family && { [family]: "1" }) };
      const line = { ...asked, env, ownGroup: leads };
      const { transport, endpoint } = await this.#open();
      this.#endpoint = endpoint;
      const { address } = endpoint;
      if (family && settings.serverLost === "exit") {
        // The guard must know the process before it exists, in case the server is killed at that moment.
        expected = { pid: 0, leads: false, family };
        await guard!.add(expected).catch(() => {}); // `#guardAs` reports it
      }
      const variable = (text: string): Record<string, string> =>
        asked.restartsItself ? {} : { [linkVariable]: `${transport.name}:${text}` };
      child = this.#child = typeof address === "string"
        ? await runtime.spawn({ ...line, env: { ...line.env, ...variable(address) } })
        : await runtime.spawn(line, (descriptor) => variable(address(descriptor)));
    } catch (error) {
      if (expected) guard!.remove(expected);
      this.#sink.input({ type: "spawnFailed", error: problemOf(error) });
      return;
    }
    this.#setProcess(child, asked, family);
    if (this.#isDoomed) this.end("SIGKILL");
    this.#guardAs({ pid: child.pid, leads: leads && killMode === "group", family });
    if (expected) guard!.remove(expected);
    this.#sink.input({ type: "spawned", pid: child.pid });
    try {
      this.#endpoint!.accept(child, (link) => this.#setLink(link));
    } catch (error) {
      this.#sink.problem(
        error,
        "the transport cannot accept the program's connection, so the program was killed",
      );
      this.end("SIGKILL");
    }
    const exit = await child.exited;
    if ((exit.signal === "SIGINT" || exit.code === 130) && runtime.stdinIsTerminal) {
      await new Promise<void>((resolve) => runtime.schedule(resolve, ctrlCMs, true));
    }
    await this.#tree!.waitForOrphans(() => this.#sink.input({ type: "orphaned", ...exit }));
    this.#sweep();
    await this.#conclude(exit, asked);
  }

  /** Makes the parts that need the process, which now exists. */
  #setProcess(child: Child, asked: Command, family: string): void {
    const { runtime, killMode = "group" } = this.#parts;
    this.#tree = new ProcessTree(runtime, child, {
      mayBeWrapper: asked.module === undefined && killMode === "group",
      family: family && `${family}=1`,
    }, {
      problem: (error, failure) => this.#sink.problem(error, failure),
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

  /** Reports the exit of the process, and then, when its last messages and output have arrived, the evidence. */
  async #conclude(exit: Exit, asked: Command): Promise<void> {
    const { runtime } = this.#parts;
    this.#sink.input({ type: "exit", ...exit });
    this.#examination!.end();
    const lastWords = Promise.all([
      this.#session?.ended,
      this.#output?.ended,
      this.#examination!.over,
    ]);
    // After a stall of the server, the timer fires before input that arrived earlier is read. The event loop reads it now.
    if (!await endsWithin(runtime, lastWords, lastWordsMs)) await runtime.settle();
    this.#session?.takeStoredData();
    const { evidence } = this.#examination!;
    const detail = heapDetail(asked, exit, evidence.output);
    this.#sink.input({ type: "concluded", detail, evidence });
  }

  /** Opens an endpoint, of the other transport if need be. A missing permission is an error, because the user can grant it. */
  async #open(): Promise<{ transport: ServerTransport; endpoint: Endpoint }> {
    const { transport, otherTransport } = this.#parts;
    try {
      return { transport, endpoint: await transport.open() };
    } catch (error) {
      if (!otherTransport || (error instanceof SamError && error.code === "ACCESS")) throw error;
      const other = await otherTransport().catch(() => {
        throw error; // the other transport cannot be loaded; the first error says more
      });
      const endpoint = await other.open();
      this.#sink.fallback(
        "server",
        `${messageOf(error)}; using transport "${other.name}" instead`,
      );
      return { transport: other, endpoint };
    }
  }

  #guardAs(ward: Ward): void {
    const { guard, settings } = this.#parts;
    if (!guard) return;
    this.#ward = ward;
    (settings.serverLost === "exit" ? guard.add(ward) : guard.ready()).catch((error) =>
      this.#sink.fallback(
        "server",
        `cannot start the guard process (${
          messageOf(error)
        }): if this SAM server is killed, a hung program and its child processes may outlive it`,
      )
    );
  }

  /** Kills the child processes that the ended process left behind, unless it was let go. */
  #sweep(): void {
    const ward = this.#ward;
    if (!ward) return;
    const { runtime, guard, killMode } = this.#parts;
    this.#ward = null;
    if (killMode === "process") return guard!.remove(ward);
    guard!.sweep(ward);
    try {
      // The process has been reaped. If a process has its pid, the kernel has reused the pid. The kernel does that only when
      // the process group of that id has no members, so there is nothing to kill.
      const reused = runtime.systemText(`/proc/${ward.pid}/stat`) !== undefined;
      if (ward.leads && !reused) runtime.kill(-ward.pid, "SIGKILL");
    } catch {
      // not permitted (Deno without --allow-run): the guard finds the processes by their family
    }
  }

  /** Lets the process outlive its server. */
  letGo(): void {
    if (this.#tree) this.#tree.hasFinalized = true;
    if (this.#ward) this.#parts.guard!.remove(this.#ward);
    this.#ward = null;
  }

  #setLink(link: Link): void {
    this.#close(this.#endpoint);
    if (this.#isBuried) return link.close();
    this.#session = new LinkSession(link, this.#parts.settings.maxDataSize, {
      ...this.#sink,
      registered: (pid) => this.#tree!.setProgram(pid),
    });
    this.#session.begin();
  }

  /** Opens the link again for the next program below the wrapper. The last one has ended. */
  reopen(): void {
    this.#reopened = this.#endpoint?.reopen?.().then((endpoint) => {
      this.#endpoint = endpoint;
      if (this.#isBuried) this.#close(endpoint);
      else endpoint.accept(this.#child!, (link) => this.#setLink(link));
    }).catch((error) =>
      this.#sink.problem(
        error,
        "cannot open the connection again, so the next program below the wrapper is not watched",
      )
    );
  }

  /** The size of the data that the process stored on the link, in bytes; undefined for none, and for too many. */
  get storedSize(): number | undefined {
    return this.#session?.storedSize;
  }

  /** Polls for heartbeats that do not wake the server. */
  sample(): void {
    this.#session?.sample();
  }

  /** Sends a message to the process. */
  send(message: ServerMessage): void {
    this.#session?.send(message);
  }

  /** Sends the signal that must end the process. */
  end(signal: Signal): void {
    if (this.#tree) this.#tree.ending = signal;
    this.signal(signal);
  }

  /** Sends a signal to the program. While its stack is taken, the signal waits. */
  signal(signal: Signal): void {
    if (this.#examination?.isTakingStack) this.#held.push(signal);
    else this.#tree?.signal(signal);
  }

  /** Opens the server's side for a worker of node:cluster; undefined if the transport cannot. */
  openWorker(key: string): Promise<WorkerEndpoint> | undefined {
    return this.#endpoint?.openWorker?.(key);
  }

  /** Records that the terminal has already sent the program the signal that must end it. */
  markDelivered(): void {
    if (this.#tree) this.#tree.isDelivered = true;
  }

  /** Passes the signal of the ended wrapper on to the program below it. */
  passOn(): void {
    this.#tree?.passOn();
  }

  /** The pid of the process that registered; if none has, that of the spawned process; undefined before there is one. */
  get pid(): number | undefined {
    return this.#tree?.pid;
  }

  /** Carries out the effect `examine`. `isBusy`: the main thread of the process never pauses, so its event loop is blocked. */
  examine(request: ServerEffect & { readonly type: "examine" }, isBusy: boolean): void {
    const { pid } = this;
    if (pid === undefined) return;
    const examination = this.#examination!;
    examination.begin(pid, request, (hasStack) => {
      for (const signal of this.#held.splice(0)) this.signal(signal);
      const { evidence } = examination;
      this.#sink.input({ type: "examined", evidence, isBlocked: isBusy || hasStack });
    });
  }

  /** Cleans up after the process, which has ended. Returns a promise for what is left to do, such as the rest of the output. */
  bury(): Promise<void> | undefined {
    if (this.#isBuried) return;
    this.#isBuried = true;
    this.#tree?.release();
    this.#sweep();
    // A link that uses the stream of the process closes that stream.
    this.#close(this.#session?.link ?? this.#child?.stream);
    this.#close(this.#endpoint);
    const output = this.#output;
    const drained = output?.drained(restOfOutputMs, slowReaderMs).then(() => output.close());
    // Otherwise, the directory of a link that is being opened again would be left behind.
    return this.#reopened?.then(() => drained) ?? drained;
  }

  #close(part: { close(): void } | null | undefined): void {
    try {
      part?.close();
    } catch (error) {
      this.#sink.problem(error, "cannot close the transport");
    }
  }

  /** Kills the process, which may still be starting, and cleans up after it. */
  async destroy(): Promise<void> {
    this.#isDoomed = true;
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
