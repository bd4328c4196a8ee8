/**
 * Takes the stack of a process whose event loop is blocked, by the runtime's inspector. On Node, SIGUSR1 opens the inspector,
 * which is closed again afterwards. On Deno, the inspector must be open from the start (`--inspect`). Bun has none.
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

/** The process whose stack is taken. */
export interface StackTarget {
  readonly pid: number;
  /** The way to capture its stack, as the process reported it (see `OwnProcess.stackAccess`); null before it registered. */
  readonly access: string | null;
  /** The known flags and arguments of the process. */
  readonly words: readonly string[];
}

/** The stack, or the reason why there is none. */
export type StackFinding = { readonly stack: string } | { readonly noStack: string };

/** Milliseconds between two looks whether Node's inspector is open. */
const pollMs = 2;

/** An attempt to take the stack. */
export interface StackAttempt {
  /** The result. Never rejects. */
  readonly found: Promise<StackFinding>;
  /** Ends the attempt at once. `reason` is the reason why there is no stack. */
  abandon(reason: string): void;
}

/** Begins to take the stack, with a time limit. */
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
    attempt.abandon = (reason) =>
      settle(compiled === undefined ? { noStack: reason } : { stack: compiled });
    const cancel = runtime.schedule(
      () => attempt.abandon(`${attempt.obstacle} (waited ${Math.round(limitMs)} ms)`),
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
  return { found, abandon: (reason) => attempt.abandon(reason) };
}

/** Formats the stack with the lines of the sources; undefined if no script has a source map. */
async function formatSources(
  frames: readonly StackFrame[],
  runtime: CaptureRuntime,
): Promise<string | undefined> {
  if (frames.every(({ script }) => script.mapUrl === "")) return undefined;
  try {
    const { findSources } = await import("./source_map.ts");
    return formatStack(frames, findSources(frames, runtime));
  } catch {
    return undefined; // on Deno, the package that reads source maps may not be available
  }
}

/** Formats the stack, a line for each frame. */
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
  abandon: (reason: string) => void = () => {};
  /** The reason why there is no stack if time runs out now. */
  obstacle = "the process did not open its inspector";
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
    if (access === null) throw new Error("the program had not called register() yet");
    const [how, rest] = /^(\w+):? ?(.*)$/s.exec(access)?.slice(1) as [string, string] ??
      ["none", ""];
    if (how === "none") throw new Error(rest);
    if (how === "flags" && !this.#target.words.some((word) => /^--inspect(=|$)/.test(word))) {
      throw new Error("Deno needs the flag --inspect=127.0.0.1:0");
    }
    const state = processState(this.#runtime, pid);
    if (!state) throw new Error(this.#reasonForNoState);
    if (state.state === "stopped") {
      throw new Error("the process was stopped by a signal such as SIGSTOP");
    }
    if (/^(do_epoll_wait|ep_poll)$/.test(state.waitsIn ?? "")) {
      throw new Error("no JavaScript was running: the event loop was waiting for events");
    }
    if (how === "signal") return await this.#afterSignal(Number(rest));
    if (how === "flags") return await this.#throughAnyPort();
    throw new Error(
      `the program asks for an unknown way to take stacks, "${how}": use the same version of @x/sam in the program and its SAM server`,
    );
  }

  /** The reason why /proc tells nothing about the process. */
  get #reasonForNoState(): string {
    const { name, pid } = this.#runtime;
    if (processState(this.#runtime, pid)) return `process ${this.#target.pid} has ended`;
    return `the SAM server cannot read /proc${name === "deno" ? ": run it with deno -A" : ""}`;
  }

  /** Takes the stack on Node. `port` is the port of the inspector if it is open already. */
  async #afterSignal(port: number): Promise<StackFrame[]> {
    const runtime = this.#runtime;
    const { pid } = this.#target;
    const before = this.#ports();
    if (before.has(port)) return await this.#throughPort(port, false);
    // Without a handler, SIGUSR1 would end the process: after --disable-sigusr1, or if a listener was removed.
    if (!handles(runtime, pid, "SIGUSR1")) {
      throw new Error("SIGUSR1, which opens Node's inspector, is disabled in this process");
    }
    const sockets = new Set(this.#descriptors());
    this.obstacle =
      "SIGUSR1 did not open the inspector: the process may be in native code, or have its own SIGUSR1 listener";
    runtime.kill(pid, "SIGUSR1");
    while (!this.#ended) {
      // The table of all connections may be long, so it is read only after a new file descriptor has appeared.
      const isNew = this.#descriptors().some((descriptor) => !sockets.has(descriptor));
      for (const each of isNew ? this.#ports() : []) {
        if (!before.has(each)) return await this.#throughPort(each, true);
      }
      await new Promise<void>((resolve) => runtime.schedule(resolve, pollMs, true));
    }
    throw new Error("");
  }

  /** Takes the stack on Deno, by the first of its ports that answers as an inspector. */
  #throughAnyPort(): Promise<StackFrame[]> {
    this.obstacle = "the inspector did not answer";
    const ports = [...this.#ports()];
    if (ports.length === 0) throw new Error("the process listens on no port of 127.0.0.1");
    return Promise.any(ports.map((port) => this.#throughPort(port, false))).catch((error) => {
      throw (error as AggregateError).errors[0];
    });
  }

  #descriptors(): readonly string[] {
    return descriptorsOf(this.#runtime, this.#target.pid);
  }

  #ports(): ReadonlySet<number> {
    return loopbackPorts(this.#runtime, this.#target.pid) ?? new Set();
  }

  /** Takes the stack by the inspector at `port`. `closes`: the inspector was opened for this stack and is closed afterwards. */
  async #throughPort(port: number, closes: boolean): Promise<StackFrame[]> {
    const session = new InspectorSession(() => this.#runtime.connectPort(port), closes);
    this.#sessions.add(session);
    if (this.#ended) session.leave();
    this.obstacle = "the inspector could not pause the main thread, which may be in native code";
    return await session.stack();
  }
}
