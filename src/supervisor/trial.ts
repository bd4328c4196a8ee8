/** The trial of a program that a reload of the configuration has added: it must become ready, and stay so for a while. */
import type { SupervisorEvent } from "../api/events.ts";
import type { Clock } from "../runtime/runtime.ts";
import { type FleetListener, hasFailed, isReady, type Member } from "./fleet_member.ts";
import { defaultMinReady } from "./replica.ts";
import { endingOf, endOf } from "./report.ts";

/** A trial that is going on. */
export interface Trial {
  /** Resolves to null when the program has proved itself or was stopped; or to the failure, in words that follow "it". */
  readonly failure: Promise<string | null>;
  end(): void;
}

/** Begins the trial of a member that is about to start. */
export function beginTrial(
  fleet: { subscribe(listener: FleetListener): () => void },
  clock: Clock,
  member: Member,
): Trial {
  const { name, minReady = defaultMinReady } = member.config;
  let cancelTimer: (() => void) | null = null;
  let settle!: (failure: string | null) => void;
  const failure = new Promise<string | null>((resolve) => settle = resolve);
  const over = (failure: string | null) => {
    end();
    settle(failure);
  };
  const hear = (event: SupervisorEvent) => {
    switch (event.type) {
      case "recovery":
        return over(endOf(event.reason, event.evidence));
      case "finish":
        return over(hasFailed(member) ? failureOf(event) : null);
      case "stopping":
      case "stopped":
        return over(null);
    }
    if (!isReady(member)) {
      cancelTimer?.();
      cancelTimer = null;
    } else cancelTimer ??= clock.schedule(() => over(null), minReady, true);
  };
  const unsubscribe = fleet.subscribe((each, event) => {
    if (each === name) hear(event);
  });
  const end = () => {
    unsubscribe();
    cancelTimer?.();
  };
  return { failure, end };
}

function failureOf({ status }: SupervisorEvent & { readonly type: "finish" }): string {
  const { error, code, signal } = status;
  return error?.message ?? endingOf(code, signal);
}
