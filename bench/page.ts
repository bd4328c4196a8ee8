// Writes the charts, the tables and the numbers of docs/performance.md anew from the JSON of the last full run; with
// --check it only tells whether they are as they would be written. Measures nothing, needs no package.
import { complaints, publish } from "./support/publish.ts";

if (!process.argv.includes("--check")) publish();
else {
  for (const complaint of complaints()) {
    console.error(complaint);
    process.exitCode = 1;
  }
}
