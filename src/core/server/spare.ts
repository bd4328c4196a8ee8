/**
 * The spare: a second process that is started shortly after the instance, and parks in `register()` with its modules loaded
 * (with a preload: before it loads the program). Its failures do not count as failures of the program, and have a separate
 * backoff.
 */
import { type ClientMessage, protocolVersion } from "../wire.ts";
import { RestartPolicy } from "./restart_policy.ts";
import type {
  ServerEffect,
  ServerEvent,
  ServerSettings,
  SpareInput,
  SpareStatus,
} from "./types.ts";

type Hello = ClientMessage & { readonly type: "hello" };

/** Delay between `start()` and the start of a spare, in milliseconds: the spare must not compete with the new instance. */
const startDelayMs = 250;

/** A spare at the moment of its promotion. */
export interface Promoted {
  readonly pid: number;
  /** The message with which it registers; null if it has not called `register()` yet. */
  readonly hello: Hello | null;
}

/** The spare process of a program, if there is one. */
export class Spare {
  /** Time of the next tick; undefined if none is needed. */
  deadline: number | undefined;

  readonly #settings: ServerSettings;
  readonly #backoff: RestartPolicy;
  readonly #push: (effect: ServerEffect) => void;
  readonly #emit: (event: ServerEvent) => void;
  #state: SpareStatus["state"] | "none" = "none";
  /** True from the `start()` of an instance until the next instance begins or supervision ends. */
  #wanted = false;
  /** Earliest time for the start of a spare, after the backoff. */
  #earliest = -Infinity;
  /** True while a spare waits for permission to start. */
  #isAsking = false;
  #pid: number | null = null;
  #hello: Hello | null = null;
  #spawnedAt = 0;

  constructor(
    settings: ServerSettings,
    seed: number,
    push: (effect: ServerEffect) => void,
    emit: (event: ServerEvent) => void,
  ) {
    this.#settings = settings;
    this.#backoff = new RestartPolicy({ ...settings.restart, intensity: Infinity }, seed);
    this.#push = push;
    this.#emit = emit;
  }

  /** Status of the spare; null if there is none. */
  get status(): SpareStatus | null {
    return this.#state === "none" ? null : { state: this.#state, pid: this.#pid };
  }

  /** The instance has started: starts a spare soon, and replaces it if it fails. */
  scheduleSoon(now: number): void {
    if (this.#settings.standby === 0) return;
    this.#wanted = true;
    if (this.#state === "none") this.deadline ??= Math.max(now + startDelayMs, this.#earliest);
  }

  /** Starts a spare at once, before the first instance. */
  prepare(now: number): void {
    if (this.#state !== "none") return;
    this.deadline = now;
    this.tick(now);
  }

  /** Ends the spare, and starts no other. */
  end(): void {
    this.#wanted = false;
    this.deadline = undefined;
    if (this.#pid !== null) this.#report("ended");
    if (this.#state !== "none" && !this.#isAsking) this.#push({ type: "killSpare" });
    this.#forget();
  }

  /**
   * Makes the spare the next instance: forgets it, and returns its pid and hello. Returns undefined if there is no spare process.
   * No other spare starts before that instance calls `start()`.
   */
  promote(): Promoted | undefined {
    this.#wanted = false;
    this.deadline = undefined;
    // A spare that asks would compete with the instance, which needs permission too. One that was prepared for a reload, and has no
    // process yet, comes too late: the instance loads the new code itself.
    if (this.#isAsking || (this.#pid === null && this.#settings.standby === 0)) this.end();
    if (this.#pid === null) return undefined;
    const promoted = { pid: this.#pid, hello: this.#hello };
    this.#forget();
    return promoted;
  }

  /** Starts a spare if one is due. */
  tick(now: number): void {
    if (this.deadline === undefined || this.deadline > now) return;
    this.deadline = undefined;
    this.#state = "starting";
    this.#spawnedAt = now;
    this.#isAsking = this.#settings.asksBeforeStart ?? false;
    this.#push({ type: this.#isAsking ? "askToStartSpare" : "spawnSpare" });
  }

  /** Takes one input about the spare. */
  step(input: SpareInput, now: number): void {
    if (this.#state === "none") return; // a late input: the spare was ended or promoted
    // While the spare waits for permission, only the permission counts; afterwards, no permission counts. Any other input is
    // about an earlier spare.
    if (this.#isAsking !== (input.type === "allowStart")) return;
    switch (input.type) {
      case "allowStart":
        this.#isAsking = false;
        return this.#push({ type: "spawnSpare" });
      case "spawned":
        this.#pid = input.pid;
        return this.#report("starting");
      case "hello":
        if (input.message.version !== protocolVersion || this.#hello !== null) {
          return this.#fail(now);
        }
        this.#hello = input.message;
        this.#state = "parked";
        this.#push({ type: "sendSpare", message: { type: "parked", id: input.message.id } });
        return this.#report("parked");
      case "exit":
      case "linkEnd":
      case "spawnFailed":
        return this.#fail(now);
    }
  }

  /** The spare failed: the next one starts after the backoff. */
  #fail(now: number): void {
    this.#report("ended");
    this.#push({ type: "killSpare" });
    // A spare that parked was healthy from its start.
    const healthyMs = this.#hello === null ? 0 : now - this.#spawnedAt;
    this.#forget();
    // Unlike a failed instance, a failed spare is not urgent, so its replacement always waits a little.
    this.#earliest = now + startDelayMs +
      (this.#backoff.nextDelay(now - this.#spawnedAt, healthyMs) ?? 0);
    if (this.#wanted) this.deadline = this.#earliest;
  }

  #forget(): void {
    this.#state = "none";
    this.#isAsking = false;
    this.#pid = null;
    this.#hello = null;
  }

  #report(state: "starting" | "parked" | "ended"): void {
    this.#emit({ type: "spare", state, pid: this.#pid });
  }
}
