/** Follows the requests of a server of `node:http` or `node:https` on a socket of the SAM server. */
import {
  checkConnections,
  checkHeader,
  checkHostHeader,
  idleMs,
  isMisdirected,
  misdirected,
  newMs,
  type ServedServer,
} from "./served_requests.ts";

/** A connection to the server, of `node:net` or `node:tls`. */
interface Connection {
  /** Only connections of TLS have this property. */
  readonly alpnProtocol?: string | false | null;
  once(event: "close", listener: () => void): unknown;
  destroy(): void;
}
interface IncomingRequest {
  readonly headers: Record<string, string | string[] | undefined>;
  readonly socket: Connection;
}
interface OutgoingResponse {
  shouldKeepAlive?: boolean;
  writeHead(status: number, headers: Record<string, string>): { end(): void };
  once(event: "close", listener: () => void): unknown;
}
/** A session of HTTP/2. */
interface Session {
  once(event: "close", listener: () => void): unknown;
  close(): void;
}

/** A server of `node:http`, as far as it is used here. */
export interface NodeHttpServer {
  emit(event: string, ...args: unknown[]): boolean;
  /** Only servers of HTTP have this function. */
  closeIdleConnections?(): void;
}

/** A listening socket, as far as servers of Node and Deno use it. */
interface Handle {
  close(): void;
  ref?(): void;
  unref?(): void;
  getsockname?(address: object): number;
}

/**
 * Stops accepting connections. Unlike after `close()`, the server still counts as listening, so that the program's handler can
 * close it, and the process does not end before.
 */
function closeSocket(server: NodeHttpServer): void {
  const inner = server as NodeHttpServer & { _handle?: Handle | null };
  const { _handle: handle } = inner;
  if (!handle) return;
  const address = {};
  const error = handle.getsockname?.(address) ?? 0;
  const listening = setInterval(() => {}, 2 ** 30);
  inner._handle = {
    close: () => clearInterval(listening),
    ref() {},
    unref() {},
    getsockname(copy) {
      Object.assign(copy, address);
      return error;
    },
  };
  handle.close();
}

/** The state of a connection. */
interface ConnectionState {
  /** The responses that are not finished. */
  readonly responses: Set<OutgoingResponse>;
  /** True once a request has arrived. */
  wasUsed: boolean;
  /** Closes the connection. */
  timer?: ReturnType<typeof setTimeout> | undefined;
}

/**
 * Follows the requests of a server. `stopAccepting` keeps its connections open. Where no function does that, `closesIdle` is true:
 * then the server accepts connections until idle ones may be closed.
 */
export function followNodeServer(
  server: NodeHttpServer,
  pid: number,
  { isSecure, closesIdle }: { readonly isSecure: boolean; readonly closesIdle: boolean },
  stopAccepting: () => void,
): ServedServer {
  const connections = new Map<Connection, ConnectionState>();
  const sessions = new Set<Session>();
  let isDraining = false;
  let onEmpty = () => {};

  const forget = (connection: Connection) => {
    clearTimeout(connections.get(connection)?.timer);
    connections.delete(connection);
    if (connections.size + sessions.size === 0) onEmpty();
  };
  const follow = (connection: Connection): ConnectionState => {
    const known = connections.get(connection);
    if (known) return known;
    const state: ConnectionState = { responses: new Set(), wasUsed: false };
    connections.set(connection, state);
    connection.once("close", () => forget(connection));
    return state;
  };
  /** Closes a connection after a time. If a request arrives on it before, the answer closes it. */
  const closeLater = (connection: Connection, ms: number) => {
    const state = connections.get(connection);
    if (state && state.responses.size === 0) {
      state.timer ??= setTimeout(() => connection.destroy(), ms);
    }
  };
  const begin = (connection: Connection, response: OutgoingResponse) => {
    const state = follow(connection);
    clearTimeout(state.timer);
    state.timer = undefined;
    state.wasUsed = true;
    state.responses.add(response);
    const isLast = isDraining;
    if (isLast) response.shouldKeepAlive = false;
    response.once("close", () => {
      state.responses.delete(response);
      // If the headers were sent before, the client does not know yet that the connection ends.
      if (isDraining) closeLater(connection, isLast ? 0 : idleMs);
    });
  };
  const { emit } = server;
  server.emit = function (this: NodeHttpServer, event: string, ...args: unknown[]): boolean {
    switch (event) {
      case isSecure ? "secureConnection" : "connection":
        // A connection of HTTP/2 carries a session instead.
        if ((args[0] as Connection).alpnProtocol !== "h2") follow(args[0] as Connection);
        break;
      case "request":
      case "checkContinue":
      case "checkExpectation": {
        const [request, response] = args as [IncomingRequest, OutgoingResponse];
        const check = request.headers[checkHeader] as string | undefined;
        if (isMisdirected(check, pid)) {
          response.writeHead(misdirected, { [checkHeader]: "misdirected", connection: "close" })
            .end();
          return true;
        }
        const host = request.headers[checkHostHeader];
        if (checkConnections.has(request.socket) && host !== undefined) {
          request.headers["host"] = host;
        }
        // A proxy would pass the headers on, and its target would refuse the request.
        delete request.headers[checkHeader];
        delete request.headers[checkHostHeader];
        begin(request.socket, response);
        break;
      }
      case "upgrade":
      case "connect": // the program takes the connection over
        forget((args[0] as IncomingRequest).socket);
        break;
      case "session": {
        const session = args[0] as Session;
        sessions.add(session);
        session.once("close", () => {
          sessions.delete(session);
          if (connections.size + sessions.size === 0) onEmpty();
        });
      }
    }
    return Reflect.apply(emit, this, [event, ...args]) as boolean;
  };

  /** Closes idle connections: kept ones after `keptMs`, and new ones after the time for their first request. */
  const closeIdle = (keptMs: number) => {
    for (const [connection, { wasUsed }] of connections) {
      closeLater(connection, wasUsed ? keptMs : newMs);
    }
  };
  const keepNone = () => {
    isDraining = true;
    for (const { responses } of connections.values()) {
      for (const response of responses) response.shouldKeepAlive = false;
    }
  };
  const idleOver = () => new Promise((resolve) => setTimeout(resolve, idleMs));
  return {
    async closeKept() {
      if (!closesIdle) closeSocket(server);
      keepNone();
      // `close()` calls this function. That of Node 26 also closes connections on which the first request is just arriving.
      if (!closesIdle) server.closeIdleConnections = () => closeIdle(0);
      if (connections.size > 0) await idleOver();
    },
    async drain() {
      if (!closesIdle) stopAccepting();
      keepNone();
      for (const session of sessions) session.close();
      closeIdle(idleMs);
      if (closesIdle) {
        await idleOver();
        stopAccepting();
        closeIdle(0);
      }
      if (connections.size + sessions.size > 0) {
        await new Promise<void>((resolve) => onEmpty = resolve);
      }
    },
  };
}
