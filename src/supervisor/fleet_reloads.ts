/** The reloads of a fleet: of one program, and of the configuration, in which programs come, go and change. */
import { SamError } from "../errors.ts";
import { loadRuntime } from "../runtime/load.ts";
import { runsAlike, slotOf } from "./fleet_change.ts";
import { type FleetListener, hasFailed, type Member } from "./fleet_member.ts";
import type { FleetProgram } from "./fleet_program.ts";
import type { ReloadCause, ReloadResult } from "./replica.ts";
import { beginTrial } from "./trial.ts";

/** The result of a reload. */
export interface FleetReload {
  /** The names of the programs and instances that were reloaded. */
  readonly reloaded: readonly string[];
  /** The first one that was not reloaded; null if all were. */
  readonly failed: {
    readonly name: string;
    readonly event: NonNullable<ReloadResult["failed"]>;
  } | null;
}

/** The result of a change of the configuration. */
export interface FleetChange extends FleetReload {
  /** The names of the programs and instances that were added. */
  readonly started: readonly string[];
  /** The names of the programs and instances that were removed. */
  readonly stopped: readonly string[];
  /** The first program that was added and failed before it was ready; null if none did. `detail` follows "it". */
  readonly notStarted: { readonly name: string; readonly detail: string } | null;
}

/** The parts of a fleet that its reloads need. */
export interface ReloadableFleet {
  /** The programs in the order of their start. */
  readonly members: Member[];
  add(config: FleetProgram): Member;
  /** Says that a name is that of a member from now on, or no longer. */
  announce(name: string, isMember: boolean): void;
  isStopping(): boolean;
  /** True if the next instance of a member waits for other programs. */
  isBlocked(member: Member): boolean;
  subscribe(listener: FleetListener): () => void;
  /** Closes the sockets of a program that no member uses any more. */
  closeUnused(config: FleetProgram): void;
  /** Throws INTERRUPT if all programs are being stopped. */
  refuseIfStopping(action: string, name: string): void;
  /** Called when a change is over. The fleet does not end before that. */
  over(): void;
}

const configuration = "the configuration";

/** The reloads of one fleet. */
export class FleetReloads {
  readonly #fleet: ReloadableFleet;
  /** The programs that are being reloaded, or wait for their turn. */
  readonly #reloading = new Set<Member>();
  #isChanging = false;

  constructor(fleet: ReloadableFleet) {
    this.#fleet = fleet;
  }

  /** True while programs come, go or change. */
  get isChanging(): boolean {
    return this.#isChanging;
  }

