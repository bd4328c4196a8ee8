// A bare runtime that only wakes up periodically. With `count`, it measures how late that many timers are.
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
