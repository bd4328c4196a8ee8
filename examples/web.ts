// A web server that heals itself: open /hang or /crash, then / again. The visits survive.
//
//   npm start
//   deno run --allow-net --allow-run=deno,sh --allow-env=SAM_LINK,PORT --allow-read=/tmp --allow-write=/tmp examples/web.ts
//   bun examples/web.ts
import { createServer } from "node:http";
import process from "node:process";
import { initialize } from "../mod.ts"; // in your program: "@x/sam"

const sam = await initialize({ timeInterval: 500, recoveryPolicy: "restart" });
const instance = await sam.register(); // from here on: the active process

const port = Number(process.env["PORT"] ?? 8000);
let visits = Number(new TextDecoder().decode(sam.data.restore()));

const server = createServer(async (request, response) => {
  switch (request.url) {
    case "/":
      await sam.data.store(new TextEncoder().encode(String(++visits)));
      response.end(`instance ${instance}, visit ${visits}\n`);
      break;
    case "/hang":
      response.end("the event loop hangs now; try / in a second\n", () => {
        for (;;); // a bug that no exception handler finds
      });
      break;
    case "/crash":
      response.end("crashing now; try / in a second\n", () => {
        throw new Error("a bug that nobody caught");
      });
      break;
    default:
      response.writeHead(404).end("there are /, /hang and /crash\n");
  }
});

let ending = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, async () => {
    if (ending) return; // the terminal and the server may both send it
    ending = true;
    if (sam.state === "started") await sam.stop(); // an orderly end, and no failure
    process.exit(0);
  });
}

await new Promise<void>((resolve) => server.listen(port, resolve));

sam.setHealthCheck(() => server.listening);
await sam.start();
console.log(`instance ${instance} serves http://localhost:${port} (also /hang and /crash)`);
