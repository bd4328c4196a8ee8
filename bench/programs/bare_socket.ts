// A bare runtime with a Unix socket: one sends so many bytes and waits for an answer of one byte, the other gives it; or one
// reads whatever comes. In parts, each waits for the answer to the last, and all bytes are copied as often as whoever sends
// messages must: what is kept while the caller goes on, a message, what was received, and the whole of it.
import { connectBare, listenBare } from "../support/bare_socket.ts";
import { say, settings } from "../support/say.ts";

const { role, path, size, count, part, asNode } = settings;
const answer = Uint8Array.of(1);

if (role === "answerer") {
  let received = 0;
  let whole: Uint8Array | undefined;
  await listenBare(path, (socket, bytes) => {
    if (part) (whole ??= new Uint8Array(size)).set(bytes.slice(), received);
    received += bytes.length;
    if (received === size || received % part === 0) socket.send(answer);
    if (received < size) return;
    received = 0;
    whole = undefined;
  });
} else if (role === "reader") await listenBare(path, () => {});
else {
  let answered = () => {};
  const socket = await connectBare(path, () => answered(), asNode);
  const bytes = new Uint8Array(size).fill(7);
  const samples: number[] = [];
  for (let round = -3; round < count; round++) {
    const before = performance.now();
    const kept = part ? bytes.slice() : bytes;
    for (let at = 0; at < size; at += part ?? size) {
      await new Promise<void>((resolve) => {
        answered = resolve;
        socket.send(part ? kept.slice(at, at + part) : kept);
      });
    }
    if (round >= 0) samples.push(1000 * (performance.now() - before));
  }
  say("samples", { samples });
}
say("ready");
