/**
 * The programs of one server. They start in the order of their dependencies, restart together if the strategy says so, and
 * stop in the reverse order. The strategies are OTP's.
 */
import type { Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import type { ExitStatus, SupervisorEvent, SupervisorStatus } from "../api/events.ts";
import type { CheckedProgram } from "../api/program.ts";
import type { CheckedSuperviseOptions } from "../api/supervise_options.ts";
import { type Due, Supervision } from "./supervise.ts";

/**
 * Which programs restart when one fails: that one (`one_for_one`), all (`one_for_all`), or that one and those that start after
 * it (`rest_for_one`).
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
  /** What the user can do so that SAM watches the event loop, if a known wrapper prevents that. */
  readonly advice?: string | undefined;
}

/** A program of a fleet at one moment. */
export interface FleetStatus extends SupervisorStatus {
  /** The programs that must end, or be ready, before its next process starts; left out where none is due. */
  readonly waitsFor?: readonly string[];
}

/** Called for each event of each program. */
export type FleetListener = (name: string, event: SupervisorEvent) => void;

interface Member extends FleetProgram {
  readonly supervision: Supervision;
  /** Its next process is due, and starts when no other program holds it up. */
  isDue: boolean;
  /** The same for a spare of it. */
  isSpareDue: boolean;
  /** A process of it exists. */
  up: boolean;
  /** It must end before any program starts, because another one has failed. */
  mustEnd: boolean;
  /** It was stopped, alone or with all. It does not start before `restartOne()`. */
  stopped: boolean;
  /** It has been ready before. */
  wasReady: boolean;
  status: ExitStatus | null;
}

/** Several programs under supervision. */
export class Fleet {
  /** Resolved with the exit code of the server when all programs have ended. */
  readonly finished: Promise<number>;

  readonly #strategy: Strategy;
  readonly #listeners = new Set<FleetListener>();
  /** In the order of their start. */
  readonly #members: readonly Member[];
  /** The program that is being ended because another one has failed. */
  #ending: Member | null = null;
  #stopping = false;
  #code: number | null = null;

