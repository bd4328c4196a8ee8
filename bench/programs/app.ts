// A program to be killed. It fills memory and imports a module if the settings say so, and writes the time at which register()
// resolved. With `hangs`, SIGUSR2 makes it hang: it sends no further heartbeat and ignores the warning.
import { initialize } from "@x/sam";
import { wall } from "../support/clock.ts";
import { occupied } from "../support/occupied.ts";
import { say, settings } from "../support/say.ts";

type Listen = (signal: string, listener: () => void) => void;
const { Deno } = globalThis as unknown as { Deno?: { addSignalListener: Listen } };
const onSignal: Listen = (signal, listener) =>
  Deno ? Deno.addSignalListener(signal, listener) : void process.on(signal, listener);

const { mib, module, hangs, options } = settings;
const memory = await occupied(mib, module);
const restart = { intensity: Infinity, maxDelay: 0 };
const sam = await initialize({ ...options, restart });
if (options.standby > 0) say("born");
const instance = await sam.register();
const at = performance.now();
say("ready", { at: wall(at), instance }); // `wall` takes milliseconds, so it is called afterwards

if (hangs) {
  const heartbeats = setInterval(() => sam.heartbeat(), options.timeInterval / 10);
  onSignal("SIGUSR2", () => {
    clearInterval(heartbeats);
    onSignal("SIGTERM", () => {}); // not earlier: until now, SIGTERM ends the program
    sam.heartbeat();
    const last = performance.now();
    say("hung", { at: wall(last) });
  });
}
await sam.start();
say("started");
setInterval(() => memory.length, 2 ** 30); // keeps the memory in use and the process running
