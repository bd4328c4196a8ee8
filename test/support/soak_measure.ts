// Measures what a soak has left in its process.

import { descriptors } from "./program.ts";

export interface Measure {
  readonly heap: number;
  readonly rss: number;
  readonly descriptors: number;
}

/** Measures memory and file descriptors after a garbage collection. */
export async function measure(): Promise<Measure> {
  const { Bun, gc } = globalThis as unknown as {
    Bun?: { gc(now: boolean): void };
    gc?: () => void;
  };
  for (let times = 0; times < 4; times++) {
    if (Bun) Bun.gc(true);
    else gc!();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { heapUsed, rss } = process.memoryUsage();
  return { heap: heapUsed, rss, descriptors: descriptors().length };
}
