/**
 * The stack of a process whose event loop is blocked. On Node the inspector is opened by SIGUSR1, for as long as it takes;
 * on Deno it must have been opened at the start (`--inspect`); Bun has none.
 */
import { InspectorSession, type StackFrame } from "./inspector.ts";
import type { SourcePlace } from "./source_map.ts";
import { descriptorsOf, handles, loopbackPorts, processState } from "../../runtime/procfs.ts";
import type {
  Clock,
  Files,
  OwnProcess,
  Processes,
  Sockets,
  SystemFiles,
} from "../../runtime/runtime.ts";

export type CaptureRuntime =
  & Clock
  & SystemFiles
  & Processes
  & Pick<Files, "readText">
  & Pick<Sockets, "connectPort">
  & Pick<OwnProcess, "name" | "pid">;

/** The process to be looked into. */
export interface StackTarget {
  readonly pid: number;
  /** How the process said that its stack can be had (`CaptureRuntime.stackAccess`); null before it did. */
  readonly access: string | null;
  /** The words of its command line, as far as we know them. */
  readonly words: readonly string[];
}

/** The stack, or why there is none. */
export type StackFinding = { readonly stack: string } | { readonly noStack: string };

/** How often the inspector is looked for. */
const pollMs = 2;

/** An attempt to take the stack. */
export interface StackAttempt {
  /** The result. Never rejects. */
  readonly found: Promise<StackFinding>;
  /** Ends it at once. */
  abandon(why: string): void;
}

/** Takes the stack, in `limitMs` at most. */
export function takeStack(
  runtime: CaptureRuntime,
  target: StackTarget,
  limitMs: number,
): StackAttempt {
  const attempt = new Attempt(runtime, target);
  const found = new Promise<StackFinding>((resolve) => {
    const settle = (finding: StackFinding) => {
      cancel();
      attempt.end();
      resolve(finding);
    };
    let compiled: string | undefined;
    attempt.abandon = (why) =>
      settle(compiled === undefined ? { noStack: why } : { stack: compiled });
    const cancel = runtime.schedule(
      () => attempt.abandon(`${attempt.stage} within ${Math.round(limitMs)} ms`),
      limitMs,
      true,
    );
    attempt.take().then(
      async (frames) => {
        compiled = formatStack(frames);
        settle({ stack: await formatSources(frames, runtime) ?? compiled });
      },
    ).catch((error: Error) => settle({ noStack: error.message }));
  });
  return { found, abandon: (why) => attempt.abandon(why) };
}

/** The stack with the lines of the sources; undefined where no script has a source map. */
async function formatSources(
  frames: readonly StackFrame[],
  runtime: CaptureRuntime,
): Promise<string | undefined> {
  if (frames.every(({ script }) => script.mapUrl === "")) return undefined;
  try {
    const { findSources } = await import("./source_map.ts");
    return formatStack(frames, findSources(frames, runtime));
  } catch {
    return undefined; // Deno could not get the package that reads source maps.
  }
}

/** One line for each frame. */
function formatStack(
  frames: readonly StackFrame[],
  places: readonly SourcePlace[] = frames.map((frame) => ({ ...frame, url: frame.script.url })),
): string {
  return places.map(({ url, line, column }, at) => {
    const { functionName } = frames[at]!;
    const place = `${url}:${line + 1}:${column + 1}`;
    return functionName === "" ? `at ${place}` : `at ${functionName} (${place})`;
  }).join("\n");
}

class Attempt {
  abandon: (why: string) => void = () => {};
  /** The step that has not been reached yet, for people. */
  stage = "the process did not open its inspector";
  readonly #runtime: CaptureRuntime;
  readonly #target: StackTarget;
  readonly #sessions = new Set<InspectorSession>();
  #ended = false;

  constructor(runtime: CaptureRuntime, target: StackTarget) {
    this.#runtime = runtime;
    this.#target = target;
  }

  end(): void {
    this.#ended = true;
    for (const session of this.#sessions) session.leave();
  }

  async take(): Promise<StackFrame[]> {
    const { pid, access } = this.#target;
    if (access === null) throw new Error("the program had not registered");
    const [how, rest] = /^(\w+):? ?(.*)$/s.exec(access)?.slice(1) as [string, string] ??
      ["none", ""];
    if (how === "none") throw new Error(rest);
    if (how === "flags" && !this.#target.words.some((word) => /^--inspect(=|$)/.test(word))) {
      throw new Error("Deno gives it only with the flag --inspect=127.0.0.1:0");
    }
    const state = processState(this.#runtime, pid);
    if (!state) throw new Error(this.#whyUnseen);
    if (state.state === "stopped") throw new Error("the process was stopped by a signal");
    if (/^(do_epoll_wait|ep_poll)$/.test(state.waitsIn ?? "")) {
      throw new Error("no JavaScript was running: its event loop waited for events");
    }
    if (how === "signal") return await this.#afterSignal(Number(rest));
    if (how === "flags") return await this.#open();
    throw new Error(`the program offers an unknown way in, "${how}"`);
  }

  /** Why nothing is known of the process. */
  get #whyUnseen(): string {
    const { name, pid } = this.#runtime;
    if (processState(this.#runtime, pid)) return `process ${this.#target.pid} has ended`;
    return `the server cannot read /proc${name === "deno" ? ", for which Deno needs -A" : ""}`;
  }

  /** Node: `port` is where its inspector is, if it is open already. */
  async #afterSignal(port: number): Promise<StackFrame[]> {
    const runtime = this.#runtime;
    const { pid } = this.#target;
    const before = this.#ports();
    if (before.has(port)) return await this.#over(port, false);
    // Without a handler it would die of it: --disable-sigusr1, or a listener that was removed.
    if (!handles(runtime, pid, "SIGUSR1")) {
      throw new Error("SIGUSR1, which opens Node's inspector, is disabled in this process");
    }
    const sockets = new Set(this.#descriptors());
    this.stage = "SIGUSR1 did not open the inspector (native code? or a listener for it?)";
    runtime.kill(pid, "SIGUSR1");
    while (!this.#ended) {
      // The table of all connections may be long: it is read when there is a new descriptor.
      const isNew = this.#descriptors().some((descriptor) => !sockets.has(descriptor));
      for (const each of isNew ? this.#ports() : []) {
        if (!before.has(each)) return await this.#over(each, true);
      }
      await new Promise<void>((resolve) => runtime.schedule(resolve, pollMs, true));
    }
    throw new Error("");
  }

  /** Deno: one of its ports may be the inspector's. */
  #open(): Promise<StackFrame[]> {
    this.stage = "the inspector did not answer";
    const ports = [...this.#ports()];
    if (ports.length === 0) throw new Error("the process listens on no port of 127.0.0.1");
    return Promise.any(ports.map((port) => this.#over(port, false))).catch((error) => {
      throw (error as AggregateError).errors[0];
    });
  }

  #descriptors(): readonly string[] {
    return descriptorsOf(this.#runtime, this.#target.pid);
  }

  #ports(): ReadonlySet<number> {
    return loopbackPorts(this.#runtime, this.#target.pid) ?? new Set();
  }

  /** Takes the stack by the inspector at `port`. `closes`: the inspector was opened for this, and is closed after it. */
  async #over(port: number, closes: boolean): Promise<StackFrame[]> {
    const session = new InspectorSession(() => this.#runtime.connectPort(port), closes);
    this.#sessions.add(session);
    if (this.#ended) session.leave();
    this.stage = "the inspector did not get hold of the main thread, which may be in native code,";
    return await session.stack();
  }
}
