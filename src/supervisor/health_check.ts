/** Health checks that the server makes of any program. The options have the names of Kubernetes probes. */
import type { CheckedCheck } from "../api/supervise_options.ts";
import type { Clock, Processes, Sockets } from "../runtime/runtime.ts";
import {
  checkAgent,
  checkHeader,
  checkHostHeader,
  misdirected,
} from "../runtime/served_requests.ts";

/** Resolves to undefined if the program is healthy, else to the failure. `over` aborts a late or unneeded check. */
type Ask = (
  target: string,
  runtime: Clock & Processes & Sockets,
  over: AbortSignal,
  timeoutMs: number,
  pid: number,
  sockets: CheckedSockets,
  isMarked: boolean,
) => Promise<string | undefined>;

/** Milliseconds until the next request, if another process has answered. */
const askAgainMs = 2;

const ask: Readonly<Record<CheckedCheck["kind"], Ask>> = {
  async http(url, runtime, over, timeoutMs, pid, sockets, isMarked) {
    // Several processes may accept connections from one socket. The preload refuses a request for another process.
    for (let others = false;; others = true) {
      const { target, headers } = requestOf(url, sockets);
      const response = await fetch(target, {
        signal: over,
        redirect: "manual", // a redirect is an answer of this program; its target may be another one
        headers: {
          ...headers,
          connection: "close",
          ...(isMarked && { "user-agent": checkAgent }),
          ...(sockets.sharesSockets && { [checkHeader]: String(pid) }),
        },
      }).catch((error) => {
        if (!others || !over.aborted) throw error;
      });
      if (response === undefined) {
        return `process ${pid} did not answer within ${timeoutMs} ms, but other instances did`;
      }
      await response.body?.cancel();
      const { status } = response;
      if (status !== misdirected || !response.headers.has(checkHeader)) {
        return status >= 200 && status < 400 ? undefined : `${url} answered ${status}`;
      }
      await new Promise<void>((resolve) => runtime.schedule(resolve, askAgainMs, false));
    }
  },
  async tcp(target, runtime, over, _timeoutMs, _pid, sockets) {
    const colon = target.lastIndexOf(":");
    const host = target.slice(0, colon).replace(/^\[(.*)\]$/, "$1"); // IPv6
    const port = Number(target.slice(colon + 1));
    const own = sockets.checkPortOf(port);
    await runtime.probePort(own === undefined ? host : loopback, own ?? port, over);
    return undefined;
  },
  async command(line, runtime, over, timeoutMs) {
    const child = await runtime.spawn({
      file: "sh",
      flags: [],
      args: ["-c", line],
      env: {},
      stdio: ["ignore", "ignore", "ignore"],
      ownGroup: true,
    });
    let late = false;
    const kill = () => {
      late = true;
      try {
        runtime.kill(-child.pid, "SIGKILL"); // the group: the shell and its child processes
      } catch {
        child.kill("SIGKILL"); // Deno lets only --allow-run without names signal a group
      }
    };
    if (over.aborted) kill();
    over.addEventListener("abort", kill);
    const { code, signal } = await child.exited;
    over.removeEventListener("abort", kill);
    if (late) return `${line} took longer than ${timeoutMs} ms`;
    if (code === 0) return undefined;
    return `${line} ended ${signal === null ? `with exit code ${code}` : `by ${signal}`}`;
  },
};

const loopback = "127.0.0.1";

/** The request of a health check. A replacement answers at a port of its own before it takes over. */
function requestOf(url: string, sockets: CheckedSockets) {
  const { host, protocol, port, pathname, search } = new URL(url);
  const own = protocol === "http:" ? sockets.checkPortOf(Number(port || httpPort)) : undefined;
  return own === undefined ? { target: url, headers: {} } : {
    target: `http://${loopback}:${own}${pathname}${search}`,
    headers: { [checkHostHeader]: host },
  };
}

/** The port of a URL that names none. */
const httpPort = 80;

/** Receives the results of the checks. */
export interface CheckSink {
  /** The program has become healthy, or a check has failed after the first one that passed. */
  changed(healthy: boolean, detail: string): void;
  /** The program must be recovered. */
  failed(reason: "unhealthy" | "startup", detail: string): void;
}

/** Time that a check has to end after it was aborted. */
const endMs = 1000;

/** The checks of one instance. */
interface CheckState {
  /** A check did not end after SIGKILL, on a dead network disk for example: no other check starts while it hangs. */
  hangs: boolean;
}

