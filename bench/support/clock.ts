// One clock for several processes. `performance.timeOrigin` will not do: it is some milliseconds off in Deno. The system's
// clock has whole milliseconds only, so a process watches it tick, once, and knows from then on what its own clock means.

let offset: number | undefined;

/** Milliseconds since 1970, with fractions, of a moment on this process's `performance.now()`. */
export function wall(at: number): number {
  return at + (offset ??= calibrate());
}

function calibrate(): number {
  const offsets: number[] = [];
  while (offsets.length < 4) {
    const before = Date.now();
    let after = before;
    while (after === before) after = Date.now();
    offsets.push(after - performance.now()); // too small, by what this process was kept waiting
  }
  return Math.max(...offsets);
}
