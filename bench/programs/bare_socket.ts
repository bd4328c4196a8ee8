// A bare runtime with a Unix socket, in one of three roles. The asker sends bytes and waits for an answer of one byte. The
// answerer gives it. The reader reads everything and ignores it. If the bytes are sent in parts, each part waits for the answer
// to the last one, and the bytes are copied as often as a sender of messages must copy them.
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
    const copy = part ? bytes.slice() : bytes;
    for (let at = 0; at < size; at += part ?? size) {
      await new Promise<void>((resolve) => {
        answered = resolve;
        socket.send(part ? copy.slice(at, at + part) : copy);
      });
    }
    if (round >= 0) samples.push(1000 * (performance.now() - before));
  }
  say("samples", { samples });
}
say("ready");