/** The sockets of an instance. */
export interface CheckedSockets {
  /**
   * True if other processes may answer a check. Only then does the request name the process: a program that is a proxy would pass
   * the name on to a server that refuses it.
   */
  readonly sharesSockets: boolean;
  /** The port of 127.0.0.1 at which the process answers checks of `port`; undefined if it accepts connections at `port`. */
  checkPortOf(port: number): number | undefined;
}

const noSockets: CheckedSockets = { sharesSockets: false, checkPortOf: () => undefined };

/** Checks the instances of a program, one after the other. */
export class Checker {
  readonly #runtime: Clock & Processes & Sockets;
  readonly #check: CheckedCheck;
  readonly #startupTimeout: number;
  readonly #sink: CheckSink;
  /** Changes with each instance: an answer about an earlier instance is ignored. */
  #round = 0;
  /** The process id of the instance. */
  #pid = 0;
  #sockets = noSockets;
  /** Ends the pause between two checks, or the running check. */
  #cancel: (() => void) | null = null;

  constructor(
    runtime: Clock & Processes & Sockets,
    check: CheckedCheck,
    startupTimeout: number,
    sink: CheckSink,
  ) {
    this.#runtime = runtime;
    this.#check = check;
    this.#startupTimeout = startupTimeout;
    this.#sink = sink;
  }

  /** Begins to check a new instance, whose process id is `pid`. */
  begin(pid: number, sockets: CheckedSockets = noSockets): void {
    this.end();
    this.#pid = pid;
    this.#sockets = sockets;
    void this.#run(this.#round, this.#runtime.now());
  }

  /** Stops checking: the instance has ended or is about to. */
  end(): void {
    this.#round++;
    this.#cancel?.();
    this.#cancel = null;
  }

  async #run(round: number, begun: number): Promise<void> {
    const { period, failureThreshold } = this.#check;
    let failures = 0;
    let ready = false;
    let late = false;
    const state: CheckState = { hangs: false };
    for (;;) {
      const asked = this.#runtime.now();
      const problem = await this.#ask(state);
      if (round !== this.#round) return;
      const now = this.#runtime.now();
      if (problem === undefined) {
        if (!ready || failures > 0) this.#sink.changed(true, "");
        ready = true;
        failures = 0;
      } else if (ready) {
        this.#sink.changed(false, problem);
        if (++failures === failureThreshold) {
          const times = failures === 1 ? "" : `, ${failures} times in a row`;
          this.#sink.failed("unhealthy", problem + times);
        }
      } else if (!late && this.#startupTimeout > 0 && now - begun >= this.#startupTimeout) {
        late = true;
        const since = `not healthy within ${this.#startupTimeout} ms`;
        this.#sink.failed("startup", `${since}: ${problem}`);
      }
      if (round !== this.#round) return; // a recovery has begun; with `observe` there is none, and the checks go on
      await this.#pause(Math.max(0, asked + period - now));
      if (round !== this.#round) return;
    }
  }

  /** Makes one check. Resolves to undefined if the program is healthy, else to the failure. */
  async #ask(state: CheckState): Promise<string | undefined> {
    const { kind, target, timeout, isMarked = false } = this.#check;
    const hangs = `${target} took longer than ${timeout} ms and still runs after SIGKILL`;
    if (state.hangs) return hangs;
    const over = new AbortController();
    const abort = () => over.abort();
    const cancelTimer = this.#runtime.schedule(abort, timeout, false);
    let cancelEnd = () => {};
    this.#cancel = abort;
    try {
      const asking = ask[kind](
        target,
        this.#runtime,
        over.signal,
        timeout,
        this.#pid,
        this.#sockets,
        isMarked,
      );
      const late = new Promise<string>((resolve) => {
        cancelEnd = this.#runtime.schedule(() => resolve(hangs), timeout + endMs, false);
      });
      const found = await Promise.race([asking, late]);
      if (found === hangs) {
        state.hangs = true;
        const end = () => void (state.hangs = false);
        asking.then(end, end);
      }
      return found;
    } catch (error) {
      const { name, message, cause } = error as Error;
      if (name === "AbortError") return `no answer within ${timeout} ms`;
      return cause instanceof Error && cause.message !== "" ? cause.message : message;
    } finally {
      cancelTimer();
      cancelEnd();
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#cancel = this.#runtime.schedule(resolve, ms, false));
  }
}
