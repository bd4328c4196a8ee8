// A bare runtime that does nothing but wake up, so many milliseconds after the last time; with a count, it says how much
// later than that so many timers were.
import { say, settings, sleep } from "../support/say.ts";

const { ms, count } = settings;
if (count) {
  const samples: number[] = [];
  for (let nth = 0; nth < count; nth++) {
    const began = performance.now();
    await sleep(ms);
    samples.push(performance.now() - began - ms);
  }
  say("samples", { samples });
} else {
  setInterval(() => {}, ms);
  say("ready");
}
