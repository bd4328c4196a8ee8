// Supervises one program that runs only while the cluster is quorate, and reports its starts and warnings to the benchmark.
import { supervise } from "@x/sam";
import { corosyncQuorum } from "@x/sam/corosync";
import { wall } from "../support/clock.ts";
import { say, settings } from "../support/say.ts";

wall(0); // calibrates the clock before the measurement
const watched = supervise(settings.program, {
  timeInterval: 0,
  recoveryPolicy: "restart",
  restart: { intensity: Infinity, maxDelay: 0 },
  quorum: corosyncQuorum(),
});
for await (const event of watched.events()) {
  const at = wall(performance.now());
  if (event.type === "start") say("running"); // the program writes "started" itself
  if (event.type === "warn") say("warned", { at });
}
