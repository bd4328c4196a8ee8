/** The programs of a fleet as the user describes them: their dependencies, their order, and their instances side by side. */
import { SamError } from "../errors.ts";
import type { CheckedProgram, Program } from "../api/program.ts";
import type { CheckedSuperviseOptions } from "../api/supervise_options.ts";
import type { ReplacementLimits } from "../core/server/replacements.ts";
import type { HeldSockets } from "./held_sockets.ts";

/**
 * The programs that restart when one fails: only that one (`one_for_one`), all (`one_for_all`), or that one and those that
 * start after it (`rest_for_one`).
 */
export type Strategy = "one_for_one" | "one_for_all" | "rest_for_one";

/** All strategies. */
export const strategies: readonly Strategy[] = ["one_for_one", "one_for_all", "rest_for_one"];

/** A program of a fleet, or one of the instances that a program runs side by side. */
export interface FleetProgram {
  readonly name: string;
  /** The name of the program, if this is one of its instances side by side: `web` for `web.1`. */
  readonly service?: string;
  /** The number of the instance side by side, from 1. Left out for a program without the option `instances`. */
  readonly number?: number;
  /** The number of instances that the program runs side by side. Default: one, which has the name of the program. */
  readonly instances?: number | undefined;
  /** Time for which a replacement must stay ready before it takes over, in milliseconds. Default 1,000. */
  readonly minReady?: number | undefined;
  /** The limits of memory and age at which an instance is replaced. Default none. */
  readonly limits?: ReplacementLimits | undefined;
  readonly program: CheckedProgram;
  /** The description from which `program` was made. A reload of the configuration compares it. */
  readonly given?: Program;
  readonly options: CheckedSuperviseOptions;
  /** The listening sockets of all instances of the program. They are closed when no instance is left. */
  readonly held?: HeldSockets | undefined;
  /** The names of the programs that must be ready before it is started. */
  readonly after: readonly string[];
  /** Advice for the user, if a known wrapper keeps SAM from watching the event loop: `leave out --watch`. */
  readonly advice?: string | undefined;
}

/** Sorts programs: dependencies first, otherwise as given. Throws INVALID_PARAM for a circular or an unknown dependency. */
export function sortByDependencies(programs: readonly FleetProgram[]): readonly FleetProgram[] {
  const ordered = new Set<FleetProgram>();
  const visit = (program: FleetProgram, above: readonly string[]) => {
    if (ordered.has(program)) return;
    const path = [...above, program.name];
    if (above.includes(program.name)) {
      throw new SamError(
        "INVALID_PARAM",
        `programs.${program.name}.after is circular (${
          path.join(" after ")
        }): remove one of these dependencies`,
      );
    }
    for (const name of program.after) {
      const other = programs.find((each) => each.name === name);
      if (other === undefined) {
        throw new SamError(
          "INVALID_PARAM",
          `programs.${program.name}.after names "${name}", which is not a program: use ${
            programs.map((each) => each.name).join(", ")
          }`,
        );
      }
      visit(other, path);
    }
    ordered.add(program);
  };
  for (const program of programs) visit(program, []);
  return [...ordered];
}

/** The variable in the environment of an instance that has its number side by side: 1, 2, … */
const numberVariable = "SAM_INSTANCE";

/** Replaces each program that has the option `instances` by its instances: `web.1`, `web.2` … for `web`. */
export function expandInstances(programs: readonly FleetProgram[]): readonly FleetProgram[] {
  return programs.flatMap((each): readonly FleetProgram[] => {
    const { name, instances, program } = each;
    if (instances === undefined) return [each];
    return Array.from({ length: instances }, (_, at) => ({
      ...each,
      number: at + 1,
      ...(instances > 1 && { name: `${name}.${at + 1}`, service: name }),
      program: {
        ...program,
        async command(...given: Parameters<CheckedProgram["command"]>) {
          const command = await program.command(...given);
          return { ...command, env: { ...command.env, [numberVariable]: String(at + 1) } };
        },
      },
    }));
  });
}
