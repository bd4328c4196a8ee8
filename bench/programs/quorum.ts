// Supervises one program, which runs only while the cluster is quorate, and tells the bench what happens to it.
import { supervise } from "@x/sam";
import { corosyncQuorum } from "@x/sam/corosync";
import { wall } from "../support/clock.ts";
import { say, settings } from "../support/say.ts";

wall(0); // the clock is looked at before it is needed
const watched = supervise(settings.program, {
  timeInterval: 0,
  recoveryPolicy: "restart",
  restart: { intensity: Infinity, maxDelay: 0 },
  quorum: corosyncQuorum(),
});
for await (const event of watched.events()) {
  const at = wall(performance.now());
  if (event.type === "start") say("goes on"); // the program itself says "started"
  if (event.type === "warn") say("warned", { at });
}
