/** `supervise()`: one program under supervision, as its user sees it. */
import { loadTransport } from "../../transports/builtin.ts";
import type { Signal } from "../core/signals.ts";
import type { Checker } from "./health_check.ts";
import { SlackCounter } from "../core/server/slack.ts";
import type { Driver } from "./driver.ts";
import type { HeldSockets } from "./held_sockets.ts";
import { EventLog } from "./event_log.ts";
import { SamError } from "../errors.ts";
import type {
  CheckEvent,
  DriverEvent,
  ExitStatus,
  LastRecovery,
  SupervisorEvent,
  SupervisorEventDetail,
  SupervisorStatus,
} from "../api/events.ts";
import type { LoadParts } from "./load_parts.ts";
import type { Log } from "../api/options.ts";
import type { Supervisor } from "../api/supervisor.ts";
import { type CheckedProgram, checkProgram, type Program } from "../api/program.ts";
import {
  type CheckedSuperviseOptions,
  checkSuperviseOptions,
  type SuperviseOptions,
} from "../api/supervise_options.ts";
import { checkSignal } from "../api/validate.ts";
import { checkPlatform, loadRuntime } from "../runtime/load.ts";
import type { PassedSocket, Runtime } from "../runtime/runtime.ts";
import type { ServerEvent } from "../core/server/types.ts";

/**
 * Starts a program, and restarts it when it crashes. To notice hangs too, set `check`. If the program uses SAM or has `preload`,
 * `timeInterval` is enough.
 *
 * ```ts
 * import { supervise } from "@x/sam";
 *
 * const sleeper = supervise({ command: "sleep", args: ["60"] }, { recoveryPolicy: "restart" });
 * for await (const event of sleeper.events()) {
 *   if (event.type === "spawn") sleeper.stop();
 * }
 * console.log((await sleeper.finished).reason); // "stopped"
 * ```
 *
 * Throws INVALID_PARAM for a wrong argument. Throws NOT_SUPPORTED if the runtime cannot do what an option asks for, or if the
 * system is neither Linux nor macOS. If supervision fails later, `finished` resolves with the error. Source: `sam_overview(8)`.
 */
export function supervise(program: Program, options: SuperviseOptions): Supervisor {
  checkPlatform();
  const checked = checkProgram(
    program,
    options?.captureStack !== false && options?.observe !== true,
  );
  const { log, ...rest } = checkSuperviseOptions(options, checked);
  return new Supervision(
    checked,
    { log, ...rest },
    log === "none" ? undefined : loadLogger(log, checked),
  );
}

/** Loads the logger. A static import would load it in each instance, too, which does not need it. */
function loadLogger(log: Log, { name }: CheckedProgram): (event: SupervisorEvent) => Promise<void> {
  const loading = Promise.all([import("./log.ts"), loadRuntime()])
    .then(([{ Lines, logger }, runtime]) => {
      const lines = new Lines(runtime);
      const write = logger(log, name, { name, prefix: `${name}: ` }, lines.write);
      return (event: SupervisorEvent) => {
        write(event);
        return event.type === "finish" ? lines.written() : undefined;
      };
    })
    .catch((error) => {
      // For example, no file descriptor was left to open the module.
      console.error(`sam: cannot log the events of ${name}: ${error.message}`);
      return () => {};
    });
  return (event) => loading.then((write) => write(event));
}

/** A process that may be due to start: the next instance of a program, or a spare. */
export type Due = "process" | "spare";

