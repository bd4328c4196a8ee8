// A clock that several processes share. `performance.timeOrigin` is not accurate enough: it is some milliseconds off in Deno. The
// system clock has whole milliseconds only. So each process waits for its next ticks once, and from them calculates the offset
// of its own, finer clock.

let offset: number | undefined;

/** Converts a time of this process's `performance.now()` to milliseconds since 1970, with fractions. */
export function wall(at: number): number {
  return at + (offset ??= calibrate());
}

function calibrate(): number {
  const offsets: number[] = [];
  while (offsets.length < 4) {
    const before = Date.now();
    let after = before;
    while (after === before) after = Date.now();
    offsets.push(after - performance.now()); // too small if this process had to wait for a core
  }
  return Math.max(...offsets);
}
