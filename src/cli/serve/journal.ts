/** What a `sam run` knows of its programs: how they are, and what has happened. Asked over the control socket and HTTP. */
import type { SupervisorEvent } from "../../api/events.ts";
import type { Fleet, Strategy } from "../../supervisor/fleet.ts";
import * as host from "../host/host.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { ServerStatus } from "../control/status.ts";

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
  /** The last failure with a stack of each program: it is kept however many events follow. */
  readonly #stacks = new Map<string, Entry>();
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

  /** How things are now. */
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
