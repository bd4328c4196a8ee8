/** What a `sam run` knows of its programs: how they are, and what has happened. Asked over the control socket and HTTP. */
import type { SupervisorEvent, SupervisorStatus } from "../events.ts";
import type { Fleet, Strategy } from "../fleet.ts";
import * as host from "../runtime/host.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** A program, as `sam status --json` shows it. */
export interface ProgramStatus extends SupervisorStatus {
  /** Its name. */
  readonly name: string;
  /** The resident memory of its process in bytes; null where that is not known. */
  readonly memory: number | null;
  /** Milliseconds since its process was started; null while there is none. */
  readonly uptime: number | null;
}

/** A server, as `sam status --json` shows it. */
export interface ServerStatus {
  /** Its name. */
  readonly name: string;
  /** The process id of `sam`. */
  readonly pid: number;
  /** What the failure of one program means for the others. */
  readonly strategy: "one_for_one" | "one_for_all" | "rest_for_one";
  /** Where its status page is; left out where there is none. */
  readonly url?: string;
  /** Its programs, in the order of their start. */
  readonly programs: readonly ProgramStatus[];
}

/** Which server this is. */
export interface Identity {
  readonly name: string;
  readonly strategy: Strategy;
  readonly url?: string | undefined;
}

/** An event, and the program that it is about. */
export interface Entry {
  readonly program: string;
  readonly event: SupervisorEvent;
}

/** So many events are kept. */
const maxKept = 1000;

/** The programs of one server, and their past. */
export class Journal {
  readonly #runtime: Runtime;
  readonly #fleet: Fleet;
  readonly #identity: Identity;
  readonly #kept: Entry[] = [];
  readonly #followers = new Set<(entry: Entry) => void>();

  constructor(runtime: Runtime, fleet: Fleet, identity: Identity) {
    this.#runtime = runtime;
    this.#fleet = fleet;
    this.#identity = identity;
    fleet.subscribe((program, event) => this.#hear({ program, event }));
  }

  /** The name of the server. */
  get name(): string {
    return this.#identity.name;
  }

  /** What has happened: the last 1,000 events. */
  get entries(): readonly Entry[] {
    return this.#kept;
  }

  /** Tells what happens from now on; returns the cancellation. */
  follow(follower: (entry: Entry) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  #hear(entry: Entry): void {
    this.#kept.push(entry);
    if (this.#kept.length > maxKept) this.#kept.shift();
    for (const follower of this.#followers) follower(entry);
  }

  /** How things are now. */
  get status(): ServerStatus {
    const { name, strategy, url } = this.#identity;
    return {
      name,
      pid: this.#runtime.pid,
      strategy,
      ...(url !== undefined && { url }),
      programs: this.#fleet.names.map((name) => {
        const { status } = this.#fleet.supervisor(name);
        return {
          name,
          ...status,
          memory: (status.pid !== null && host.memoryOf(status.pid)) || null,
          uptime: status.spawnedAt === null ? null : Date.now() - status.spawnedAt,
        };
      }),
    };
  }
}
