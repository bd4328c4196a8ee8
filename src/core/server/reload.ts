/**
 * The reload of one program: the state machine that decides when a replacement takes over from the running instance. It takes
 * inputs, returns effects, and gets the time as an argument, as machine.ts does.
 *
 * Theory of operation. There are three ways:
 *
 * - Side by side: a replacement starts beside the old instance. When it is ready, and has stayed so for `minReady`, it takes
 *   over, and only then is the old instance stopped. If anything goes wrong before that, the replacement is ended, and the old
 *   instance stays.
 * - By a spare, for a program that must not run twice: a spare loads the new code and parks. Then the old instance is stopped,
 *   and the spare becomes the next instance. Only a failure before that leaves the old instance in place.
 * - By a restart, for a program that can do neither: the old instance is stopped, and the next one starts.
 *
 * Replica in src/supervisor carries out the effects.
 */
import type { Evidence, RecoveryReason } from "./types.ts";

/** The way in which a new process replaces the old instance. */
export type ReloadWay = "side by side" | "spare" | "restart";

/** The settings of a reload. */
export interface ReloadSettings {
  readonly way: ReloadWay;
  /** Time for which the new instance must stay ready, in milliseconds. */
  readonly minReady: number;
  /** Time limit for a spare to park, in milliseconds; 0: no limit. The replacement has the startup timeout of an instance. */
  readonly startupTimeout: number;
}

/** The reason why a reload failed. */
export interface ReloadFailure {
  /** Description for people, which continues the sentence "the replacement …". */
  readonly detail: string;
  /** The reason, as that of a recovery. Left out if the reload was canceled, or if the replacement ended without a failure. */
  readonly reason?: RecoveryReason;
  /** Everything that is known about the failure. */
  readonly evidence?: Evidence;
}

/** An input of a reload. The new process is the replacement or the spare; after `replaced`, it is the instance. */
export type ReloadInput =
  | { readonly type: "begin" }
  /** The spare is parked in `register()`. */
  | { readonly type: "parked" }
  /** The new process is ready. */
  | { readonly type: "ready" }
  /** A check of the new process failed after it was ready. */
  | { readonly type: "checkFailed"; readonly detail: string }
  /** The new process failed and is being ended, or has exited. `failed` follows with the evidence, or `ended`. */
  | { readonly type: "failing" }
  /** The new process failed. */
  | { readonly type: "failed"; readonly failure: ReloadFailure }
  /** Nothing is left of the new process. */
  | { readonly type: "ended"; readonly detail: string }
  /** The old instance has ended. Unless side by side, the new process is the instance now. */
  | { readonly type: "replaced" }
  /** The program is being stopped or restarted. */
  | { readonly type: "cancel"; readonly detail: string }
  | { readonly type: "tick" };

/** An effect of a reload. */
export type ReloadEffect =
  | { readonly type: "startReplacement" }
  | { readonly type: "prepareSpare" }
  /** The replacement is the instance from now on. */
  | { readonly type: "takeOver" }
  /** Stop the old instance. By a spare: promote the spare after that. By a restart: start the next instance. */
  | { readonly type: "endOld" }
  /** End the replacement or the spare. */
  | { readonly type: "endReplacement" }
  /** The reload is over. `failure` is null if it succeeded. */
  | { readonly type: "settle"; readonly failure: ReloadFailure | null };

/**
 * The state of a reload.
 *
 * - `idle`: the reload has not begun.
 * - `starting`: the replacement starts, or the spare loads the new code.
 * - `exchanging`: the old instance is being ended. Then the spare becomes the instance, or the next one starts.
 * - `awaiting`: the new process is the instance, and is not ready yet, or has failed.
 * - `proving`: the new process is ready, and must stay so.
 * - `failing`: the replacement failed, and its evidence is being collected.
 * - `ending`: the replacement is being ended.
 * - `retiring`: the replacement has taken over, and the old instance is being stopped.
 * - `over`: the reload has succeeded or failed.
 */
export type ReloadState =
  | "idle"
  | "starting"
  | "exchanging"
  | "awaiting"
  | "proving"
  | "failing"
  | "ending"
  | "retiring"
  | "over";

/** One reload of one program. */
export class Reload {
  readonly #settings: ReloadSettings;
  #state: ReloadState = "idle";
  #deadline: number | undefined;
  #failure: ReloadFailure | null = null;
  /** True once the old instance cannot stay any more. */
  #isCommitted = false;
  #effects: ReloadEffect[] = [];