  /** Starts the programs. They are in the order of their dependencies. */
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
          (event) => this.#hear(this.#member(each.name), event),
          (due) => this.#noteDue(this.#member(each.name), due),
        ),
        isDue: false,
        isSpareDue: false,
        up: false,
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

  /** The names, in the order of their start. */
  get names(): readonly string[] {
    return this.#members.map(({ name }) => name);
  }

  /** Calls back for each event from now on; returns the cancellation. No event happens before the constructor has returned. */
  subscribe(listener: FleetListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** True if a program is ready, or has finished. */
  isReady(name: string): boolean {
    return isReady(this.#member(name));
  }

  /** True if all programs are ready or have finished. Programs that were stopped alone do not count. */
  get allReady(): boolean {
    return !this.#stopping && this.#members.every((member) => member.stopped || isReady(member));
  }

  /** True once all programs are being stopped, or have ended. */
  get isStopping(): boolean {
    return this.#stopping;
  }

  /** True if a program was stopped, and has not been started again. */
  isStopped(name: string): boolean {
    return this.#member(name).stopped;
  }

  /** The programs that a program waits for; undefined if none of its processes is due. */
  waitsFor(name: string): readonly string[] | undefined {
    const member = this.#member(name);
    return member.isDue ? this.#heldUpBy(member) : undefined;
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
   * Ends all programs, the last started first, with a signal that was sent to the server, or with their warn signals.
   * `delivered`: the programs have got the signal already. A second call hastens the end.
   */
  stop(signal: Signal | null, delivered = false): void {
    const again = this.#stopping;
    this.#stopping = true;
    if (again) { for (const member of this.#members) this.#shutdown(member, signal); }
    else void this.#stop(signal, delivered);
  }

  /** Ends one program, also one whose process is due. The others go on. The end of the last program is the end of the fleet. */
  async stopOne(name: string): Promise<void> {
    const member = this.#member(name);
    if (this.#members.every((each) => each === member || isAtRest(each))) {
      this.stop(null);
      await member.supervision.finished;
      return;
    }
    member.stopped = true;
    await member.supervision.halt();
  }

  /** Ends the present instance of one program and starts the next. Starts a program that was stopped. */
  async restartOne(name: string): Promise<void> {
    if (this.#stopping) {
      throw new SamError("INTERRUPT", `${name} is not restarted: sam is stopping all programs`);
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

  #hear(member: Member, event: SupervisorEvent): void {
    switch (event.type) {
      case "spawn":
        member.up = true;
        break;
      case "exit":
        member.up = false;
        this.#ended(member);
        break;
      case "recovery":
        if (event.delay === null) break;
        this.#spread(member);
        event = { ...event, ...this.#waitOf(member) };
        break;
      case "stopped":
        member.isDue = false;
        break;
      case "finish":
        member.isDue = false;
        member.status = event.status; // before a listener asks if it is ready
    }
    member.wasReady ||= isReady(member);
    for (const listener of this.#listeners) listener(member.name, event);
    if (event.type === "stopped") this.#stopIfIdle();
    this.#startDue();
  }

  /** The programs that the next instance of a failed program waits for; none if a spare has taken over. */
  #waitOf(failed: Member): { readonly waitsFor?: readonly string[]; readonly delay?: null } {
    if (this.#stopping) return { delay: null };
    const { state } = failed.supervision.status;
    if (state !== "pending" && state !== "backoff") return {};
    const waitsFor = this.#heldUpBy(failed);
    return waitsFor.length > 0 ? { waitsFor } : {};
  }

  /** Ends the server when no program runs any more. */
  #stopIfIdle(): void {
    if (!this.#stopping && this.#members.every(isAtRest)) this.stop(null);
  }

  #end(member: Member, status: ExitStatus): void {
    member.status = status;
    member.up = false;
    this.#ended(member);
    const alone = this.#members.length === 1;
    if (status.code !== 0 && (alone || status.reason !== "stopped")) {
      this.#code ??= status.code;
      // A program that SAM gives up on takes the others with it, so that the server ends with its status.
      if (!alone) this.stop(null);
    }
    this.#stopIfIdle();
    this.#startDue();
  }

  // Restarts together.

  /** Marks the programs that restart together with a failed one. */
  #spread(failed: Member): void {
    if (this.#strategy === "one_for_one" || this.#stopping) return;
    const first = this.#strategy === "one_for_all" ? 0 : this.#members.indexOf(failed) + 1;
    for (const member of this.#members.slice(first)) {
      if (member !== failed && member.up) member.mustEnd = true;
    }
    this.#endNext();
  }

  #endNext(): void {
    if (this.#ending) return;
    this.#ending = this.#members.findLast(({ mustEnd }) => mustEnd) ?? null;
    if (this.#ending?.stopped) return; // it is being ended already, and must not start again
    this.#ending?.supervision.restart().catch(() => {}); // it has ended for good in the meantime
  }

  #ended(member: Member): void {
    member.mustEnd = false;
    if (this.#ending !== member) return;
    this.#ending = null;
    this.#endNext();
  }

  // Starts.

  #noteDue(member: Member, due: Due): void {
    if (due === "process") member.isDue = true;
    else member.isSpareDue = true;
    this.#startDue();
  }

  /** Starts the processes and spares that are due, and that no other program holds up. */
  #startDue(): void {
    for (const member of this.#members) {
      const { isDue, isSpareDue, supervision } = member;
      if (!(isDue || isSpareDue) || this.#stopping || this.#heldUpBy(member).length > 0) continue;
      member.isDue = member.isSpareDue = false;
      if (isDue) supervision.allowStart("process");
      if (isSpareDue) supervision.allowStart("spare"); // ignored if the spare is wanted no more
    }
  }

  /** The programs that must end, or be ready, before a program may start. It does not wait for one that was stopped alone. */
  #heldUpBy(member: Member): readonly string[] {
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

/** Sorts programs: dependencies first, otherwise as given. Throws INVALID_PARAM for dependencies that nothing can satisfy. */
export function sortByDependencies(programs: readonly FleetProgram[]): readonly FleetProgram[] {
  const ordered = new Set<FleetProgram>();
  const visit = (program: FleetProgram, above: readonly string[]) => {
    if (ordered.has(program)) return;
    const path = [...above, program.name];
    if (above.includes(program.name)) {
      throw new SamError(
        "INVALID_PARAM",
        `programs.${program.name}.after goes round in a circle (${path.join(" after ")})`,
      );
    }
    for (const name of program.after) {
      const other = programs.find((each) => each.name === name);
      if (other === undefined) {
        throw new SamError(
          "INVALID_PARAM",
          `programs.${program.name}.after names "${name}"; there are ${
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
