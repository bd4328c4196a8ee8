/** A member of a fleet: a program, or one of its instances side by side. */
import type { ExitStatus } from "../api/events.ts";
import type { FleetProgram } from "./fleet_program.ts";
import type { Replica } from "./replica.ts";

/** A program of a fleet, with the state that the fleet keeps of it. */
export interface Member extends FleetProgram {
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
  /** The program has been ready at least once. */
  wasReady: boolean;
  status: ExitStatus | null;
}

/** True for the same program, and for two instances of one program side by side. */
export function isSibling(one: Member, other: Member): boolean {
  return one === other || (one.service !== undefined && one.service === other.service);
}

/** True if an instance is ready, and has not ended. */
export function isRunning({ replica, status }: Member): boolean {
  return status === null && replica.ready;
}

/** True if a member is ready, or has ended for good. */
export function isReady({ replica, status }: Member): boolean {
  return status === null ? replica.ready : true;
}

/** True if a member has ended, or was stopped until a restart. */
export function isAtRest({ replica, status }: Member): boolean {
  return status !== null || replica.status.state === "stopped";
}
