// What a runtime costs that does nothing but wake up: for a timer, or for a byte a millisecond on a Unix socket.
import { loadRuntime } from "../../src/runtime/runtime.ts";
import { say, settings } from "../support/say.ts";

const { role, ms, path, rate, seconds } = settings;
const runtime = await loadRuntime();
if (role === "timer") setInterval(() => {}, ms);
if (role === "reader") {
  await runtime.listen(path, (stream) => stream.read(() => {}, () => runtime.exit(0)));
}
if (role === "writer") {
  const stream = await runtime.connect(path);
  const begin = performance.now();
  for (let beat = 0; beat < rate * seconds; beat++) {
    while (performance.now() < begin + (1000 * beat) / rate);
    stream.write(Uint8Array.of(0));
  }
  runtime.exit(0);
}
say("ready");
