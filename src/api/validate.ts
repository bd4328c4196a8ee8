/**
 * Checks of the values that a user passes. Each check takes the name by which the user knows the value: an option, a flag or a
 * key of a file. It throws INVALID_PARAM with that name, the value, and the allowed values.
 */
import { SamError } from "../errors.ts";
import { isSignal, type Signal } from "../core/signals.ts";
import type { Stdio } from "../runtime/runtime.ts";

/** Returns the name by which the user knows a part of an object, for example `restart.period`. */
export type NameOf = (key: string) => string;

/** Checks one value, and returns it with all defaults filled in. `nameOf` returns the names of its parts. */
export type Check<T> = (name: string, value: unknown, nameOf: NameOf) => T;

/** The rules of an object: for each key its check, and its default. */
export type Rules<T> = {
  readonly [Key in keyof T]-?: readonly [check: Check<T[Key]>, defaultValue?: T[Key]];
};

const maxInteger = 2 ** 31 - 1;

/** Checks an object by the rules of its keys, and fills in the defaults. */
export function checkParts<T>(
  name: string,
  value: unknown,
  rules: Rules<T>,
  nameOf: NameOf,
  defaults: Partial<T> = {},
): T {
  const given = checkObject(name, value, Object.keys(rules));
  const checked: Partial<T> = {};
  for (const key of Object.keys(rules) as (keyof T & string)[]) {
    const [check, defaultValue] = rules[key];
    checked[key] = check(
      nameOf(key),
      withDefault(given[key], withDefault(defaults[key], defaultValue)),
      nameOf,
    );
  }
  return checked as T;
}

/** Returns the given value, also null. Returns `defaultValue` for undefined only. */
export function withDefault(given: unknown, defaultValue: unknown): unknown {
  return given === undefined ? defaultValue : given;
}

/** Checks that `value` is an object with no other keys than `keys`. */
export function checkObject(
  name: string,
  value: unknown,
  keys: readonly string[],
): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(name, value, "an object");
  }
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) {
      throw new SamError(
        "INVALID_PARAM",
        `${name} has the unknown key "${key}"; the known keys are ${keys.join(", ")}`,
      );
    }
  }
  return value as Readonly<Record<string, unknown>>;
}

/** Checks that `value` has some methods. `also` is the start of the allowed values in the message, such as `"true, false, or "`. */
export function checkMethods(
  name: string,
  value: unknown,
  methods: readonly string[],
  also = "",
): object {
  const given = value as Readonly<Record<string, unknown>> | null;
  if (
    typeof value === "object" && methods.every((method) => typeof given?.[method] === "function")
  ) return value as object;
  const needed = methods.map((method) => `${method}()`).join(" and ");
  throw invalid(name, value, `${also}an object with ${needed}`);
}

/** Checks a signal name. */
export function checkSignal(name: string, value: unknown): Signal {
  if (isSignal(value)) return value;
  throw invalid(name, value, 'a signal name in capitals, for example "SIGTERM"');
}

/** Checks that `value` is one of `allowed`. */
export function oneOf<const T>(name: string, value: unknown, allowed: readonly T[]): T {
  if ((allowed as readonly unknown[]).includes(value)) return value as T;
  throw invalid(name, value, `one of ${allowed.map((each) => JSON.stringify(each)).join(", ")}`);
}

/** Returns a check for one of `allowed`. */
export function among<const T>(...allowed: readonly T[]): Check<T> {
  return (name, value) => oneOf(name, value, allowed);
}

/** Checks that `value` is an integer of at least `least`. */
export function integerFrom(
  least: number,
  name: string,
  value: unknown,
  unit = "milliseconds",
): number {
  const isRight = typeof value === "number" && Number.isInteger(value) && value >= least &&
    value <= maxInteger;
  if (isRight) return value;
  throw invalid(name, value, `an integer from ${least} to ${maxInteger} (${unit})`);
}

/** Returns a check for an integer of at least `least`. */
export function integer(unit: string, least = 0): Check<number> {
  return (name, value) => integerFrom(least, name, value, unit);
}

