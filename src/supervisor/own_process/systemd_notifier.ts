/**
 * What a server tells systemd about itself (sd_notify(3)): that its programs are ready, how they are, that supervision goes
 * on, how long it may take to start and to end. Loaded only where systemd, or another who speaks this, has said where.
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
  /** Resolved when all has been sent. */
  close(): Promise<void>;
}

/** What was not taken, by a systemd that is busy, say, is sent again after so long. */
const againMs = 200;

/** Opens a channel: by the C library, or where that cannot be called by the program `systemd-notify`. */
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

/** `systemd-notify` waits until systemd has read what it sent, but not longer. */
const programMs = 5000;

/** A process for each message, one after the other. */
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
    const cancel = runtime.schedule(() => child.kill("SIGKILL"), programMs, false);
    const { code } = await child.exited;
    cancel();
    if (code !== 0) throw new Error(`systemd-notify ended with ${code}`);
  }, onProblem);
}

/** One message after the other; what comes meanwhile goes together, and what fails goes with the next, until the end. */
export function sender(
  runtime: Clock,
  carry: (lines: string[]) => void | Promise<void>,
  onProblem: (error: unknown) => void,
): NotifyChannel {
  /** By what stands before `=`: of each, the newest line counts. */
  let waiting = new Map<string, string>();
  let running: Promise<void> | null = null;
  let closing = false;
  let wake = () => {};
  const pause = () =>
    new Promise<void>((resolve) => {
      const cancel = runtime.schedule(resolve, againMs, false);
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
        await carry([...sent.values()]);
      } catch (error) {
        onProblem(error);
        if (closing) break; // it was tried
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

/** A program, as far as systemd hears of it. */
export interface NotifiedProgram {
  readonly name: string;
  readonly settings: Pick<ServerSettings, "timeInterval" | "startupTimeout" | "stopTimeout">;
  readonly status: SupervisorStatus & { readonly waitsFor?: readonly string[] };
}

/** Beyond what something may take by our own limits. */
const marginMs = 5000;
/** A driver that is so late does not supervise. */
const lateMs = 1000;

/** What the notifier tells systemd about. */
export interface NotifierParts {
  /** The programs, as they are now. */
  readonly programs: () => readonly NotifiedProgram[];
  /** True if all programs are ready. */
  readonly isReady: () => boolean;
}

/** Begins to tell the socket at `path`; a problem is reported once. */
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

/** Tells systemd how supervision goes. It uses the timer of the drivers: if that does not wake them, systemd hears nothing. */
export class Notifier implements Sleeper {
  readonly #runtime: Clock;
  readonly #timer: WakeTimer;
  readonly #channel: NotifyChannel;
  readonly #parts: NotifierParts;
  /** A third of the time after which systemd kills this process: one late beat does no harm. */
  readonly #periodMs: number;
  #next = Infinity;
  #ready = false;
  #ending = false;
  /** The status that was sent last. */
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

  /** Takes an event of a program. */
  hear(name: string, event: SupervisorEvent): void {
    const lines: string[] = [];
    const extension = this.#ready && !this.#ending ? 0 : this.#limitOf(name, event);
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

  /** How long what has begun may take, by our own limits; 0 where there is none. */
  #limitOf(name: string, event: SupervisorEvent): number {
    const { settings } = this.#parts.programs().find((program) => program.name === name)!;
    switch (event.type) {
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

  /** All ends. */
  stopping(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#channel.send(["STOPPING=1"]);
  }

  /** Says no more; resolved when all has been sent. */
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
    if (this.#timer.latenessMs > lateMs) return this.#sleep(this.#periodMs / 10); // not yet: they may be woken after us
    this.#channel.send(["WATCHDOG=1"]);
    this.#sleep(this.#periodMs);
  }

  #sleep(delayMs: number): void {
    this.#next = this.#periodMs === Infinity ? Infinity : this.#runtime.now() + delayMs;
    this.#timer.arm(this.#next);
  }
}

/** One line for `systemctl status`. */
function statusText(programs: readonly NotifiedProgram[]): string {
  return programs.map(({ name, status }) => {
    const { restarts, lastRecovery } = status;
    const who = programs.length > 1 ? `${name}: ` : "";
    const past = lastRecovery === null
      ? ""
      : `, ${restarts} restart${restarts === 1 ? "" : "s"}, the last for ${lastRecovery.reason}`;
    return `${who}${stateText(status)}${past}`;
  }).join("; ");
}
