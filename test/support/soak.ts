// What a soak may leave: flat memory, no descriptor.

import type { RuntimeName } from "./runtimes.ts";

/** What test/fixtures/faults/soak.ts says. */
export interface Soak {
  readonly seconds: number;
  readonly early: { readonly heap: number; readonly rss: number; readonly descriptors: number };
  readonly late: Soak["early"];
}

/** A heap after the same work differs by what the engine has compiled and cached meanwhile. */
const heapSlack = 4 * 2 ** 20;
/** The resident memory of a collected heap is a matter of its allocator. */
const rssSlack = 64 * 2 ** 20;

/** A pair of sockets, which Deno opens once, some time after its start. */
const descriptorSlack = 2;

/** What has grown between a tenth of a soak and its end. */
export function growth({ early, late }: Soak): string[] {
  const grown = (what: "heap" | "rss" | "descriptors", slack: number) =>
    late[what] - early[what] > slack ? [`${what}: ${early[what]} → ${late[what]}`] : [];
  return [
    ...grown("heap", heapSlack),
    ...grown("rss", rssSlack),
    ...grown("descriptors", descriptorSlack),
  ];
}

/** What a runtime needs, so that its garbage can be collected on demand. */
export function soakFlags(runtime: RuntimeName): string[] {
  if (runtime === "deno") return ["run", "-A", "--no-config", "--v8-flags=--expose-gc"];
  return runtime === "bun" ? [] : ["--expose-gc"];
}
