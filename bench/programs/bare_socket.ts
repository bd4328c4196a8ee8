// A bare runtime with a Unix socket: one sends so many bytes and waits for an answer of one byte, the other gives it; or one
// reads whatever comes. In parts, each is answered, a few are on their way at a time, and all bytes are copied as often as
// whoever sends messages must: what is kept while the caller goes on, a message, what was received, and the whole of it.
import { connectBare, listenBare } from "../support/bare_socket.ts";
import { say, settings } from "../support/say.ts";

const { role, path, size, count, part, underway, asNode } = settings;
const answer = Uint8Array.of(1);

if (role === "answerer") {
  let received = 0;
  let whole: Uint8Array | undefined;
  await listenBare(path, (socket, bytes) => {
    const before = received;
    received += bytes.length;
    if (part) {
      whole ??= new Uint8Array(size);
      whole.set(bytes.slice(), before);
      const answers = Math.floor(received / part) - Math.floor(before / part);
      const last = received === size && size % part > 0 ? 1 : 0;
      for (let nth = 0; nth < answers + last; nth++) socket.send(answer);
    }
    if (received < size) return;
    received -= size;
    whole = undefined;
    if (!part) socket.send(answer);
  });
} else if (role === "reader") await listenBare(path, () => {});
else {
  let answered = (_answers: number) => {};
  const socket = await connectBare(path, (_socket, { length }) => answered(length), asNode);
  const bytes = new Uint8Array(size).fill(7);
  const samples: number[] = [];
  for (let round = -3; round < count; round++) {
    const before = performance.now();
    const parts = part ? Math.ceil(size / part) : 1;
    const kept = part ? bytes.slice() : bytes;
    let [sent, open] = [0, parts];
    const send = () => {
      const at = sent++ * part;
      socket.send(part ? kept.slice(at, at + part) : kept);
    };
    await new Promise<void>((resolve) => {
      answered = (answers) => {
        open -= answers;
        if (open === 0) return resolve();
        for (let nth = 0; nth < answers && sent < parts; nth++) send();
      };
      while (sent < Math.min(parts, underway ?? 1)) send();
    });
    if (round >= 0) samples.push(1000 * (performance.now() - before));
  }
  say("samples", { samples });
}
say("ready");
