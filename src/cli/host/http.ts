/** An HTTP server on `node:http`, which all three runtimes have. Loaded only for `--metrics`. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, isIP, type Socket } from "node:net";

/** A GET or HEAD request. */
export interface HttpRequest {
  /** The path without its query. */
  readonly path: string;
  /** The host name of the request in lower case, if it may belong to another web site. See `foreignHostName`. */
  readonly foreignName: string | undefined;
}

/** A response. Its body is a text, or a stream that lasts until one side closes it. */
export interface HttpAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string | ((stream: HttpStream) => void);
}

export interface HttpStream {
  /** Writes a text. Closes the connection if the client reads too slowly. */
  write(text: string): void;
  /** Calls `listener` when the connection is closed. */
  onClose(listener: () => void): void;
}

export interface HttpServer {
  /** The address of the server: `http://127.0.0.1:9464/`. */
  readonly url: string;
  /** Ends the server and all of its connections. */
  close(): void;
}

/** The limit for bytes that a client has not read. The connection to a slower client is closed. */
const maxUnreadBytes = 4 * 1024 * 1024;
const maxConnections = 256;

/** Headers of every response. They forbid caches, frames, type sniffing, reads by other origins, and content from other hosts. */
const headers = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** Listens. Rejects with the error of the system. If `answer` throws, only that request fails, with status 500. */
export function serveHttp(
  host: string,
  port: number,
  answer: (request: HttpRequest) => HttpAnswer,
): Promise<HttpServer> {
  const server = createServer({ maxHeaderSize: 16 * 1024 }, (request, response) => {
    request.resume();
    const foreignName = foreignHostName(request.headers.host, host);
    if (isLoopback && foreignName !== undefined) {
      const text = "sam listens on the loopback interface only. Open this page as localhost.";
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

/** The connections that carry an event stream. */
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
    return refuse(response, 405, "only GET and HEAD are allowed", { allow: "GET, HEAD" });
  }
  let given: HttpAnswer;
  try {
    given = answer({ path: url.split("?", 1)[0]!, foreignName });
  } catch (error) {
    return refuse(response, 500, error instanceof Error ? error.message : String(error));
  }
  const { status, type, body } = given;
  // A second response on this connection would wait for the end of the stream, and its buffer would grow without limit.
  const isStream = typeof body !== "string" && method === "GET";
  if (isStream && streaming.has(request.socket)) {
    return refuse(
      response,
      503,
      "this connection already carries an event stream: open another connection",
    );
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
      if (response.writableLength > maxUnreadBytes) response.destroy();
    },
    onClose: (listener) => void response.once("close", listener),
  });
}

/**
 * Returns the host name of a request, unless it is an IP address, `localhost` or the name that the server listens on. The check
 * prevents DNS rebinding: a web site can let its own name resolve to the address of this server, and read its responses.
 */
function foreignHostName(host: string | undefined, asked: string): string | undefined {
  if (host === undefined) return undefined; // not a browser
  const name = host.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1").toLowerCase();
  const isOurs = isIP(name) !== 0 || name === "localhost" || name.endsWith(".localhost") ||
    name === asked.toLowerCase();
  return isOurs ? undefined : name;
}
