// Judges a soak: memory must stay flat, and no descriptor may be left.

import type { RuntimeName } from "./runtimes.ts";

/** The report that test/fixtures/faults/soak.ts prints. */
export interface Soak {
  readonly seconds: number;
  readonly early: {
    readonly heap: number;
    readonly rss: number;
    readonly descriptors: number;
    // Only of a soak of reloads:
    readonly processes?: number;
    readonly timers?: number;
    readonly listeners?: number;
  };
  readonly late: Soak["early"];
}

/** A heap after the same work differs by what the engine has compiled and cached meanwhile. */
const heapSlack = 4 * 2 ** 20;
/** The resident memory of a collected heap depends on the allocator. */
const rssSlack = 64 * 2 ** 20;

/** A pair of sockets that Deno opens once, some time after its start. */
const descriptorSlack = 2;

/** Whatever has grown between a tenth of a soak and its end. */
export function growth({ early, late }: Soak): string[] {
  const grown = (what: keyof Soak["early"], slack = 0) => {
    const [from = 0, to = 0] = [early[what], late[what]];
    return to - from > slack ? [`${what}: ${from} → ${to}`] : [];
  };
  return [
    ...grown("heap", heapSlack),
    ...grown("rss", rssSlack),
    ...grown("descriptors", descriptorSlack),
    ...grown("processes"),
    ...grown("timers"),
    ...grown("listeners"),
  ];
}

/** Flags that let a runtime collect its garbage on demand. */
export function soakFlags(runtime: RuntimeName): string[] {
  if (runtime === "deno") return ["run", "-A", "--no-config", "--v8-flags=--expose-gc"];
  return runtime === "bun" ? [] : ["--expose-gc"];
}