  constructor(settings: ReloadSettings) {
    this.#settings = settings;
  }

  get state(): ReloadState {
    return this.#state;
  }

  /** Time of the next tick, on the clock of `now`; undefined if none is needed. */
  get deadline(): number | undefined {
    return this.#deadline;
  }

  /** True once the old instance cannot stay any more. */
  get isCommitted(): boolean {
    return this.#isCommitted;
  }

  /** Takes one input, and returns the effects in their order. */
  step(input: ReloadInput, now: number): readonly ReloadEffect[] {
    switch (input.type) {
      case "begin":
        if (this.#state === "idle") this.#begin(now);
        break;
      case "parked":
        if (this.#state === "starting" && this.#settings.way === "spare") this.#exchange();
        break;
      case "ready":
        this.#noteReady(now);
        break;
      case "checkFailed":
        if (this.#state === "proving") this.#fail(unhealthy(input.detail));
        break;
      case "failing":
        if (this.#isOnTrial) this.#enter("failing");
        else if (this.#state === "proving") this.#enter("awaiting");
        break;
      case "failed":
        this.#fail(input.failure);
        break;
      case "ended":
        this.#noteEnd(input.detail);
        break;
      case "replaced":
        this.#noteReplaced();
        break;
      case "cancel":
        if (this.#isOnTrial || !this.#isSideBySide) this.#fail({ detail: input.detail });
        break;
      case "tick":
        if (this.#deadline !== undefined && now >= this.#deadline) this.#passDeadline();
    }
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  /** True while the outcome is open, and the old instance would stay if the new process failed. */
  get #isOnTrial(): boolean {
    return !this.#isCommitted && ["starting", "proving", "failing"].includes(this.#state);
  }

  get #isSideBySide(): boolean {
    return this.#settings.way === "side by side";
  }

  #enter(state: ReloadState, deadline?: number): void {
    this.#state = state;
    this.#deadline = deadline;
  }

  #begin(now: number): void {
    const { way, startupTimeout } = this.#settings;
    if (way === "restart") return this.#exchange();
    this.#effects.push({ type: way === "spare" ? "prepareSpare" : "startReplacement" });
    // A replacement has deadlines of its own. A spare has none until it becomes the instance.
    const isLimited = way === "spare" && startupTimeout > 0;
    this.#enter("starting", isLimited ? now + startupTimeout : undefined);
  }

  #exchange(): void {
    this.#isCommitted = true;
    this.#enter("exchanging");
    this.#effects.push({ type: "endOld" });
  }

  #noteReady(now: number): void {
    const isStarted = this.#state === "starting" && this.#isSideBySide;
    if (!isStarted && this.#state !== "awaiting") return;
    this.#enter("proving", now + this.#settings.minReady);
    if (this.#settings.minReady === 0) this.#passDeadline();
  }

  #passDeadline(): void {
    if (this.#state === "starting") {
      const limit = this.#settings.startupTimeout;
      return this.#fail({
        reason: "startup",
        detail: `did not call register() within ${limit} ms`,
      });
    }
    if (this.#isCommitted) return this.#settle();
    this.#isCommitted = true;
    this.#enter("retiring");
    this.#effects.push({ type: "takeOver" }, { type: "endOld" });
  }

  #fail(failure: ReloadFailure): void {
    if (this.#isOnTrial) {
      this.#failure ??= failure;
      this.#enter("ending");
      this.#effects.push({ type: "endReplacement" });
    } else if (["exchanging", "awaiting", "proving"].includes(this.#state)) {
      // The old instance is gone. The new one is recovered as after any failure.
      this.#failure = failure;
      this.#settle();
    }
  }

  #noteEnd(detail: string): void {
    if (this.#state !== "ending" && !this.#isOnTrial) return;
    this.#failure ??= { detail };
    this.#settle();
  }

  #noteReplaced(): void {
    if (this.#state === "exchanging") this.#enter("awaiting");
    else if (this.#state === "retiring") this.#settle();
  }

  #settle(): void {
    this.#enter("over");
    this.#effects.push({ type: "settle", failure: this.#failure });
  }
}

function unhealthy(detail: string): ReloadFailure {
  return { reason: "unhealthy", detail: `failed its health check: ${detail}` };
}
