// The part of jsr:@std/assert that the tests use, on node:assert, with the same names and semantics.
// It stands in where jsr.io is out of reach; elsewhere `jsr:@std/assert@^1` resolves to the real one.
// @ts-self-types="./mod.d.ts"

import { AssertionError as NodeAssertionError, deepStrictEqual } from "node:assert";
import { inspect } from "node:util";

export class AssertionError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "AssertionError";
  }
}

const show = (value) => inspect(value, { depth: 6, breakLength: 80 });
const suffix = (msg) => msg ? `: ${msg}` : ".";

export function fail(msg) {
  throw new AssertionError(`Failed assertion${suffix(msg)}`);
}

export function assert(expr, msg = "") {
  if (!expr) throw new AssertionError(msg);
}

/** undefined when equal, else node:assert's description of the difference. */
function difference(actual, expected) {
  // std treats -0 and 0 as equal, node:assert does not.
  if (actual === expected) return undefined;
  try {
    deepStrictEqual(actual, expected);
    return undefined;
  } catch (error) {
    if (error instanceof NodeAssertionError) return error.message;
    throw error;
  }
}

export function assertEquals(actual, expected, msg) {
  const found = difference(actual, expected);
  if (found !== undefined) {
    throw new AssertionError(`Values are not equal${suffix(msg)}\n${found}`);
  }
}

export function assertNotEquals(actual, expected, msg) {
  if (difference(actual, expected) === undefined) {
    throw new AssertionError(
      `Expected actual: ${show(actual)} not to be: ${show(expected)}${suffix(msg)}`,
    );
  }
}

export function assertStrictEquals(actual, expected, msg) {
  if (!Object.is(actual, expected)) {
    throw new AssertionError(
      `Values are not strictly equal${suffix(msg)}\nactual: ${show(actual)}\nexpected: ${
        show(expected)
      }`,
    );
  }
}

export function assertExists(actual, msg) {
  if (actual === undefined || actual === null) {
    throw new AssertionError(
      `Expected actual: "${actual}" to not be null or undefined${suffix(msg)}`,
    );
  }
}

export function assertInstanceOf(actual, expectedType, msg = "") {
  if (actual instanceof expectedType) return;
  throw new AssertionError(
    msg || `Expected object to be an instance of "${expectedType.name}" but was ${show(actual)}`,
  );
}

export function assertMatch(actual, expected, msg) {
  if (!expected.test(actual)) {
    throw new AssertionError(
      `Expected actual: ${show(actual)} to match: ${expected}${suffix(msg)}`,
    );
  }
}

export function assertStringIncludes(actual, expected, msg) {
  if (!actual.includes(expected)) {
    throw new AssertionError(
      `Expected actual: ${show(actual)} to contain: ${show(expected)}${suffix(msg)}`,
    );
  }
}

function compare(holds, word, actual, expected, msg) {
  if (!holds) throw new AssertionError(msg ?? `Expect ${show(actual)} ${word} ${show(expected)}`);
}

export function assertGreater(actual, expected, msg) {
  compare(actual > expected, ">", actual, expected, msg);
}

export function assertGreaterOrEqual(actual, expected, msg) {
  compare(actual >= expected, ">=", actual, expected, msg);
}

export function assertLess(actual, expected, msg) {
  compare(actual < expected, "<", actual, expected, msg);
}

export function assertLessOrEqual(actual, expected, msg) {
  compare(actual <= expected, "<=", actual, expected, msg);
}

export function assertIsError(error, ErrorClass, msgMatches, msg) {
  if (!(error instanceof Error)) {
    throw new AssertionError(
      `Expected "error" to be an Error object${suffix(msg)} It was ${show(error)}`,
    );
  }
  if (ErrorClass && !(error instanceof ErrorClass)) {
    throw new AssertionError(
      `Expected error to be instance of "${ErrorClass.name}", but was "${error.constructor?.name}"${
        suffix(msg)
      }\n${error.stack}`,
    );
  }
  const matches = msgMatches === undefined ||
    (typeof msgMatches === "string"
      ? error.message.includes(msgMatches)
      : msgMatches.test(error.message));
  if (!matches) {
    throw new AssertionError(
      `Expected error message to include ${show(msgMatches)}, but got ${show(error.message)}${
        suffix(msg)
      }`,
    );
  }
}

/** (ErrorClass, msgIncludes, msg) or (msg): the two overloads of assertThrows and assertRejects. */
function expectation(errorClassOrMsg, msgIncludesOrMsg, msg) {
  if (typeof errorClassOrMsg === "string") return { msg: errorClassOrMsg };
  if (errorClassOrMsg === undefined) return { msg: msgIncludesOrMsg };
  return { ErrorClass: errorClassOrMsg, msgIncludes: msgIncludesOrMsg, msg };
}

function accept(error, { ErrorClass, msgIncludes, msg }) {
  if (ErrorClass) assertIsError(error, ErrorClass, msgIncludes, msg);
  return error;
}

export function assertThrows(fn, errorClassOrMsg, msgIncludesOrMsg, msg) {
  const expected = expectation(errorClassOrMsg, msgIncludesOrMsg, msg);
  try {
    fn();
  } catch (error) {
    return accept(error, expected);
  }
  throw new AssertionError(`Expected function to throw${suffix(expected.msg)}`);
}

export async function assertRejects(fn, errorClassOrMsg, msgIncludesOrMsg, msg) {
  const expected = expectation(errorClassOrMsg, msgIncludesOrMsg, msg);
  let promise;
  try {
    promise = fn();
  } catch {
    throw new AssertionError(`Function throws when expected to reject${suffix(expected.msg)}`);
  }
  if (typeof promise?.then !== "function") {
    throw new AssertionError(`Expected function to return a promise${suffix(expected.msg)}`);
  }
  try {
    await promise;
  } catch (error) {
    return accept(error, expected);
  }
  throw new AssertionError(`Expected function to reject${suffix(expected.msg)}`);
}