/** Checks that `value` is a non-empty string without NUL characters. */
export function checkText(name: string, value: unknown): string {
  if (typeof value === "string" && value !== "" && !value.includes("\0")) return value;
  throw invalid(name, value, "a non-empty string without NUL characters");
}

/** Checks that `value` is an array of strings without NUL characters. */
export function checkTexts(name: string, value: unknown): readonly string[] {
  if (!Array.isArray(value)) throw invalid(name, value, "an array of strings");
  return value.map((each, at) => {
    if (typeof each === "string" && !each.includes("\0")) return each;
    throw invalid(`${name}[${at}]`, each, "a string without NUL characters");
  });
}

/** Checks that `value` is an object of strings without NUL characters. Its keys may be neither empty nor contain `=` or NUL. */
export function checkVariables(
  name: string,
  value: unknown,
): Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(name, value, "an object with string values");
  }
  for (const [variable, each] of Object.entries(value)) {
    if (variable === "" || /[=\0]/.test(variable)) {
      throw invalid(name, variable, 'an object with keys that contain no "=" and no NUL character');
    }
    if (typeof each !== "string" || each.includes("\0")) {
      throw invalid(`${name}.${variable}`, each, "a string without NUL characters");
    }
  }
  return value as Readonly<Record<string, string>>;
}

/** Returns the INVALID_PARAM for a wrong value. `allowed` describes the right ones. */
export function invalid(name: string, value: unknown, allowed: string): SamError {
  return new SamError("INVALID_PARAM", `${name} is ${describe(value)}; it must be ${allowed}`);
}

function describe(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}\u2026` : value);
  }
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) {
    return Array.isArray(value)
      ? "an array"
      : `an object (${value.constructor?.name ?? "without a prototype"})`;
  }
  return String(value);
}

/** True if the buffer of `bytes` was transferred, for example to a worker. */
function isDetached(bytes: Uint8Array): boolean {
  try {
    new Uint8Array(bytes.buffer, 0, 0);
    return false;
  } catch {
    return true;
  }
}

/** Describes a value that the program has thrown. */
export function describeThrown(error: unknown): string {
  try {
    return error instanceof Error ? error.stack ?? error.message : String(error);
  } catch {
    return "a value that cannot be converted to text";
  }
}

/** Checks the option `stdio` of a program: one value for all three streams, or an array of three. */
export function checkStdio(value: unknown): readonly [Stdio, Stdio, Stdio] {
  const [forInput, forOutput] = [["inherit", "ignore"], ["inherit", "ignore", "tee"]] as const;
  if (!Array.isArray(value)) {
    const all = oneOf("program.stdio", value, forOutput);
    return [all === "tee" ? "inherit" : all, all, all];
  }
  if (value.length !== 3) {
    throw invalid(
      "program.stdio",
      value,
      '"inherit", "ignore", "tee", or an array of three of these',
    );
  }
  const [input, output, error] = value;
  return [
    oneOf("program.stdio[0]", input, forInput),
    oneOf("program.stdio[1]", output, forOutput),
    oneOf("program.stdio[2]", error, forOutput),
  ];
}

/** Checks the option `signal` of `start()`. */
export function checkAbortSignal(options: unknown): AbortSignal | undefined {
  const signal = checkObject("options", options, ["signal"])["signal"] as Partial<AbortSignal>;
  if (
    signal === undefined ||
    (typeof signal?.aborted === "boolean" && typeof signal.addEventListener === "function")
  ) return signal as AbortSignal | undefined;
  throw invalid("options.signal", signal, "an AbortSignal");
}

/** Checks bytes to store. Null stands for no bytes. */
export function checkBytes(name: string, bytes: Uint8Array | null): Uint8Array {
  if (bytes !== null && !(bytes instanceof Uint8Array)) {
    throw invalid(name, bytes, "a Uint8Array, or null");
  }
  if (bytes !== null && isDetached(bytes)) {
    throw invalid(name, bytes, "a Uint8Array that is not detached");
  }
  return bytes ?? new Uint8Array(0);
}