/** One program under supervision. */
export class Supervision implements Supervisor {
  readonly finished: Promise<ExitStatus>;
  readonly #options: CheckedSuperviseOptions;
  // The type of the event after which an instance is ready.
  readonly #readyBy: "check" | "start" | "spawn";
  readonly #log = new EventLog();
  readonly #onEvent: ((event: SupervisorEvent) => Promise<void> | void) | undefined;
  readonly #onDue: ((due: Due) => void) | undefined;
  #driver: Driver | null = null;
  #held: HeldSockets | null = null;
  #checker: Checker | null = null;
  #status: ExitStatus | null = null;
  #settle!: (status: ExitStatus) => void;
  #lastRecovery: LastRecovery | null = null;
  #ready = false;
  #check: SupervisorStatus["check"] = null;
  /** True while HTTP requests wait, and none finishes. */
  #isStuck = false;
  #spawnedAt: number | null = null;
  #stopEarly: { signal: Signal | null } | null = null;
  #haltEarly = false;
  #halting: (() => void)[] = [];
  #restarting: { resolve: () => void; reject: (error: SamError) => void }[] = [];

  // `onDue` is called when a process is due; the process starts after `allowStart()`. Without `onDue`, it starts at once.
  constructor(
    program: CheckedProgram,
    options: CheckedSuperviseOptions,
    onEvent?: (event: SupervisorEvent) => Promise<void> | void,
    onDue?: (due: Due) => void,
    load: LoadParts = async (options) => (await import("./load_parts.ts")).loadParts(options),
  ) {
    this.#options = options;
    this.#onEvent = onEvent;
    this.#onDue = onDue;
    const atSpawn = program.isCommand && !program.preload;
    this.#readyBy = options.check ? "check" : atSpawn ? "spawn" : "start";
    this.finished = new Promise((resolve) => this.#settle = resolve);
    this.#begin(program, load).catch((cause) => this.#failToBegin(cause));
  }

  async #begin(program: CheckedProgram, load: LoadParts): Promise<void> {
    const { settings, killMode, quorum, clusterMap, check } = this.#options;
    const [runtime, { bindRuntime, Driver, guardOf }, transport, checks] = await load(
      this.#options,
    );
    const sockets = await this.#hold(program, runtime);
    const heartbeatWindow = transport.coalesces ? Math.min(settings.timeInterval / 200, 1) : 0;
    this.#driver = new Driver({
      runtime,
      transport: bindRuntime(transport, runtime),
      ...(!this.#options.transportChosen && {
        otherTransport: async () => bindRuntime(await loadTransport("pipe"), runtime),
      }),
      guard: guardOf(runtime),
      killMode,
      quorum,
      clusterMap,
      settings: {
        ...settings,
        program: program.name,
        startedAtSpawn: program.isCommand,
        preloaded: program.preload ?? false,
        asksBeforeStart: this.#onDue !== undefined,
        heartbeatWindow,
        ...(sockets.length > 0 && {
          listensOn: sockets.map(({ address }) => address).join(" or "),
        }),
      },
      command: async () => ({
        ...await program.command(runtime, sockets.length > 0),
        sockets,
        mustListen: this.instanceId === settings.firstInstanceId,
      }),
    }, {
      event: (event, instanceId) => this.#event(event, instanceId),
      progress: (healthy, detail) => this.#noteProgress(healthy, detail),
      askToStart: () => this.#onDue?.("process"),
      askToStartSpare: () => this.#onDue?.("spare"),
      finish: (status) => {
        const { error, ...rest } = status;
        this.#finish({
          ...rest,
          ...(error && { error: new SamError(error.code, error.message, { cause: error.cause }) }),
        });
      },
    });
    if (check && checks) {
      this.#checker = new checks.Checker(runtime, check, settings.startupTimeout, {
        changed: (healthy, detail) => this.#event({ type: "check", healthy, detail }),
        failed: (reason, detail) => this.#driver!.unhealthy(reason, detail),
      });
    }
    if (this.#haltEarly) this.#driver.halt();
    if (this.#stopEarly) this.#driver.shutdown(this.#stopEarly.signal);
    else this.#driver.begin();
    if (runtime.pid === 1) await this.#reapOrphans(runtime);
  }

  /** Opens the listening sockets of the program, unless the owner of this supervision has opened them. */
  async #hold(program: CheckedProgram, runtime: Runtime): Promise<readonly PassedSocket[]> {
    const { listen = [], sockets } = this.#options;
    if (sockets !== undefined || listen.length === 0) return sockets ?? [];
    const [{ hold }, { inheritedSockets }] = await Promise.all([
      import("./held_sockets.ts"),
      import("./own_process/socket_activation.ts"),
    ]);
    this.#held = await hold(runtime, program, listen, await inheritedSockets(runtime));
    return this.#held.sockets;
  }

  /** Ends supervision because a socket or a module could not be opened, for example because no file descriptor is left. */
  #failToBegin(cause: unknown): void {
    const why = cause instanceof Error ? cause.message : String(cause);
    const error = cause instanceof SamError
      ? cause
      : new SamError("LIBRARY", `cannot start supervision: ${why}`, { cause });
    this.#finish({ code: 1, signal: null, reason: "spawn", error });
  }

  async #reapOrphans(runtime: Runtime): Promise<void> {
    try {
      await (await import("./own_process/orphan_reaper.ts")).reapOrphans(runtime);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#event({
        type: "fallback",
        side: "server",
        detail:
          `this SAM server is process 1 and cannot reap orphans (${why}): run it under an init process, as "docker run --init" does`,
      });
    }
  }

  // True if the program is ready: see `SupervisorStatus`.
  get ready(): boolean {
    return this.#ready && !this.#isStuck;
  }

  get status(): SupervisorStatus {
    const server = this.#driver?.server;
    const { transport } = this.#options;
    return {
      state: server?.state ?? "idle",
      pid: server?.pid ?? null,
      ready: this.ready,
      check: this.#isStuck ? "failing" : this.#check,
      spawnedAt: this.#spawnedAt,
      instanceId: this.instanceId,
      restarts: server?.restarts ?? 0,
      lastRecovery: this.#lastRecovery,
      heartbeatAge: this.#driver?.heartbeatAge ?? null,
      slack: this.#driver?.slack ?? new SlackCounter(0).snapshot,
      dataSize: this.#driver?.dataSize ?? 0,
      watched: this.#driver?.watched ?? null,
      members: this.#driver?.members ?? [],
      spare: server?.spare ?? null,
      transport: typeof transport === "string" ? transport : transport.name,
    };
  }

  events(): AsyncIterableIterator<SupervisorEvent> {
    const first = [this.#stamped({ type: "status", status: this.status })];
    if (this.#status) first.push(this.#stamped({ type: "finish", status: this.#status }));
    return this.#log.read(first);
  }

  stop(): Promise<ExitStatus> {
    this.shutdown(null);
    return this.finished;
  }

  // Ends the program and supervision. `signal` is the one that this process got; null for the warn signal.
  shutdown(signal: Signal | null, delivered = false): void {
    if (this.#driver) this.#driver.shutdown(signal, delivered);
    else this.#stopEarly = { signal };
  }

  // Starts the instance or the spare that is due.
  allowStart(due: Due): void {
    if (due === "process") this.#driver?.allowStart();
    else this.#driver?.allowSpare();
  }

  restart(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#status) {
        return reject(new SamError("BAD_HANDLE", "supervision is over: call supervise() again"));
      }
      this.#restarting.push({ resolve, reject });
      this.#haltEarly = false;
      this.#driver?.restart();
    });
  }

  /** The driver, for a reload; null until it is loaded. */
  get driver(): Pick<Driver, "prepareSpare" | "adopt" | "reserveIds" | "accept" | "server"> | null {
    return this.#driver;
  }

  /** Number of the current instance. */
  get instanceId(): number {
    return this.#driver?.server.instanceId ?? this.#options.settings.firstInstanceId ?? 1;
  }

  /** The result of supervision; null while it goes on. */
  get result(): ExitStatus | null {
    return this.#status;
  }

  // Ends the program until `restart()`. Resolves when its process is gone, or supervision is over.
  halt(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#status || this.#driver?.server.state === "stopped") return resolve();
      this.#halting.push(resolve);
      if (this.#driver) this.#driver.halt();
      else this.#haltEarly = true;
    });
  }

  signal(signal: Signal): void {
    this.#driver?.signal(checkSignal("signal", signal));
  }

  reportUnhealthy(detail: string): void {
    this.#driver?.unhealthy("unhealthy", String(detail));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // Reports an error that supervision survives, as the event `problem`.
  report(error: unknown, what: string): void {
    this.#driver?.report(error, what);
  }

  #event(event: ServerEvent | DriverEvent | CheckEvent, instanceId?: number): void {
    const stamped = this.#stamped(event, instanceId);
    if (event.type === "recovery") {
      const { reason, evidence, delay } = event;
      const { at, instanceId } = stamped;
      this.#lastRecovery = { reason, at, instanceId, evidence, delay };
    }
    if (event.type === "exit" || event.type === "warn" || event.type === "stopping") {
      this.#ready = false;
      this.#checker?.end();
    }
    if (event.type === "exit") this.#spawnedAt = this.#check = null;
    if (event.type === "exit" || event.type === "finalize") this.#isStuck = false;
    const isProgress = event.type === "check" && event.action !== undefined;
    if (isProgress) this.#isStuck = !event.healthy;
    else if (event.type === "check") this.#check = event.healthy ? "passing" : "failing";
    if (event.type === this.#readyBy && !isProgress) {
      this.#ready = event.type !== "check" || event.healthy;
    }
    if (event.type === "spawn" || (event.type === "spare" && event.state === "promoted")) {
      this.#ready ||= this.#readyBy === "spawn";
      this.#spawnedAt = stamped.at;
      this.#checker?.begin(event.pid!, this.#driver!.server);
      for (const { resolve } of this.#restarting.splice(0)) resolve();
    }
    if (event.type === "stopped") this.#interruptRestarts("the program was stopped");
    this.#publish(stamped);
    // A new instance means that a restart canceled the halt, unless this process is about to be halted itself.
    const isCalledOff = event.type === "spawn" && this.#driver!.server.state === "launched";
    if (event.type === "stopped" || isCalledOff) this.#endHalts();
  }

  #noteProgress(healthy: boolean, detail: string): void {
    const { progressAction: action = "report" } = this.#options;
    this.#event({ type: "check", healthy, detail, action });
    if (!healthy && action === "restart") this.#driver!.unhealthy("unhealthy", detail);
  }

  #finish(status: ExitStatus): void {
    this.#status = status;
    this.#ready = false;
    this.#held?.close();
    this.#checker?.end(); // a process that cannot be killed has no exit event
    const logged = this.#publish(this.#stamped({ type: "finish", status }));
    this.#log.close();
    this.#interruptRestarts(`supervision ended (${status.reason})`);
    this.#endHalts();
    // The user may exit as soon as `finished` resolves: the last log lines come first.
    if (logged) void logged.then(() => this.#settle(status));
    else this.#settle(status);
  }

  #interruptRestarts(why: string): void {
    for (const { reject } of this.#restarting.splice(0)) {
      reject(new SamError("INTERRUPT", `${why} before the next instance started`));
    }
  }

  #endHalts(): void {
    for (const resolve of this.#halting.splice(0)) resolve();
  }

  #publish(event: SupervisorEvent): Promise<void> | void {
    this.#log.push(event);
    try {
      return this.#onEvent?.(event);
    } catch (error) {
      if (event.type !== "problem") {
        this.report(error, `a listener for the event "${event.type}" failed`);
      }
    }
  }

  #stamped(event: SupervisorEventDetail, instanceId = this.instanceId): SupervisorEvent {
    return { ...event, at: Date.now(), instanceId };
  }
}
