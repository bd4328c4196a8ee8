/** The programs of one `sam run`: they start by their dependencies, restart by a strategy as in Erlang/OTP, and stop in reverse. */
import type { Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import type { ExitStatus, SupervisorEvent } from "../api/events.ts";
import {
  failureOf,
  type FleetListener,
  isAtRest,
  isReady,
  isRunning,
  isSibling,
  isWell,
  type Member,
  serviceOf,
  untilSettled,
} from "./fleet_member.ts";
import type { FleetProgram, Strategy } from "./fleet_program.ts";
import { type FleetChange, type FleetReload, FleetReloads } from "./fleet_reloads.ts";
import { type ReloadCause, Replica, type ReplicaStatus } from "./replica.ts";
import type { LoadParts } from "./load_parts.ts";
import type { Due } from "./supervise.ts";

/** The status of a program of a fleet. */
export interface FleetStatus extends ReplicaStatus {
  /** The name of the program, for an instance side by side; left out for any other program. */
  readonly service?: string;
  /** The programs that must end, or be ready, before the next instance starts; left out if no instance is due. */
  readonly waitsFor?: readonly string[];
}

/** The programs of one `sam run` under supervision. */
export class Fleet {
  /** Resolves to the exit code of the server when all programs have ended. */
  readonly finished: Promise<number>;
  readonly #strategy: Strategy;
  readonly #listeners = new Set<FleetListener>();
  readonly #memberListeners: ((name: string, isMember: boolean) => void)[] = [];
  /** The programs in the order of their start. */
  readonly #members: Member[] = [];
  readonly #reloads: FleetReloads;
  /** The program that is being ended because another one failed. */
  #ending: Member | null = null;
  #stopping = false;
  #code: number | null = null;
  #settle!: (code: number) => void;

  /** Starts the programs, which must be in the order of their dependencies. `load` loads the parts of their SAM servers. */
  constructor(programs: readonly FleetProgram[], strategy: Strategy, load?: LoadParts) {
    this.#strategy = strategy;
    this.finished = new Promise((resolve) => this.#settle = resolve);
    this.#reloads = new FleetReloads({
      members: this.#members,
      add: (config) => this.#add(config, load),
      announce: (...change) => this.#memberListeners.forEach((listener) => listener(...change)),
      isStopping: () => this.#stopping,
      isBlocked: (member) => this.#blockersOf(member).length > 0,
      subscribe: (listener) => this.subscribe(listener),
      closeUnused: (config) => this.#closeUnused(config),
      refuseIfStopping: (action, name) => this.#refuseIfStopping(action, name),
      over: () => this.#goOn(),
    });
    for (const each of programs) this.#add(each, load);
  }

  #add(config: FleetProgram, load: LoadParts | undefined): Member {
    const member: Member = {
      config,
      replica: new Replica(
        config,
        (event) => this.#handle(member, event),
        (due) => this.#markDue(member, due),
        load,
      ),
      isDue: false,
      isSpareDue: false,
      hasProcess: false,
      mustEnd: false,
      stopped: false,
      isGone: false,
      isOnTrial: false,
      wasReady: false,
      status: null,
      ended: Promise.resolve(),
    };
    member.ended = member.replica.finished.then((status) => this.#end(member, status));
    this.#members.push(member);
    return member;
  }

  /** The programs as they are described, and the instances side by side, in the order of their start. */
  get programs(): readonly FleetProgram[] {
    return this.#members.map(({ config }) => config);
  }

  /** The names of the programs, and of instances side by side, in the order of their start. */
  get names(): readonly string[] {
    return this.#members.map(({ config }) => config.name);
  }

  /** The names of the programs, in the order of their start. A program with instances side by side counts once. */
  get services(): readonly string[] {
    return [...new Set(this.#members.map(serviceOf))];
  }

  /** Adds a listener for all later events; returns a function that removes it. There are no events during the constructor. */
  subscribe(listener: FleetListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Adds a listener for members that come and go later. A new name counts as another member. */
  watchMembers(listener: (name: string, isMember: boolean) => void): void {
    this.#memberListeners.push(listener);
  }

  /** True if a program is ready or has finished. An instance side by side that has failed for good is not ready. */
  isReady(name: string): boolean {
    return isWell(this.#member(name));
  }

  /** True if each program is ready, has finished, or was stopped alone. One ready instance side by side is enough. */
  get allReady(): boolean {
    return !this.#stopping &&
      this.#members.every((each) => this.#isCovered(each) || each.stopped || isWell(each));
  }

  /** True once all programs are being stopped. */
  get isStopping(): boolean {
    return this.#stopping;
  }

  /** True if a program was stopped and not started again. */
  isStopped(name: string): boolean {
    return this.#member(name).stopped;
  }

  /** True if a reload of the configuration has added a program, which has not been ready yet. */
  isOnTrial(name: string): boolean {
    return this.#member(name).isOnTrial;
  }

  /** The programs that the next instance of a program waits for; undefined if no instance is due. */
  waitsFor(name: string): readonly string[] | undefined {
    const member = this.#member(name);
    return member.isDue ? this.#blockersOf(member) : undefined;
  }

  /** The status of one program. */
  status(name: string): FleetStatus {
    const waitsFor = this.waitsFor(name);
    const { replica, config: { service } } = this.#member(name);
    return {
      ...replica.status,
      ...(service !== undefined && { service }),
      ...(waitsFor && { waitsFor }),
    };
  }

  /** The supervision of one program. */
  supervisor(name: string): Replica {
    return this.#member(name).replica;
  }

  /** The names that a name selects: that of a program, or those of its instances side by side. */
  select(name: string): readonly string[] {
    return this.#selected(name).map(({ config }) => config.name);
  }

  /**
   * Ends all programs, the last started first, with a signal that was sent to the server; null for their warn signals.
   * `delivered`: the programs got the signal from the terminal already. A second call kills the programs.
   */
  stop(signal: Signal | null, delivered = false): void {
    const again = this.#stopping;
    this.#stopping = true;
    if (again) { for (const member of this.#members) this.#shutdown(member, signal); }
    else void this.#stop(signal, delivered);
  }

  /** Ends one program until `restartProgram()`. If no other program runs, the fleet ends, too. */
  async stopProgram(name: string): Promise<void> {
    const selected = this.#selected(name);
    if (this.#members.every((each) => selected.includes(each) || isAtRest(each))) {
      this.stop(null);
      await Promise.all(selected.map(({ replica }) => replica.finished));
      return;
    }
    for (const member of selected) member.stopped = true;
    await Promise.all(selected.map(({ replica }) => replica.halt()));
  }

  /**
   * Ends the current instance of one program and starts the next. A stopped program starts again. Instances side by side are
   * restarted one after the other: each waits until the one before it is ready, or has failed.
   */
  async restartProgram(name: string): Promise<void> {
    this.#refuseIfStopping("restart", name);
    const selected = this.#selected(name);
    const running = selected.filter(({ status }) => status === null);
    // One instance that has failed for good must not prevent the restart of the others.
    for (const member of running) member.stopped = false;
    for (const member of running.length > 0 ? running : selected) {
      // It was stopped, or has failed for good, while the instances before it restarted.
      if (running.length > 0 && (member.stopped || member.status !== null)) continue;
      await member.replica.restart();
      if (member.config.service !== undefined) await untilSettled(this, member);
    }
  }

  /**
   * Replaces the instance of one program by one that has proved itself. Instances side by side are replaced one after the
   * other. The first failure ends the reload. Rejects if there is nothing to reload now.
   */
  async reloadProgram(name: string, cause?: ReloadCause): Promise<FleetReload> {
    return await this.#reloads.reload(name, this.#selected(name), cause);
  }

  /** Changes the programs to those of a configuration that was read again. */
  async change(programs: readonly FleetProgram[]): Promise<FleetChange> {
    return await this.#reloads.change(programs);
  }

  #refuseIfStopping(action: string, name: string): void {
    if (!this.#stopping) return;
    throw new SamError("INTERRUPT", `cannot ${action} ${name}: sam is stopping all programs`);
  }

  async #stop(signal: Signal | null, delivered: boolean): Promise<void> {
    for (const member of [...this.#members].reverse()) {
      if (member.status !== null) continue;
      // A reload of the configuration may have begun to stop this program. A second request would kill it.
      if (!member.replica.isStopping) this.#shutdown(member, signal, delivered);
      if (!delivered) await member.replica.finished;
    }
  }

  #shutdown(member: Member, signal: Signal | null, delivered?: boolean): void {
    member.stopped = true;
    member.replica.shutdown(signal, delivered);
  }

  #selected(name: string): readonly Member[] {
    return this.#members.filter(({ config }) => config.name === name || config.service === name);
  }

  #member(name: string): Member {
    return this.#members.find(({ config }) => config.name === name)!;
  }

  #handle(member: Member, event: SupervisorEvent): void {
    switch (event.type) {
      case "spawn":
      case "spare":
        member.hasProcess ||= event.type === "spawn" || event.state === "promoted";
        break;
      case "exit":
        if (event.instanceId !== member.replica.instanceId) break; // a reload has replaced this instance
        member.hasProcess = false;
        this.#ended(member);
        break;
      case "reloaded":
        member.hasProcess = true;
        member.isDue = false; // that of the replaced instance
        break;
      case "recovery":
        if (event.delay === null || member.isOnTrial) break;
        this.#endDependents(member);
        event = { ...event, ...this.#fieldsOfRecovery(member) };
        break;
      case "stopped":
        member.isDue = false;
        break;
      case "finish":
        member.isDue = false;
        member.status = event.status; // listeners may ask if the program is ready
    }
    member.wasReady ||= isReady(member);
    for (const listener of this.#listeners) listener(member.config.name, event);
    if (event.type === "stopped") this.#stopIfIdle();
    this.#startDue();
  }

  /** The fields that a recovery event gets in a fleet. A spare that took over waits for no program. */
  #fieldsOfRecovery(
    failed: Member,
  ): { readonly waitsFor?: readonly string[]; readonly delay?: null } {
    if (this.#stopping) return { delay: null };
    const { state } = failed.replica.status;
    if (state !== "pending" && state !== "backoff") return {};
    const waitsFor = this.#blockersOf(failed);
    return waitsFor.length > 0 ? { waitsFor } : {};
  }

  /** Ends the server when no program runs anymore. */
  #stopIfIdle(): void {
    const isKept = this.#stopping || this.#reloads.isChanging;
    if (!isKept && this.#members.every(isAtRest)) this.stop(null);
  }

  #finishIfOver(): void {
    if (this.#reloads.isChanging || this.#members.some(({ status }) => !status)) return;
    this.#settle(this.#code ?? 0);
  }

  /** Closes the sockets of a program that no member uses any more. */
  #closeUnused({ held }: FleetProgram): void {
    const isUsed = this.#members.some((each) => each.status === null && each.config.held === held);
    if (!isUsed) held?.close();
  }

  #end(member: Member, status: ExitStatus): void {
    member.status = status;
    member.hasProcess = false;
    this.#ended(member);
    this.#closeUnused(member.config);
    const alone = this.#members.length === 1;
    const siblings = this.#members.filter((each) => isSibling(each, member));
    const failed = member.isGone || member.isOnTrial ? null : failureOf(member, siblings);
    if (failed !== null && (alone || failed.reason !== "stopped")) {
      this.#code ??= failed.code;
      // A program that SAM does not restart ends the others, too, so that the server ends with its status.
      if (!alone) this.stop(null);
    }
    this.#goOn();
  }

  /** A program has ended, or a change of the programs is over. */
  #goOn(): void {
    this.#stopIfIdle();
    this.#startDue();
    this.#finishIfOver();
  }

  /** True if other programs see no failure, because another instance of the same program is ready. */
  #isCovered(member: Member): boolean {
    return this.#members.some((each) =>
      each !== member && isSibling(each, member) && isRunning(each)
    );
  }

  // Programs that restart together.

  /** Ends the programs that restart together with a failed one. */
  #endDependents(failed: Member): void {
    if (this.#strategy === "one_for_one" || this.#stopping || this.#isCovered(failed)) return;
    const first = this.#strategy === "one_for_all" ? 0 : this.#members.indexOf(failed) + 1;
    for (const member of this.#members.slice(first)) {
      if (!isSibling(member, failed) && member.hasProcess) member.mustEnd = true;
    }
    this.#endNext();
  }

  #endNext(): void {
    if (this.#ending) return;
    this.#ending = this.#members.findLast(({ mustEnd }) => mustEnd) ?? null;
    if (this.#ending?.stopped) return; // this program is being stopped already, and must not start again
    this.#ending?.replica.restart().catch(() => {}); // rejects if the program has ended for good meanwhile
  }

  #ended(member: Member): void {
    member.mustEnd = false;
    if (this.#ending !== member) return;
    this.#ending = null;
    this.#endNext();
  }

  // Starts.

  #markDue(member: Member, due: Due): void {
    if (due === "process") member.isDue = true;
    else member.isSpareDue = true;
    this.#startDue();
  }

  /** Starts the instances and spares that are due and need not wait for other programs. */
  #startDue(): void {
    for (const member of this.#members) {
      const { isDue, isSpareDue, replica } = member;
      if (!(isDue || isSpareDue) || this.#stopping || this.#blockersOf(member).length > 0) continue;
      member.isDue = member.isSpareDue = false;
      if (isDue) replica.allowStart("process");
      if (isSpareDue) replica.allowStart("spare"); // ignored if the spare is no longer due
    }
  }

  /** The programs that must end, or be ready, before a program may start. A stopped one only has to have been ready once. */
  #blockersOf(member: Member): readonly string[] {
    const before = this.#strategy === "one_for_one"
      ? member.config.after.flatMap((each) => this.#selected(each))
      : this.#members.slice(0, this.#members.indexOf(member));
    const blockers = this.#members.filter((each) =>
      each.mustEnd ||
      (before.includes(each) && !isSibling(each, member) && !this.#isCovered(each) &&
        !(each.stopped ? each.wasReady : isReady(each)))
    );
    return [...new Set(blockers.map(serviceOf))];
  }
}
