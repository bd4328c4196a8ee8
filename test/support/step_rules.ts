// The rules that every step of the server's core follows, in every state.

import { fail } from "node:assert/strict";
import type { Server } from "../../src/core/server/machine.ts";
import { table } from "../../src/core/server/transitions.ts";
import type { ServerEffect, ServerInput } from "../../src/core/server/types.ts";

const answers: readonly string[] = ["done", "chunk", "refused", "welcome"];

/** A server whose steps are checked. */
export class StepRules {
  readonly #server: Server;
  readonly #step: Server["step"];
  #process: "none" | "spawning" | "alive" | "exited" = "none";
  #spare: "none" | "due" | "spawning" | "alive" = "none";
  #finished = false;

  constructor(server: Server) {
    this.#server = server;
    this.#step = server.step.bind(server);
  }

  /** Makes one step, and throws when it breaks a rule. */
  step(input: ServerInput, now: number): readonly ServerEffect[] {
    if (input.type === "spawned" && this.#process === "spawning") this.#process = "alive";
    const ended = input.type === "exit" || input.type === "unkillable";
    if (ended && this.#process === "alive") this.#process = "exited";
    if (input.type === "spare" && input.input.type === "spawned" && this.#spare === "spawning") {
      this.#spare = "alive";
    }
    const before = this.#server.state;
    const effects = this.#step(input, now);
    this.#check(input, before, effects, now);
    return effects;
  }

  #check(input: ServerInput, before: string, effects: readonly ServerEffect[], now: number): void {
    const { state, spare, deadline } = this.#server;
    const must = (holds: boolean, what: string) => {
      if (holds) return;
      const [from, to] = [input, effects].map((value) => JSON.stringify(value, bigint));
      fail(`${what}: ${before} + ${from} → ${state} ${to}`);
    };
    must(state in table, "a state without a name");
    for (const effect of effects) {
      must(!this.#finished, "an effect after the finish");
      switch (effect.type) {
        case "spawn":
          must(this.#process === "none", "a second process");
          this.#process = "spawning";
          break;
        case "promote":
          must(this.#process === "none", "promoted beside a process");
          must(this.#spare === "alive", "promoted what is not there");
          this.#process = "alive";
          this.#spare = "none";
          break;
        case "askToStartSpare":
          must(this.#spare === "none", "a second spare is due");
          this.#spare = "due";
          break;
        case "spawnSpare":
          must(this.#spare === "none" || this.#spare === "due", "a second spare");
          this.#spare = "spawning";
          break;
        case "killSpare":
          must(this.#spare === "spawning" || this.#spare === "alive", "no spare to kill");
          this.#spare = "none";
          break;
        case "sendSpare":
          must(this.#spare === "alive", "no spare to send to");
          break;
        case "signal":
          must(this.#process === "alive", "a signal without a process");
          break;
        case "send":
          must(["alive", "exited"].includes(this.#process), "nobody to send to");
          break;
        case "cleanUp":
          must(["exited", "spawning"].includes(this.#process), "buried alive");
          this.#process = "none";
          break;
        case "finish":
          must(this.#process === "none", "finished before the end");
          must(this.#spare === "none" || this.#spare === "due", "finished beside a spare");
          this.#finished = true;
      }
    }
    must(this.#finished === (state === "finished"), "finish and finished");
    must(!this.#finished || deadline === undefined, "a deadline after the finish");
    if (this.#spare === "due" && spare === null) this.#spare = "none"; // the spare is no longer wanted
    must((spare === null) === (this.#spare === "none"), "a spare, and none in the status");
    must(this.#spare !== "alive" || spare?.pid !== null, "a spare without its process id");
    if (input.type !== "message" || !("id" in input.message)) return;
    if (this.#process === "none" || this.#process === "spawning") return;
    const { id, type } = input.message;
    const replies = effects.flatMap((effect) =>
      effect.type === "send" && "id" in effect.message && effect.message.id === id
        ? [effect.message]
        : []
    );
    const waitsForMap = type === "hello" && replies.length === 0 &&
      effects.some((effect) => effect.type === "map");
    must(!waitsForMap || deadline! <= now + 1000, "a welcome that waits without a limit");
    const later = waitsForMap ||
      (type === "start" && before === "registered" && state === "waiting");
    must(replies.length === (later ? 0 : 1), "one answer per request");
    must(replies.every((reply) => answers.includes(reply.type)), "an answer");
  }
}

function bigint(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}n` : value;
}
