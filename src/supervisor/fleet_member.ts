/** A member of a fleet: a program, or one of its instances side by side. */
import type { ExitStatus, SupervisorEvent } from "../api/events.ts";
import type { FleetProgram } from "./fleet_program.ts";
import type { Replica } from "./replica.ts";

/** A program of a fleet, with the state that the fleet keeps of it. */
export interface Member {
  /** The program as it is described. A reload of the configuration replaces it. */
  config: FleetProgram;
  readonly replica: Replica;
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
  /** The configuration contains the program no longer. It is being stopped. */
  isGone: boolean;
  /** A reload of the configuration has added the program, and removes it again if it fails before it is ready. */
  isOnTrial: boolean;
  /** The program has been ready at least once. */
  wasReady: boolean;
  status: ExitStatus | null;
  /** Resolves when the fleet has noted the end of the program. */
  ended: Promise<void>;
}

/** The name of a member's program, which its instances side by side have in common. */
export function serviceOf({ config: { name, service = name } }: Member): string {
  return service;
}

/** True for the same program, and for two instances of one program side by side. */
export function isSibling(one: Member, other: Member): boolean {
  return one === other ||
    (one.config.service !== undefined && one.config.service === other.config.service);
}

/** True if an instance is ready, and has not ended. */
export function isRunning({ replica, status }: Member): boolean {
  return status === null && replica.ready;
}

/** True if a member is ready, or has ended for good. */
export function isReady({ replica, status }: Member): boolean {
  return status === null ? replica.ready : true;
}

/** True if a member has ended, and was not stopped. */
export function hasFailed({ status }: Member): boolean {
  return status !== null && status.code !== 0 && status.reason !== "stopped";
}

/** True if a member is ready, or has ended without a failure. */
export function isWell(member: Member): boolean {
  return isReady(member) && !hasFailed(member);
}

/** True if a member has ended, or was stopped until a restart. */
export function isAtRest({ replica, status }: Member): boolean {
  return status !== null || replica.status.state === "stopped";
}

/**
 * The status with which a program has failed; null if it has not failed. A program with instances side by side (`siblings`) fails
 * when none is left, and one of them has failed.
 */
export function failureOf(
  { status, config }: Member,
  siblings: readonly Member[],
): ExitStatus | null {
  if (config.service === undefined) return status?.code === 0 ? null : status;
  if (siblings.some((each) => each.status === null) || status?.reason === "stopped") return null;
  return siblings.find(hasFailed)?.status ?? null;
}

/** The events after which a started instance is no longer awaited. */
const settlingEvents: ReadonlySet<string> = new Set(["recovery", "stopping", "stopped", "finish"]);

/** Called for each event of each program. */
export type FleetListener = (name: string, event: SupervisorEvent) => void;

/** Resolves when an instance is ready, or has failed or ended. */
export function untilSettled(
  fleet: { subscribe(listener: FleetListener): () => void },
  member: Member,
): Promise<void> {
  if (isReady(member)) return Promise.resolve();
  return new Promise((resolve) => {
    const cancel = fleet.subscribe((name, { type }) => {
      if (name !== member.config.name) return;
      if (!isReady(member) && !settlingEvents.has(type)) return;
      cancel();
      resolve();
    });
  });
}
