/**
 * The programs of one `sam run`. They start in the order of their dependencies, restart together or alone by the strategy, and
 * stop in the reverse order. The strategies are those of Erlang/OTP.
 */
import type { Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import type { ExitStatus, SupervisorEvent, SupervisorStatus } from "../api/events.ts";
import type { CheckedProgram } from "../api/program.ts";
import type { CheckedSuperviseOptions } from "../api/supervise_options.ts";
import { type Due, Supervision } from "./supervise.ts";

/**
 * The programs that restart when one fails: only that one (`one_for_one`), all (`one_for_all`), or that one and those that
 * start after it (`rest_for_one`).
 */
export type Strategy = "one_for_one" | "one_for_all" | "rest_for_one";

/** All strategies. */
export const strategies: readonly Strategy[] = ["one_for_one", "one_for_all", "rest_for_one"];

/** A program of a fleet. */
export interface FleetProgram {
  readonly name: string;
  readonly program: CheckedProgram;
  readonly options: CheckedSuperviseOptions;
  /** The names of the programs that must be ready before it is started. */
  readonly after: readonly string[];
  /** Advice for the user, if a known wrapper keeps SAM from watching the event loop: `leave out --watch`. */
  readonly advice?: string | undefined;
}

/** The status of a program of a fleet. */
export interface FleetStatus extends SupervisorStatus {
  /** The programs that must end, or be ready, before the next instance starts; left out if no instance is due. */
  readonly waitsFor?: readonly string[];
}

/** Called for each event of each program. */
export type FleetListener = (name: string, event: SupervisorEvent) => void;

interface Member extends FleetProgram {
  readonly supervision: Supervision;
  /** The next instance is due. It starts when it need not wait for other programs. */
  isDue: boolean;
  /** A spare is due. It starts when it need not wait for other programs. */
  isSpareDue: boolean;
  /** The program has a process. */
  hasProcess: boolean;
  /** The program must end before any program starts, because another one failed. */
  mustEnd: boolean;
  /** The program was stopped, alone or with all. It does not start before `restartProgram()`. */
  stopped: boolean;
  /** The program has been ready at least once. */
  wasReady: boolean;
  status: ExitStatus | null;
}

/** The programs of one `sam run` under supervision. */
export class Fleet {
  /** Resolves to the exit code of the server when all programs have ended. */
  readonly finished: Promise<number>;

  readonly #strategy: Strategy;
  readonly #listeners = new Set<FleetListener>();
  /** The programs in the order of their start. */
  readonly #members: readonly Member[];
  /** The program that is being ended because another one failed. */
  #ending: Member | null = null;
  #stopping = false;
  #code: number | null = null;

  /** Starts the programs, which must be in the order of their dependencies. */
  constructor(programs: readonly FleetProgram[], strategy: Strategy) {
    this.#strategy = strategy;
    const members: Member[] = [];
    this.#members = members;
    for (const each of programs) {
      members.push({
        ...each,
        supervision: new Supervision(
          each.program,
          each.options,
          (event) => this.#handle(this.#member(each.name), event),
          (due) => this.#markDue(this.#member(each.name), due),
        ),
        isDue: false,
        isSpareDue: false,
        hasProcess: false,
        mustEnd: false,
        stopped: false,
        wasReady: false,
        status: null,
      });
    }
    this.finished = Promise.all(members.map(async (member) => {
      this.#end(member, await member.supervision.finished);
    })).then(() => this.#code ?? 0);
  }

  /** The names of the programs, in the order of their start. */
  get names(): readonly string[] {
    return this.#members.map(({ name }) => name);
  }

  /** Adds a listener for all later events; returns a function that removes it. There are no events during the constructor. */
  subscribe(listener: FleetListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** True if a program is ready or has finished. */
  isReady(name: string): boolean {
    return isReady(this.#member(name));
  }

  /** True if each program is ready, has finished, or was stopped alone. */
  get allReady(): boolean {
    return !this.#stopping && this.#members.every((member) => member.stopped || isReady(member));
  }

  /** True once all programs are being stopped. */
  get isStopping(): boolean {
    return this.#stopping;
  }

  /** True if a program was stopped and not started again. */
  isStopped(name: string): boolean {
    return this.#member(name).stopped;
  }

  /** The programs that the next instance of a program waits for; undefined if no instance is due. */
  waitsFor(name: string): readonly string[] | undefined {
    const member = this.#member(name);
    return member.isDue ? this.#blockersOf(member) : undefined;
  }

  /** The status of one program. */
  status(name: string): FleetStatus {
    const waitsFor = this.waitsFor(name);
    return { ...this.supervisor(name).status, ...(waitsFor && { waitsFor }) };
  }

  /** The supervision of one program. */
  supervisor(name: string): Supervision {
    return this.#member(name).supervision;
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
    const member = this.#member(name);
    if (this.#members.every((each) => each === member || isAtRest(each))) {
      this.stop(null);
      await member.supervision.finished;
      return;
    }
    member.stopped = true;
    await member.supervision.halt();
  }

  /** Ends the current instance of one program and starts the next. A stopped program starts again. */
  async restartProgram(name: string): Promise<void> {
    if (this.#stopping) {
      throw new SamError("INTERRUPT", `cannot restart ${name}: sam is stopping all programs`);
    }
    const member = this.#member(name);
    member.stopped = false;
    await member.supervision.restart();
  }

  async #stop(signal: Signal | null, delivered: boolean): Promise<void> {
    for (const member of [...this.#members].reverse()) {
      if (member.status !== null) continue;
      this.#shutdown(member, signal, delivered);
      if (!delivered) await member.supervision.finished;
    }
  }

  #shutdown(member: Member, signal: Signal | null, delivered?: boolean): void {
    member.stopped = true;
    member.supervision.shutdown(signal, delivered);
  }

  #member(name: string): Member {
    return this.#members.find((member) => member.name === name)!;
  }

  #handle(member: Member, event: SupervisorEvent): void {
    switch (event.type) {
      case "spawn":
        member.hasProcess = true;
        break;
      case "exit":
        member.hasProcess = false;
        this.#ended(member);
        break;
      case "recovery":
        if (event.delay === null) break;
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
    for (const listener of this.#listeners) listener(member.name, event);
    if (event.type === "stopped") this.#stopIfIdle();
    this.#startDue();
  }

  /** The fields that a recovery event gets in a fleet. A spare that took over waits for no program. */
  #fieldsOfRecovery(
    failed: Member,
  ): { readonly waitsFor?: readonly string[]; readonly delay?: null } {
    if (this.#stopping) return { delay: null };
    const { state } = failed.supervision.status;
    if (state !== "pending" && state !== "backoff") return {};
    const waitsFor = this.#blockersOf(failed);
    return waitsFor.length > 0 ? { waitsFor } : {};
  }

  /** Ends the server when no program runs anymore. */
  #stopIfIdle(): void {
    if (!this.#stopping && this.#members.every(isAtRest)) this.stop(null);
  }

  #end(member: Member, status: ExitStatus): void {
    member.status = status;
    member.hasProcess = false;
    this.#ended(member);
    const alone = this.#members.length === 1;
    if (status.code !== 0 && (alone || status.reason !== "stopped")) {
      this.#code ??= status.code;
      // A program that SAM does not restart ends the others, too, so that the server ends with its status.
      if (!alone) this.stop(null);
    }
    this.#stopIfIdle();
    this.#startDue();
  }

  // Programs that restart together.

  /** Ends the programs that restart together with a failed one. */
  #endDependents(failed: Member): void {
    if (this.#strategy === "one_for_one" || this.#stopping) return;
    const first = this.#strategy === "one_for_all" ? 0 : this.#members.indexOf(failed) + 1;
    for (const member of this.#members.slice(first)) {
      if (member !== failed && member.hasProcess) member.mustEnd = true;
    }
    this.#endNext();
  }

  #endNext(): void {
    if (this.#ending) return;
    this.#ending = this.#members.findLast(({ mustEnd }) => mustEnd) ?? null;
    if (this.#ending?.stopped) return; // this program is being stopped already, and must not start again
    this.#ending?.supervision.restart().catch(() => {}); // rejects if the program has ended for good meanwhile
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
      const { isDue, isSpareDue, supervision } = member;
      if (!(isDue || isSpareDue) || this.#stopping || this.#blockersOf(member).length > 0) continue;
      member.isDue = member.isSpareDue = false;
      if (isDue) supervision.allowStart("process");
      if (isSpareDue) supervision.allowStart("spare"); // ignored if the spare is no longer due
    }
  }

  /** The programs that must end, or be ready, before a program may start. A stopped one only has to have been ready once. */
  #blockersOf(member: Member): readonly string[] {
    const before = this.#strategy === "one_for_one"
      ? member.after.map((each) => this.#member(each))
      : this.#members.slice(0, this.#members.indexOf(member));
    return this.#members.filter((each) =>
      each.mustEnd ||
      (before.includes(each) && !(each.stopped ? each.wasReady : isReady(each)))
    ).map(({ name }) => name);
  }
}

function isReady({ supervision, status }: Member): boolean {
  return status === null ? supervision.ready : true;
}

function isAtRest({ supervision, status }: Member): boolean {
  return status !== null || supervision.status.state === "stopped";
}

/** Sorts programs: dependencies first, otherwise as given. Throws INVALID_PARAM for a circular or an unknown dependency. */
export function sortByDependencies(programs: readonly FleetProgram[]): readonly FleetProgram[] {
  const ordered = new Set<FleetProgram>();
  const visit = (program: FleetProgram, above: readonly string[]) => {
    if (ordered.has(program)) return;
    const path = [...above, program.name];
    if (above.includes(program.name)) {
      throw new SamError(
        "INVALID_PARAM",
        `programs.${program.name}.after is circular (${
          path.join(" after ")
        }): remove one of these dependencies`,
      );
    }
    for (const name of program.after) {
      const other = programs.find((each) => each.name === name);
      if (other === undefined) {
        throw new SamError(
          "INVALID_PARAM",
          `programs.${program.name}.after names "${name}", which is not a program: use ${
            programs.map((each) => each.name).join(", ")
          }`,
        );
      }
      visit(other, path);
    }
    ordered.add(program);
  };
  for (const program of programs) visit(program, []);
  return [...ordered];
}
