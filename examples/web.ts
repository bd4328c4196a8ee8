// A web server that recovers from a hang and a crash. Open /hang or /crash, then / again: the count of visits survives.
//
//   npm start
//   deno run --allow-net --allow-run=deno,sh --allow-env=SAM_LINK,PORT --allow-read=/tmp --allow-write=/tmp examples/web.ts
//   bun examples/web.ts
//
// On Deno, SAM needs `sh` to read its own command line and to start its guard: see docs/runtimes.md.
import { createServer } from "node:http";
import process from "node:process";
import { initialize } from "../mod.ts"; // in your program: "@x/sam"

const sam = await initialize({ timeInterval: 500, recoveryPolicy: "restart" });
const instance = await sam.register(); // only the active process continues after this line

const port = Number(process.env["PORT"] ?? 8000);
let visits = Number(new TextDecoder().decode(sam.data.restore()));

const server = createServer(async (request, response) => {
  switch (request.url) {
    case "/":
      await sam.data.store(new TextEncoder().encode(String(++visits)));
      response.end(`instance ${instance}, visit ${visits}\n`);
      break;
    case "/hang":
      response.end("the event loop is now blocked; open / again in a second\n", () => {
        for (;;); // a bug that no exception handler can catch
      });
      break;
    case "/crash":
      response.end("the process crashes now; open / again in a second\n", () => {
        throw new Error("an uncaught error");
      });
      break;
    default:
      response.writeHead(404).end("not found: open /, /hang or /crash\n");
  }
});

let ending = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, async () => {
    if (ending) return; // the terminal and the SAM server may both send the signal
    ending = true;
    if (sam.state === "started") await sam.stop(); // so that the exit is not a failure
    process.exit(0);
  });
}

await new Promise<void>((resolve) => server.listen(port, resolve));

sam.setHealthCheck(() => server.listening);
await sam.start();
console.log(`instance ${instance} serves http://localhost:${port} (also /hang and /crash)`);
