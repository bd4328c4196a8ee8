// A bare runtime with a Unix socket: one sends so many bytes and waits for an answer of one byte, the other gives it; or one
// reads whatever comes.
import { connectBare, listenBare } from "../support/bare_socket.ts";
import { say, settings } from "../support/say.ts";

const { role, path, size, count } = settings;
const answer = Uint8Array.of(1);

if (role === "answerer") {
  let received = 0;
  await listenBare(path, (socket, bytes) => {
    received += bytes;
    if (received < size) return;
    received -= size;
    socket.send(answer);
  });
} else if (role === "reader") await listenBare(path, () => {});
else {
  let answered = () => {};
  const socket = await connectBare(path, () => answered());
  const bytes = new Uint8Array(size).fill(7);
  const samples: number[] = [];
  for (let round = -3; round < count; round++) {
    const before = performance.now();
    await new Promise<void>((resolve) => {
      answered = resolve;
      socket.send(bytes);
    });
    if (round >= 0) samples.push(1000 * (performance.now() - before));
  }
  say("samples", { samples });
}
say("ready");
