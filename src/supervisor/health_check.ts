/** A health check from outside: made by the server, of any program, in the words of Kubernetes. */
import type { CheckedCheck } from "../api/supervise_options.ts";
import type { Clock, Processes, Sockets } from "../runtime/runtime.ts";

/** Resolves to undefined for healthy, else to what is wrong. `over` is aborted when it is late, or nobody waits for it any more. */
type Ask = (
  target: string,
  runtime: Clock & Processes & Sockets,
  over: AbortSignal,
  timeoutMs: number,
) => Promise<string | undefined>;

const ask: Readonly<Record<CheckedCheck["kind"], Ask>> = {
  async http(url, _runtime, over) {
    const response = await fetch(url, {
      signal: over,
      redirect: "manual", // it is this program that is asked, not what it points to
      headers: { connection: "close" },
    });
    await response.body?.cancel();
    const { status } = response;
    return status >= 200 && status < 400 ? undefined : `${url} answered ${status}`;
  },
  async tcp(target, runtime, over) {
    const colon = target.lastIndexOf(":");
    const host = target.slice(0, colon).replace(/^\[(.*)\]$/, "$1"); // IPv6
    await runtime.probePort(host, Number(target.slice(colon + 1)), over);
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
        runtime.kill(-child.pid, "SIGKILL"); // the shell, and what it waits for
      } catch {
        child.kill("SIGKILL"); // on Deno a group takes --allow-run for all
      }
    };
    if (over.aborted) kill();
    over.addEventListener("abort", kill);
    const { code, signal } = await child.exited;
    over.removeEventListener("abort", kill);
    if (late) return `${line} took longer than ${timeoutMs} ms`;
    return code === 0 ? undefined : `${line} ended with ${signal ?? code}`;
  },
};

/** Who is told of a check. */
export interface CheckSink {
  /** It has become healthy, or a check has failed. */
  changed(healthy: boolean, detail: string): void;
  /** It is to be recovered. */
  failed(reason: "unhealthy" | "startup", detail: string): void;
}

/** A check that is late is told so, and has so long to end. */
const endMs = 1000;

/** What is known of the checks of one instance. */
interface Own {
  /** One that was killed sits in the kernel (a dead network disk): no other is begun beside it. */
  isStuck: boolean;
}

/** Checks one instance of a program after the other. */
export class Checker {
  readonly #runtime: Clock & Processes & Sockets;
  readonly #check: CheckedCheck;
  readonly #startupTimeout: number;
  readonly #sink: CheckSink;
  /** Which instance is checked: an answer about an earlier one is nobody's business. */
  #round = 0;
  /** Ends the pause between two checks, or the check that is under way. */
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

  /** An instance was started. */
  begin(): void {
    this.end();
    void this.#run(this.#round, this.#runtime.now());
  }

  /** It has ended, or is about to. */
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
    const own: Own = { isStuck: false };
    for (;;) {
      const asked = this.#runtime.now();
      const problem = await this.#ask(own);
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
      if (round !== this.#round) return; // it is recovered; with `observe` it is not, and may become healthy again
      await this.#pause(Math.max(0, asked + period - now));
      if (round !== this.#round) return;
    }
  }

  /** Checks once: undefined for healthy, else what is wrong. */
  async #ask(own: Own): Promise<string | undefined> {
    const { kind, target, timeout } = this.#check;
    const isStuck =
      `${target} took longer than ${timeout} ms, and has not ended though it was killed`;
    if (own.isStuck) return isStuck;
    const over = new AbortController();
    const abort = () => over.abort();
    const cancelTimer = this.#runtime.schedule(abort, timeout, false);
    let cancelEnd = () => {};
    this.#cancel = abort;
    try {
      const asking = ask[kind](target, this.#runtime, over.signal, timeout);
      const late = new Promise<string>((resolve) => {
        cancelEnd = this.#runtime.schedule(() => resolve(isStuck), timeout + endMs, false);
      });
      const found = await Promise.race([asking, late]);
      if (found === isStuck) {
        own.isStuck = true;
        const end = () => void (own.isStuck = false);
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
