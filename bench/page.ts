// Writes the charts and tables of docs/performance.md and its appendix from docs/performance/figures.json. With --check it
// writes nothing and fails if they differ. It measures nothing and needs no package.
import { complaints, publish } from "./support/publish.ts";

if (!process.argv.includes("--check")) publish();
else {
  for (const complaint of complaints()) {
    console.error(complaint);
    process.exitCode = 1;
  }
}
