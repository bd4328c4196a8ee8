// For scripts that check one thing after the other: each is named and counted, and the last line is `N passed, N failed`.

let passed = 0;
let failed = 0;

/** One thing that must hold. */
export async function check(name, action) {
  try {
    await action();
    passed++;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}: ${error.message}`);
  }
}

/** Prints the last line; the exit status says the same. */
export function conclude() {
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}

/** Says that a part cannot be checked on this machine. */
export function skip(why) {
  console.log(`SKIPPED  ${why}`);
}

/** For a machine on which nothing of the script can be checked. */
export function skipAll(why) {
  skip(why);
  conclude();
  process.exit();
}
