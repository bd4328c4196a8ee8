// For scripts that check one thing after the other: each is named and counted, and the last line is `N passed, N failed`.

let passed = 0;
let failed = 0;
let skipped = 0;

/** What ends a check that cannot be made on this machine. */
class Skipped extends Error {}

/** One thing that must hold. */
export async function check(name, action) {
  try {
    await action();
    passed++;
    console.log(`ok      ${name}`);
  } catch (error) {
    const isSkipped = error instanceof Skipped;
    if (isSkipped) skipped++;
    else failed++;
    console.log(`${isSkipped ? "SKIPPED" : "FAILED "} ${name}: ${error.message}`);
  }
}

/** Prints the last line, and before it how many were skipped; the exit status tells of failures. */
export function conclude() {
  if (skipped > 0) console.log(`${skipped} skipped`);
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}

/** Ends a check that cannot be made, or made in full, on this machine. */
export function skip(why) {
  throw new Skipped(why);
}

/** For a machine on which nothing of the script can be checked. */
export function skipAll(why) {
  console.log(`SKIPPED ${why}`);
  conclude();
  process.exit();
}
