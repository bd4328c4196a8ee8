/** Compares the programs of a fleet with those of a configuration that was read again. */
import type { FleetProgram } from "./fleet_program.ts";

/** A text that an instance has in common with its successor in another configuration, and with no other instance. */
export function slotOf({ name, service = name, number = 1 }: FleetProgram): string {
  return `${service} ${number}`;
}

/** True if the processes of two programs have the same command line, environment and options. */
export function runsAlike(one: FleetProgram, another: FleetProgram): boolean {
  return isEqual(essence(one), essence(another));
}

/** The part of a program that cannot change while its process runs. */
function essence({ given, number, options }: FleetProgram): unknown {
  const { sockets: _, ...rest } = options;
  return { given, number, rest };
}

/** Compares two values by their content. Functions and objects of a class are equal only to themselves. */
function isEqual(one: unknown, another: unknown): boolean {
  if (Object.is(one, another)) return true;
  if (!isPlain(one) || !isPlain(another) || Array.isArray(one) !== Array.isArray(another)) {
    return false;
  }
  const keys = new Set([...Object.keys(one), ...Object.keys(another)]);
  return [...keys].every((key) => isEqual(one[key], another[key]));
}

function isPlain(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) return false;
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
}