  /**
   * Reloads one program. Its instances side by side are reloaded in turn. The first failure ends the reload. `cause`: the limit
   * that an instance exceeds; left out if the reload was requested.
   */
  async reload(
    name: string,
    selected: readonly Member[],
    cause?: ReloadCause,
  ): Promise<FleetReload> {
    this.#fleet.refuseIfStopping("reload", name);
    if (this.#isChanging) throw isRunning(name, `a reload of ${configuration}`);
    if (selected.some((member) => this.#reloading.has(member))) {
      throw isRunning(name, "another reload of it");
    }
    const running = selected.filter(({ status, stopped }) => status === null && !stopped);
    const members = running.length > 0 ? running : selected;
    const reloaded: string[] = [];
    for (const member of members) this.#reloading.add(member);
    try {
      for (const member of members) {
        this.#fleet.refuseIfStopping("reload", name);
        // It was stopped, or has failed for good, while the instances before it were reloaded.
        if (member !== members[0] && (member.stopped || member.status !== null)) continue;
        const { failed } = await member.replica.reload(undefined, cause);
        if (failed) return { reloaded, failed: { name: member.config.name, event: failed } };
        reloaded.push(member.config.name);
      }
    } finally {
      for (const member of members) this.#reloading.delete(member);
    }
    return { reloaded, failed: null };
  }

  /**
   * Changes the programs: those that are gone stop, in the reverse order of their start. Then those that are new start, and those
   * that changed are reloaded, in the order of their start. The first failure ends the change.
   */
  async change(programs: readonly FleetProgram[]): Promise<FleetChange> {
    try {
      this.#fleet.refuseIfStopping("reload", configuration);
      if (this.#isChanging) throw isRunning(configuration, "another reload of it");
      if (this.#reloading.size > 0) throw isRunning(configuration, "a reload of a program");
      this.#isChanging = true;
      try {
        return await this.#change(programs);
      } finally {
        this.#isChanging = false;
        this.#fleet.over();
      }
    } finally {
      for (const each of programs) this.#fleet.closeUnused(each);
    }
  }

  async #change(programs: readonly FleetProgram[]): Promise<FleetChange> {
    const { members } = this.#fleet;
    const kept = new Map<Member, FleetProgram>();
    const changed = new Map<Member, FleetProgram>();
    const added: FleetProgram[] = [];
    const unclaimed = new Map(members.map((member) => [slotOf(member.config), member]));
    for (const next of programs) {
      const slot = slotOf(next);
      const member = unclaimed.get(slot);
      const isAlike = member !== undefined && runsAlike(member.config, next);
      if (member === undefined || mustStartAgain(member, isAlike)) {
        added.push(next);
        continue;
      }
      unclaimed.delete(slot);
      kept.set(member, next);
      if (!isAlike) changed.set(member, next);
    }
    const gone = members.filter((member) => [...unclaimed.values()].includes(member));
    const stopped = await this.#removeAll(gone);
    // A new name may be that of a program that is gone.
    for (const [member, next] of kept) this.#describe(member, next);
    const clock = await loadRuntime();
    const trials = new Map(added.map((config) => {
      const member = this.#add(config);
      return [member, beginTrial(this.#fleet, clock, member)];
    }));
    const order = programs.map(slotOf);
    members.sort((one, another) =>
      order.indexOf(slotOf(one.config)) - order.indexOf(slotOf(another.config))
    );
    const started: string[] = [];
    const reloaded: string[] = [];
    const result = { stopped, started, reloaded, failed: null, notStarted: null };
    try {
      for (const member of [...members]) {
        const { name } = member.config;
        const trial = trials.get(member);
        if (trial) {
          // A program that waits for others may have to wait for long.
          const detail = this.#fleet.isBlocked(member) ? null : await trial.failure;
          this.#fleet.refuseIfStopping("reload", configuration);
          if (detail !== null) return { ...result, notStarted: { name, detail } };
          trial.end();
          trials.delete(member);
          member.isOnTrial = false;
          started.push(name);
        }
        const next = changed.get(member);
        if (next === undefined) continue;
        const failed = await this.#replace(member, next);
        this.#fleet.refuseIfStopping("reload", configuration);
        if (failed) return { ...result, failed: { name, event: failed } };
        reloaded.push(name);
      }
    } finally {
      // Programs after the first failure are started by the next reload.
      for (const trial of trials.values()) trial.end();
      if (!this.#fleet.isStopping()) await this.#removeAll([...trials.keys()]);
    }
    return result;
  }

  /** Applies the parts of a description that concern no running process. */
  #describe(member: Member, next: FleetProgram): void {
    const { name: before } = member.config;
    const { name, service, instances, minReady, limits, after, advice } = next;
    const { service: _, ...rest } = member.config;
    member.config = {
      ...rest,
      ...(service !== undefined && { service }),
      ...{ name, instances, minReady, limits, after, advice },
    };
    member.replica.describe({ name, minReady });
    if (name === before) return;
    this.#fleet.announce(before, false);
    this.#fleet.announce(name, true);
  }

  #add(config: FleetProgram): Member {
    const member = this.#fleet.add(config);
    member.isOnTrial = true;
    this.#fleet.announce(config.name, true);
    return member;
  }

  /** Removes members, the last started first. Resolves to the names of those that had not ended before. */
  async #removeAll(gone: readonly Member[]): Promise<readonly string[]> {
    const running = gone.filter(({ status }) => status === null);
    for (const member of gone) member.isGone = true;
    for (const member of [...gone].reverse()) {
      if (member.status === null) {
        member.stopped = true;
        member.replica.shutdown(null);
      }
      await member.ended;
      this.#fleet.refuseIfStopping("reload", configuration);
      this.#fleet.members.splice(this.#fleet.members.indexOf(member), 1);
      this.#fleet.announce(member.config.name, false);
    }
    return running.map(({ config }) => config.name);
  }

  /** Gives new options to a program. Resolves to the event if its reload failed. */
  async #replace(member: Member, next: FleetProgram): Promise<ReloadResult["failed"]> {
    const { replica } = member;
    const { state, pid } = replica.status;
    if (state === "finished") {
      const { name } = member.config;
      throw new SamError("TRY_AGAIN", `cannot reload ${name}: it has just finished. Try again.`);
    }
    const failed = pid === null ? await replica.renew(next) : (await replica.reload(next)).failed;
    if (failed?.kept) return failed;
    const before = member.config;
    member.config = next;
    this.#fleet.closeUnused(before);
    return failed;
  }
}

/** True for a finished program whose options changed, and for an instance side by side that has failed for good. */
function mustStartAgain(member: Member, isAlike: boolean): boolean {
  if (member.status === null) return false;
  return !isAlike || (member.config.service !== undefined && hasFailed(member));
}

function isRunning(name: string, what: string): SamError {
  return new SamError(
    "TRY_AGAIN",
    `cannot reload ${name}: ${what} is running. Wait until that has ended.`,
  );
}
