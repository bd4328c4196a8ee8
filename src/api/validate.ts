/**
 * The checks of what a user passes. Each takes the name under which the user knows the value (an option, a flag, a key of a
 * file), and throws an INVALID_PARAM that says that name, the value, and what the value may be.
 */
import { SamError } from "../errors.ts";
import { isSignal, type Signal } from "../core/signals.ts";

/** The name under which the user knows a part of an object, like `restart.period`. */
export type NameOf = (key: string) => string;

/** Checks one value. `nameOf` names the parts of a value that has parts. */
export type Check<T> = (name: string, value: unknown, nameOf: NameOf) => T;

/** For each key of an object its check, and the value that holds where there is none. */
export type Rules<T> = {
  readonly [Key in keyof T]-?: readonly [check: Check<T[Key]>, otherwise?: T[Key]];
};

const maxInteger = 2 ** 31 - 1;

/** Checks an object by the rules of its keys, and completes it. */
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
    const [check, otherwise] = rules[key];
    checked[key] = check(
      nameOf(key),
      orDefault(given[key], orDefault(defaults[key], otherwise)),
      nameOf,
    );
  }
  return checked as T;
}

/** The given value, null included; `otherwise` only for undefined. */
export function orDefault(given: unknown, otherwise: unknown): unknown {
  return given === undefined ? otherwise : given;
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
        `${name} has no "${key}"; it may have ${keys.join(", ")}`,
      );
    }
  }
  return value as Readonly<Record<string, unknown>>;
}

/** Checks that `value` has some methods. `also` says what else the value may be. */
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

/** Checks the name of a signal. */
export function checkSignal(name: string, value: unknown): Signal {
  if (isSignal(value)) return value;
  throw invalid(name, value, 'the name of a signal, in capitals, like "SIGTERM"');
}

/** Checks that `value` is one of `allowed`. */
export function oneOf<const T>(name: string, value: unknown, allowed: readonly T[]): T {
  if ((allowed as readonly unknown[]).includes(value)) return value as T;
  throw invalid(name, value, `one of ${allowed.map((each) => JSON.stringify(each)).join(", ")}`);
}

/** The check that a value is one of `allowed`. */
export function among<const T>(...allowed: readonly T[]): Check<T> {
  return (name, value) => oneOf(name, value, allowed);
}

/** Checks that `value` is an integer from `least` on. */
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

/** The check that a value is an integer from `least` on. */
export function integer(unit: string, least = 0): Check<number> {
  return (name, value) => integerFrom(least, name, value, unit);
}

/** Checks that `value` is a text that is not empty. */
export function checkText(name: string, value: unknown): string {
  if (typeof value === "string" && value !== "" && !value.includes("\0")) return value;
  throw invalid(name, value, "a text that is not empty and has no NUL");
}

/** Checks that `value` is an array of texts. */
export function checkTexts(name: string, value: unknown): readonly string[] {
  if (!Array.isArray(value)) throw invalid(name, value, "an array of texts");
  return value.map((each, at) => {
    if (typeof each === "string" && !each.includes("\0")) return each;
    throw invalid(`${name}[${at}]`, each, "a text without NUL");
  });
}

/** Checks environment variables. */
export function checkVariables(
  name: string,
  value: unknown,
): Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(name, value, "an object of texts");
  }
  for (const [variable, each] of Object.entries(value)) {
    if (variable === "" || /[=\0]/.test(variable)) {
      throw invalid(name, variable, "an object whose names have no = and no NUL");
    }
    if (typeof each !== "string" || each.includes("\0")) {
      throw invalid(`${name}.${variable}`, each, "a text without NUL");
    }
  }
  return value as Readonly<Record<string, string>>;
}

/** An INVALID_PARAM that says what is wrong, its value, and what it may be. */
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
      : `an object (${value.constructor?.name ?? "no prototype"})`;
  }
  return String(value);
}
