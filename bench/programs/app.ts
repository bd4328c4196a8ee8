// An application to be killed, of a size, perhaps with a big module: it says when it stood after register(). On SIGUSR2 it
// hangs, if it is meant to: no heartbeat any more, and no answer to the warning.
import { initialize } from "@x/sam";
import { wall } from "../support/clock.ts";
import { occupied } from "../support/occupied.ts";
import { say, settings } from "../support/say.ts";

interface Signals {
  onSignal(signal: string, listener: () => void): void;
}
const runtime = globalThis as unknown as {
  readonly Deno?: { addSignalListener: Signals["onSignal"] };
  readonly process: { on: Signals["onSignal"] };
};
/** The first look at `process` would cost Deno its Node layer. */
const onSignal: Signals["onSignal"] = (signal, listener) =>
  runtime.Deno
    ? runtime.Deno.addSignalListener(signal, listener)
    : runtime.process.on(signal, listener);

const { mib, module, hangs, options } = settings;
const memory = await occupied(mib, module);
const restart = { intensity: Infinity, maxDelay: 0 };
const sam = await initialize({ ...options, restart });
if (options.standby > 0) say("born");
const instance = await sam.register();
const at = performance.now();
say("ready", { at: wall(at), instance }); // reading the clock takes milliseconds: after the moment

if (hangs) {
  const beats = setInterval(() => sam.heartbeat(), options.timeInterval / 10);
  onSignal("SIGUSR2", () => {
    clearInterval(beats);
    onSignal("SIGTERM", () => {}); // not before: the bench ends it by that
    sam.heartbeat();
    const last = performance.now();
    say("hung", { at: wall(last) });
  });
}
await sam.start();
say("started");
setInterval(() => memory.length, 2 ** 30); // in use, and the process stays
