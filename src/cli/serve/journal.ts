import type { SupervisorEvent } from "../../api/events.ts";
import type { Fleet } from "../../supervisor/fleet.ts";
import type { Strategy } from "../../supervisor/fleet_program.ts";
import { treeMemory } from "../../runtime/procfs.ts";
import type { OwnProcess, SystemFiles } from "../../runtime/runtime.ts";
import type { ServerStatus } from "../control/status.ts";

export interface Identity {
  readonly name: string;
  readonly strategy: Strategy;
  readonly url?: string | undefined;
}

/** An event and its program. */
export interface Entry {
  readonly program: string;
  readonly event: SupervisorEvent;
}

/** The number of events in the buffer. The oldest event is discarded first. */
const maxEntries = 1000;

/** The state and the last events of the programs of one server, for the control socket, the status page and the probes. */
export class Journal {
  readonly #runtime: SystemFiles & Pick<OwnProcess, "pid">;
  readonly #fleet: Fleet;
  readonly #identity: Identity;
  readonly #entries: Entry[] = [];
  /** The last recovery of each program that has a stack trace. It stays in the buffer when newer events follow. */
  readonly #stacks = new Map<string, Entry>();
  readonly #followers = new Set<(entry: Entry) => void>();

  constructor(runtime: SystemFiles & Pick<OwnProcess, "pid">, fleet: Fleet, identity: Identity) {
    this.#runtime = runtime;
    this.#fleet = fleet;
    this.#identity = identity;
    fleet.subscribe((program, event) => this.#add({ program, event }));
    fleet.watchMembers((name, isMember) => {
      if (!isMember) this.#stacks.delete(name);
    });
  }

  get name(): string {
    return this.#identity.name;
  }

  /** The last 1,000 events, the oldest first. */
  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** Calls `follower` for each new event. Returns a function that ends this. */
  follow(follower: (entry: Entry) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  #add(entry: Entry): void {
    this.#entries.push(entry);
    const { program, event } = entry;
    if (event.type === "recovery" && event.evidence.stack) {
      this.#stacks.set(program, entry);
    }
    if (this.#entries.length > maxEntries) {
      const oldest = this.#entries.findIndex((each) => this.#stacks.get(each.program) !== each);
      this.#entries.splice(oldest, 1);
    }
    for (const follower of this.#followers) follower(entry);
  }

  /** The current status of the server and its programs. */
  get status(): ServerStatus {
    const { name, strategy, url } = this.#identity;
    return {
      name,
      pid: this.#runtime.pid,
      strategy,
      ...(url !== undefined && { url }),
      programs: this.#fleet.names.map((name) => {
        const status = this.#fleet.status(name);
        return {
          name,
          ...status,
          memory: (status.pid !== null && treeMemory(this.#runtime, status.pid)) || null,
          uptime: status.spawnedAt === null ? null : Date.now() - status.spawnedAt,
        };
      }),
    };
  }
}
