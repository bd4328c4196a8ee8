/** Follows the requests of a server of `node:http` or `node:https` on a socket of the SAM server. */
import {
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
}

/** The state of a connection. */
interface ConnectionState {
  /** The responses that are not finished. */
  readonly responses: Set<OutgoingResponse>;
  /** True once a request has arrived. */
  wasUsed: boolean;
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
  let isIdleOver = false;
  let onEmpty = () => {};

  const forget = (connection: Connection) => {
    connections.delete(connection);
    if (connections.size + sessions.size === 0) onEmpty();
  };
  const follow = (connection: Connection): ConnectionState => {
    const known = connections.get(connection);
    if (known) return known;
    const state = { responses: new Set<OutgoingResponse>(), wasUsed: false };
    connections.set(connection, state);
    connection.once("close", () => forget(connection));
    return state;
  };
  const begin = (connection: Connection, response: OutgoingResponse) => {
    const state = follow(connection);
    state.wasUsed = true;
    state.responses.add(response);
    if (isDraining) response.shouldKeepAlive = false;
    response.once("close", () => {
      state.responses.delete(response);
      if (isIdleOver && state.responses.size === 0) connection.destroy();
    });
  };
  const { emit } = server;
  server.emit = function (this: NodeHttpServer, event: string, ...args: unknown[]): boolean {
    switch (event) {
      case isSecure ? "secureConnection" : "connection":
        follow(args[0] as Connection);
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
        // Without the process id, any client could replace the host that a reverse proxy has set.
        if (check !== undefined && host !== undefined) request.headers["host"] = host;
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

  const closeIdle = (wasUsed: boolean) => {
    for (const [connection, state] of connections) {
      if (state.wasUsed === wasUsed && state.responses.size === 0) connection.destroy();
    }
  };
  const keepNone = () => {
    isDraining = true;
    for (const { responses } of connections.values()) {
      for (const response of responses) response.shouldKeepAlive = false;
    }
  };
  return {
    async closeKept() {
      keepNone();
      if (connections.size > 0) await new Promise((resolve) => setTimeout(resolve, idleMs));
    },
    async drain() {
      if (!closesIdle) stopAccepting();
      keepNone();
      for (const session of sessions) session.close();
      const idleOver = new Promise<void>((resolve) =>
        setTimeout(() => {
          isIdleOver = true;
          closeIdle(true);
          if (closesIdle) stopAccepting();
          resolve();
        }, idleMs)
      );
      setTimeout(() => closeIdle(false), newMs);
      if (closesIdle) await idleOver;
      if (connections.size + sessions.size > 0) {
        await new Promise<void>((resolve) => onEmpty = resolve);
      }
    },
  };
}
