// Writes a line at once ("bare"), after a connection with one question and answer ("connects"), after the import of `node:net`
// ("net"), after the import of the library ("imports"), or after register() ("registers"). Each role loads only what it needs.
import { say, settings } from "../support/say.ts";

const { role, transport, path } = settings;
switch (role) {
  case "registers": {
    const { initialize } = await import("@x/sam");
    const sam = await initialize({ timeInterval: 60_000, recoveryPolicy: "quit", transport });
    await sam.register();
    say("first");
    await sam.finalize();
    break;
  }
  case "imports":
    await import("@x/sam");
    say("first");
    break;
  case "net":
    await import("node:net");
    say("first");
    break;
  case "connects": {
    const { connectBare } = await import("../support/bare_socket.ts");
    await new Promise<void>((resolve) => {
      void connectBare(path, () => resolve()).then((socket) => socket.send(Uint8Array.of(1)));
    });
    say("first");
    break;
  }
  default:
    say("first");
}
const { Deno } = globalThis as unknown as { Deno?: { exit(code: number): never } };
if (Deno) Deno.exit(0); // an open connection would keep the process running
else process.exit(0);
