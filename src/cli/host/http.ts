/** An HTTP server, through the Node layer of all three runtimes. Loaded only if the user asks for one. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, isIP, type Socket } from "node:net";

/** A request by GET or HEAD. */
export interface HttpRequest {
  /** The path without its query. */
  readonly path: string;
  /** The host name of the request in lower case, if it may belong to a foreign site; see `nameOfOthers`. */
  readonly foreignName: string | undefined;
}

/** An answer: a text, or a stream that goes on until either side ends it. */
export interface HttpAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string | ((stream: HttpStream) => void);
}

/** An answer that goes on. */
export interface HttpStream {
  /** Writes a piece; a reader that lets too much wait is cut off. */
  write(text: string): void;
  /** Calls back when nobody reads any more. */
  onClose(listener: () => void): void;
}

/** A server that listens. */
export interface HttpServer {
  /** `http://127.0.0.1:9464/` */
  readonly url: string;
  /** Ends it, and all of its connections. */
  close(): void;
}

/** A reader for which more bytes wait than this is cut off. */
const maxWaitingBytes = 4 * 1024 * 1024;
const maxConnections = 256;

/** The headers of every answer: no cache, no frame, no sniffing, no reading by other origins, nothing loaded from elsewhere. */
const headers = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** Listens; rejects with the error of the system. If `answer` throws, only its request fails. */
export function serveHttp(
  host: string,
  port: number,
  answer: (request: HttpRequest) => HttpAnswer,
): Promise<HttpServer> {
  const server = createServer({ maxHeaderSize: 16 * 1024 }, (request, response) => {
    request.resume();
    const foreignName = nameOfOthers(request.headers.host, host);
    if (isLoopback && foreignName !== undefined) {
      const text = "this server listens on the loopback interface: ask for it as localhost";
      return refuse(response, 421, text);
    }
    respond(request, response, foreignName, answer);
  });
  let isLoopback = true;
  const sockets = new Set<Socket>();
  server.maxConnections = maxConnections;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      const { address, port } = server.address() as AddressInfo;
      isLoopback = address === "::1" || address.startsWith("127.");
      resolve({
        url: `http://${address.includes(":") ? `[${address}]` : address}:${port}/`,
        close() {
          server.close();
          for (const socket of sockets) socket.destroy();
        },
      });
    });
  });
}

/** The connections that carry a stream. */
const streaming = new WeakSet<object>();

function refuse(
  response: ServerResponse,
  status: number,
  text: string,
  more: Record<string, string> = {},
): void {
  response.writeHead(status, { ...headers, ...more, "content-type": "text/plain" });
  response.end(`${text}\n`);
}

function respond(
  request: IncomingMessage,
  response: ServerResponse,
  foreignName: string | undefined,
  answer: (request: HttpRequest) => HttpAnswer,
): void {
  const { method, url = "/" } = request;
  if (method !== "GET" && method !== "HEAD") {
    return refuse(response, 405, "only GET and HEAD", { allow: "GET, HEAD" });
  }
  let given: HttpAnswer;
  try {
    given = answer({ path: url.split("?", 1)[0]!, foreignName });
  } catch (error) {
    return refuse(response, 500, error instanceof Error ? error.message : String(error));
  }
  const { status, type, body } = given;
  // A second answer on this connection would wait for the end of the stream, which has none, and its buffer would grow.
  const isStream = typeof body !== "string" && method === "GET";
  if (isStream && streaming.has(request.socket)) {
    return refuse(response, 503, "this connection has a stream");
  }
  if (isStream) streaming.add(request.socket);
  response.writeHead(status, { ...headers, "content-type": type });
  if (typeof body === "string" || method === "HEAD") {
    response.end(typeof body === "string" && method === "GET" ? body : undefined);
    return;
  }
  body({
    write(text) {
      if (response.destroyed) return;
      response.write(text);
      if (response.writableLength > maxWaitingBytes) response.destroy();
    },
    onClose: (listener) => void response.once("close", listener),
  });
}

/**
 * The host name that a browser used, unless it is an address, `localhost`, or the name that the server listens on. Any site can
 * let its own name point to this server's address, and its pages could then read the answers (DNS rebinding).
 */
function nameOfOthers(host: string | undefined, asked: string): string | undefined {
  if (host === undefined) return undefined; // no browser
  const name = host.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1").toLowerCase();
  const isOurs = isIP(name) !== 0 || name === "localhost" || name.endsWith(".localhost") ||
    name === asked.toLowerCase();
  return isOurs ? undefined : name;
}
