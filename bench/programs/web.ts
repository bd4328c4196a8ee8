// A web server that knows nothing of this library, for the figure about continuity. It answers each request with its process id at
// once, and ends the answer 10 ms later. `GET /hang` makes it hang after the answer, and `GET /grow` fills memory. With `drains`, it
// ends in an orderly way at SIGTERM and SIGINT. Otherwise it has no handler for signals.
import { pid, settings } from "../support/say.ts";

/** The time from a request until the end of its answer, in milliseconds. */
const workMs = 10;
/** The time of the start during which the program computes, as one that loads a few hundred modules. */
const bootMs = 250;
/** The time after which an orderly end closes connections without a request, in milliseconds. */
const drainMs = 100;
/** The memory that `GET /grow` fills, in MiB. */
const growMiB = 256;

interface DenoLike {
  serve(options: object, handler: (request: Request) => Response): { shutdown(): Promise<void> };
  addSignalListener(signal: string, listener: () => void): void;
  readTextFileSync(path: string): string;
  exit(code: number): never;
}
interface BunLike {
  serve(options: object): { stop(): Promise<void> };
}
const { Deno, Bun } = globalThis as unknown as { Deno?: DenoLike; Bun?: BunLike };
const exit = (code: number) => Deno ? Deno.exit(code) : process.exit(code);

const { port, fd, server, release, drains } = settings;
/** The release: a good one, or one with a mistake. */
const version = Deno
  ? Deno.readTextFileSync(release)
  : (await import("node:fs")).readFileSync(release, "utf8");
const kept: Uint8Array[] = [];

compute(bootMs);
switch (version) {
  case "exits at once":
    exit(1);
    break;
  case "never ready":
    setInterval(() => {}, 2 ** 30);
    break;
  case "fails after 2 s":
    setTimeout(() => exit(1), 2000);
    await listen();
    break;
  default:
    await listen();
}

async function listen(): Promise<void> {
  const servers: Readonly<Record<string, () => Promise<() => void>>> = {
    "node:http": listenByHttp,
    "node:net": listenByNet,
    serve: listenByServe,
  };
  const end = await servers[server]!();
  if (!drains) return;
  for (const signal of ["SIGTERM", "SIGINT"]) {
    if (Deno) Deno.addSignalListener(signal, end);
    else process.on(signal, end);
  }
}

function compute(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

/** Called when the answer to a request has been sent. */
function afterAnswer(path: string): void {
  if (path === "/hang") setTimeout(() => compute(Infinity), 5);
  if (path === "/grow") kept.push(new Uint8Array(growMiB * 2 ** 20).fill(1));
}

/** The paths that change the program are answered at once. */
function delayOf(path: string): number {
  return path === "/" ? workMs : 0;
}

async function listenByHttp(): Promise<() => void> {
  const { createServer } = await import("node:http");
  const { Server } = await import("node:net");
  let isEnding = false;
  const server = createServer((request, response) => {
    if (isEnding) response.setHeader("connection", "close");
    response.write(`${pid}\n`);
    const path = request.url!;
    response.once("finish", () => afterAnswer(path));
    setTimeout(() => response.end(), delayOf(path));
  });
  server.listen(fd === undefined ? { port } : { fd });
  return () => {
    isEnding = true;
    // On Node 26, close() of node:http also closes connections whose first request has not arrived yet (nodejs/node#63470). The
    // servers of Deno and Bun do not, and are no servers of node:net.
    const { close } = Deno || Bun ? server : Server.prototype;
    close.call(server, () => exit(0));
    setTimeout(() => server.closeIdleConnections(), drainMs);
  };
}

/** A server for HTTP made by hand, which understands what the benchmark sends. */
async function listenByNet(): Promise<() => void> {
  const { createServer } = await import("node:net");
  let isEnding = false;
  const idle = new Set<{ end(): void }>();
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("close", () => idle.delete(socket));
    let head = "";
    socket.on("data", (bytes) => {
      head += String(bytes);
      if (!head.includes("\r\n\r\n")) return;
      idle.delete(socket);
      const path = head.split(" ")[1]!;
      const closes = isEnding || /^connection: close/im.test(head);
      head = "";
      const text = `${pid}\n`;
      const connection = closes ? "close" : "keep-alive";
      socket.write(
        `HTTP/1.1 200 OK\r\nconnection: ${connection}\r\ncontent-length: ${
          text.length + 1
        }\r\n\r\n${text}`,
      );
      setTimeout(() => {
        if (closes) socket.end("\n");
        else {
          socket.write("\n");
          idle.add(socket);
        }
        afterAnswer(path);
      }, delayOf(path));
    });
  });
  server.listen(port);
  return () => {
    isEnding = true;
    server.close(() => exit(0));
    setTimeout(() => idle.forEach((socket) => socket.end()), drainMs);
  };
}

// deno-lint-ignore require-await
async function listenByServe(): Promise<() => void> {
  const answer = (request: Request): Response => {
    const path = new URL(request.url).pathname;
    const body = new ReadableStream({
      start(stream) {
        stream.enqueue(new TextEncoder().encode(`${pid}\n`));
        setTimeout(() => {
          stream.close();
          setTimeout(() => afterAnswer(path), 5);
        }, delayOf(path));
      },
    });
    return new Response(body);
  };
  if (Deno) {
    const server = Deno.serve({ port, onListen() {} }, answer);
    return () => void server.shutdown().then(() => exit(0));
  }
  const server = Bun!.serve({ port, fetch: answer });
  return () => void server.stop().then(() => exit(0));
}
