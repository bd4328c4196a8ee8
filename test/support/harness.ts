// One `test()` for three runners: Deno.test with its leak sanitizers on Deno, node:test on Node and Bun.
// (node:test on Deno would let a throw in a timer pass.) Tests are flat and own their cleanup; no hooks.

import { currentRuntime, newest, type RuntimeName, runtimeNames } from "./runtimes.ts";

export interface TestOptions {
  /** Limit for the whole test, in milliseconds. Default: 60 000. */
  timeoutMs?: number;
  /** Do not run the test; it is counted as skipped. A string says why. */
  skip?: boolean | string;
  /** With SAM_TEST_SHORT set, it runs only there: what it shows does not depend on the runtime, or not on its version. */
  leg?: RuntimeName | readonly RuntimeName[];
}

/** Not all is run: see `leg`. */
export const short: boolean = process.env["SAM_TEST_SHORT"] !== undefined;

type TestBody = () => void | Promise<void>;

interface DenoTest {
  test(definition: {
    name: string;
    fn: TestBody;
    ignore: boolean;
    sanitizeOps: true;
    sanitizeResources: true;
    sanitizeExit: true;
  }): void;
}

const deno = (globalThis as { Deno?: DenoTest }).Deno;
const nodeTest = deno === undefined ? (await import("node:test")).test : undefined;

/** Registers a test with the runner of the current runtime. */
export function test(name: string, fn: TestBody, options: TestOptions = {}): void {
  const { timeoutMs = 60_000, leg = usualLegs(name) } = options;
  const isElsewhere = short && ![leg].flat().includes(currentRuntime);
  const skip = isElsewhere ? `in the short form it runs on ${leg} only` : options.skip ?? false;
  const body = (): Promise<void> => within(timeoutMs, name, fn);
  if (deno !== undefined) {
    const sanitizers = { sanitizeOps: true, sanitizeResources: true, sanitizeExit: true } as const;
    deno.test({ name, fn: body, ignore: skip !== false, ...sanitizers });
  } else {
    void nodeTest?.(name, { skip }, body);
  }
}

/** The newest of each runtime; the older versions of Node share the tests. */
function usualLegs(name: string): readonly RuntimeName[] {
  const older = runtimeNames.filter((leg) => !newest.includes(leg));
  return [...newest, older[name.length % older.length]!];
}

/** The limit is ours: Deno.test has none, and node:test and Bun differ in theirs. */
async function within(timeoutMs: number, name: string, fn: TestBody): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`"${name}" is not done after ${timeoutMs} ms`);
    timer = setTimeout(() => reject(error), timeoutMs);
  });
  try {
    await Promise.race([fn(), late]);
  } finally {
    clearTimeout(timer);
  }
}
