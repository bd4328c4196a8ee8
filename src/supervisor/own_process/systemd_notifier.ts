/**
 * Notifies systemd (sd_notify(3)): programs ready, their status, watchdog messages, more time to start and to stop. Loaded
 * only if the variable `NOTIFY_SOCKET` is set.
 */
import { type Sleeper, type WakeTimer, wakeTimerOf } from "../wake_timer.ts";
import type { SupervisorEvent, SupervisorStatus } from "../../api/events.ts";
import { stateText } from "../report.ts";
import type { Clock, OwnProcess, Processes } from "../../runtime/runtime.ts";
import type { ServerSettings } from "../../core/server/types.ts";

type NotifierRuntime = Clock & Processes & Pick<OwnProcess, "pid" | "takeVariable">;

/** Carries lines to systemd. */
export interface NotifyChannel {
  send(lines: readonly string[]): void;
  /** Resolves when all lines have been sent, or their last attempt failed. */
  close(): Promise<void>;
}

/** Time until a failed message is sent again: systemd may have been busy. */
const retryMs = 200;

/** Opens a channel through the C library, or through the program `systemd-notify` if the library cannot be called. */
async function openChannel(
  runtime: NotifierRuntime,
  path: string,
  onProblem: (error: unknown) => void,
): Promise<NotifyChannel> {
  try {
    const { openDatagrams } = await import("../../ffi/unix_datagrams.ts");
    const datagrams = await openDatagrams(path);
    const channel = sender(runtime, (lines) => datagrams.send(lines.join("\n")), onProblem);
    return {
      send: channel.send,
      close: async () => {
        await channel.close();
        datagrams.close();
      },
    };
  } catch {
    return programChannel(runtime, path, onProblem);
  }
}

/** Time limit for `systemd-notify`, which waits until systemd has read its message. */
const programLimitMs = 5000;

/** Opens a channel that runs `systemd-notify` for each message. */
export function programChannel(
  runtime: NotifierRuntime,
  path: string,
  onProblem: (error: unknown) => void,
): NotifyChannel {
  return sender(runtime, async (args) => {
    const child = await runtime.spawn({
      file: "systemd-notify",
      flags: [],
      args,
      env: { NOTIFY_SOCKET: path },
      stdio: ["ignore", "ignore", "ignore"],
    });
    const cancel = runtime.schedule(() => child.kill("SIGKILL"), programLimitMs, false);
    const { code } = await child.exited;
    cancel();
    if (code !== 0) throw new Error(`systemd-notify ended with exit code ${code}`);
  }, onProblem);
}

/** Sends one message at a time. Lines that come meanwhile are sent together; a failed message is sent again with the next. */
export function sender(
  runtime: Clock,
  sendLines: (lines: string[]) => void | Promise<void>,
  onProblem: (error: unknown) => void,
): NotifyChannel {
  /** The newest line of each variable, by its name. */
  let waiting = new Map<string, string>();
  let running: Promise<void> | null = null;
  let closing = false;
  let wake = () => {};
  const pause = () =>
    new Promise<void>((resolve) => {
      const cancel = runtime.schedule(resolve, retryMs, false);
      wake = () => {
        cancel();
        resolve();
      };
    });
  const run = async () => {
    while (waiting.size > 0) {
      const sent = waiting;
      waiting = new Map();
      try {
        await sendLines([...sent.values()]);
      } catch (error) {
        onProblem(error);
        if (closing) break; // there is no second attempt at the end
        waiting = new Map([...sent, ...waiting]);
        await pause();
      }
    }
    running = null;
  };
  return {
    send(lines) {
      for (const line of lines) waiting.set(line.split("=", 1)[0]!, line);
      running ??= run();
    },
    close: async () => {
      closing = true;
      wake();
      await running;
    },
  };
}

/** A program, as systemd is notified about it. */
export interface NotifiedProgram {
  readonly name: string;
  readonly settings: Pick<ServerSettings, "timeInterval" | "startupTimeout" | "stopTimeout">;
  /** Time for which a replacement must stay ready, in milliseconds. */
  readonly minReady?: number | undefined;
  readonly status: SupervisorStatus & { readonly waitsFor?: readonly string[] };
}

/** Time that systemd should wait beyond SAM's own time limits. */
const marginMs = 5000;
/** With a driver this late, supervision counts as failed, and systemd gets no watchdog message. */
const lateMs = 1000;

/** The events of a reload after which systemd should wait longer. */
const reloadEvents: ReadonlySet<string> = new Set(["reload", "reloaded"]);

/** The source of the notifications. */
export interface NotifierParts {
  /** Returns the programs in their current state. */
  readonly programs: () => readonly NotifiedProgram[];
  /** Returns true if all programs are ready. */
  readonly isReady: () => boolean;
}

