// One `test()` for three runners: Deno.test with its leak sanitizers on Deno, node:test on Node and Bun. (On Deno,
// node:test would let a throw in a timer pass.) Tests are flat and clean up after themselves, without hooks.

import { currentRuntime, newest, type RuntimeName, runtimeNames } from "./runtimes.ts";

export interface TestOptions {
  /** Time limit of the whole test, in milliseconds. Default 60,000. */
  timeoutMs?: number;
  /** True, or a reason, to count the test as skipped instead of running it. */
  skip?: boolean | string;
  /**
   * The legs that run the test when SAM_TEST_SHORT is set, because its result does not depend on the runtime or its
   * version.
   */
  leg?: RuntimeName | readonly RuntimeName[];
}

/** True if legs run only some tests: see `leg`. */
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

/** Legs of a test that names none: the newest of each runtime, and one of the older versions of Node in turn. */
function usualLegs(name: string): readonly RuntimeName[] {
  const older = runtimeNames.filter((leg) => !newest.includes(leg));
  return [...newest, older[name.length % older.length]!];
}

/** Deno.test has no time limit, and those of node:test and Bun differ, so the harness has its own. */
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
