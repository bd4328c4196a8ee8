/** The state and the events of the programs of a `sam run`, for the control socket and HTTP. */
import type { SupervisorEvent } from "../../api/events.ts";
import type { Fleet, Strategy } from "../../supervisor/fleet.ts";
import * as host from "../host/host.ts";
import type { OwnProcess } from "../../runtime/runtime.ts";
import type { ServerStatus } from "../control/status.ts";

/** The server, as its clients see it. */
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

/** The number of events that are kept. */
const maxKept = 1000;

/** The programs of one server and their events. */
export class Journal {
  readonly #runtime: Pick<OwnProcess, "pid">;
  readonly #fleet: Fleet;
  readonly #identity: Identity;
  readonly #kept: Entry[] = [];
  /** The last failure with a stack of each program, which is kept even if many events follow. */
  readonly #stacks = new Map<string, Entry>();
  readonly #followers = new Set<(entry: Entry) => void>();

  constructor(runtime: Pick<OwnProcess, "pid">, fleet: Fleet, identity: Identity) {
    this.#runtime = runtime;
    this.#fleet = fleet;
    this.#identity = identity;
    fleet.subscribe((program, event) => this.#hear({ program, event }));
  }

  /** The name of the server. */
  get name(): string {
    return this.#identity.name;
  }

  /** The last 1,000 events. */
  get entries(): readonly Entry[] {
    return this.#kept;
  }

  /** Calls back for each event from now on; returns the cancellation. */
  follow(follower: (entry: Entry) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  #hear(entry: Entry): void {
    this.#kept.push(entry);
    const { program, event } = entry;
    if (event.type === "recovery" && event.evidence.stack) {
      this.#stacks.set(program, entry);
    }
    if (this.#kept.length > maxKept) {
      const oldest = this.#kept.findIndex((each) => this.#stacks.get(each.program) !== each);
      this.#kept.splice(oldest, 1);
    }
    for (const follower of this.#followers) follower(entry);
  }

  /** The present state. */
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
          memory: (status.pid !== null && host.memoryOf(status.pid)) || null,
          uptime: status.spawnedAt === null ? null : Date.now() - status.spawnedAt,
        };
      }),
    };
  }
}