/** Begins to notify systemd's socket at `path`. Only the first problem is reported. */
export async function openNotifier(
  runtime: NotifierRuntime,
  path: string,
  parts: NotifierParts,
  onProblem: (error: unknown) => void,
): Promise<Notifier> {
  const [interval, pid] = ["WATCHDOG_USEC", "WATCHDOG_PID"].map((name) =>
    runtime.takeVariable(name)
  );
  const isOurs = pid === undefined || Number(pid) === runtime.pid;
  const watchdogMs = isOurs && Number(interval) > 0 ? Number(interval) / 1000 : undefined;
  let isReported = false;
  const channel = await openChannel(runtime, path, (error) => {
    if (!isReported) onProblem(error);
    isReported = true;
  });
  return new Notifier(runtime, channel, watchdogMs, parts);
}

/** Notifies systemd. The watchdog messages use the drivers' timer: if it stops waking the drivers, the messages stop, too. */
export class Notifier implements Sleeper {
  readonly #runtime: Clock;
  readonly #timer: WakeTimer;
  readonly #channel: NotifyChannel;
  readonly #parts: NotifierParts;
  /** The period of the watchdog messages: a third of systemd's timeout, so that one may be late. */
  readonly #periodMs: number;
  #next = Infinity;
  #ready = false;
  #ending = false;
  /** The last status that was sent. */
  #lastStatus = "";

  constructor(
    runtime: Clock,
    channel: NotifyChannel,
    watchdogMs: number | undefined,
    parts: NotifierParts,
  ) {
    this.#runtime = runtime;
    this.#timer = wakeTimerOf(runtime);
    this.#channel = channel;
    this.#parts = parts;
    this.#periodMs = watchdogMs === undefined ? Infinity : watchdogMs / 3;
    this.#timer.add(this);
    this.#sleep(0);
  }

  /** Sends what an event of a program changes. */
  hear(name: string, event: SupervisorEvent): void {
    const lines: string[] = [];
    // In a reload, systemd waits for the command of ExecReload=.
    const isAwaited = !this.#ready || this.#ending || reloadEvents.has(event.type);
    const extension = isAwaited ? this.#limitOf(name, event) : 0;
    if (extension > 0) lines.push(`EXTEND_TIMEOUT_USEC=${Math.ceil(extension + marginMs) * 1000}`);
    if (!this.#ready && this.#parts.isReady()) {
      this.#ready = true;
      lines.push("READY=1");
    }
    const status = statusText(this.#parts.programs());
    if (status !== this.#lastStatus) {
      this.#lastStatus = status;
      lines.push(`STATUS=${status}`);
    }
    if (lines.length > 0) this.#channel.send(lines);
  }

  /** The time limit of what an event begins, in milliseconds; 0 for none. */
  #limitOf(name: string, event: SupervisorEvent): number {
    const program = this.#parts.programs().find((program) => program.name === name)!;
    const { settings, minReady = 0 } = program;
    switch (event.type) {
      case "reload":
        return settings.startupTimeout + minReady;
      case "reloaded":
        return settings.stopTimeout;
      case "spawn":
        return settings.startupTimeout;
      case "recovery":
        return event.delay ?? 0;
      case "warn":
        return settings.timeInterval || settings.stopTimeout;
      case "stopping":
        return settings.stopTimeout;
      default:
        return 0;
    }
  }

  /** Notifies systemd that the server is stopping. */
  stopping(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#channel.send(["STOPPING=1"]);
  }

  /** Ends the notifications. Resolves when all have been sent. */
  async close(): Promise<void> {
    this.stopping();
    this.#timer.remove(this);
    await this.#channel.close();
  }

  get due(): number {
    return this.#next;
  }

  wake(): void {
    this.#next = Infinity;
    if (this.#timer.latenessMs > lateMs) return this.#sleep(this.#periodMs / 10); // drivers may be woken after this
    this.#channel.send(["WATCHDOG=1"]);
    this.#sleep(this.#periodMs);
  }

  #sleep(delayMs: number): void {
    this.#next = this.#periodMs === Infinity ? Infinity : this.#runtime.now() + delayMs;
    this.#timer.arm(this.#next);
  }
}

/** Formats the status line of `systemctl status`. */
function statusText(programs: readonly NotifiedProgram[]): string {
  return programs.map(({ name, status }) => {
    const { restarts, lastRecovery } = status;
    const prefix = programs.length > 1 ? `${name}: ` : "";
    const past = lastRecovery === null
      ? ""
      : `, ${restarts} restart${restarts === 1 ? "" : "s"} (last reason: ${lastRecovery.reason})`;
    return `${prefix}${stateText(status)}${past}`;
  }).join("; ");
}
