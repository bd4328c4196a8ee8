// For scripts that check one thing after the other: each is named and counted, and the last line is `N passed, N failed`.

let passed = 0;
let failed = 0;
let skipped = 0;

/** Thrown to end a check that this machine cannot make. */
class Skipped extends Error {}

/** Checks one thing, and prints whether it holds. */
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

/**
 * Prints how many checks were skipped, then the counts as the last line. Sets exit status 1 after a
 * failure.
 */
export function conclude() {
  if (skipped > 0) console.log(`${skipped} skipped`);
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}

/** Ends the present check as skipped, in full or in part. */
export function skip(why) {
  throw new Skipped(why);
}

/** Ends the script when nothing in it can be checked on this machine. */
export function skipAll(why) {
  console.log(`SKIPPED ${why}`);
  conclude();
  process.exit();
}
