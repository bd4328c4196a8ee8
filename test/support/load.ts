// Clients that ask a web server again and again, and count the requests that fail.
import { Agent, get } from "node:http";
import { connect } from "node:net";

/** The results of a load. */
export interface LoadResult {
  answered: number;
  /** Failed requests on connections that had carried a request before, and that the server closed: nodejs/node#60617. */
  raced: number;
  /** All other failed requests, by error. */
  readonly failed: Record<string, number>;
  /** The bodies of the answers, with their number. */
  readonly bodies: Record<string, number>;
}

/**
 * Starts clients. Each sends its next request when the last one is answered. With `connectedMs`, each client connects anew, and
 * sends its request after that time. Call the result to end them.
 */
export function load(
  port: number,
  clients: number,
  { keepAlive, pauseMs = 0, connectedMs = 0 }: {
    readonly keepAlive: boolean;
    readonly pauseMs?: number;
    readonly connectedMs?: number;
  },
): () => Promise<LoadResult> {
  const result: LoadResult = { answered: 0, raced: 0, failed: {}, bodies: {} };
  let isOver = false;
  const client = async () => {
    const agent = keepAlive ? new Agent({ keepAlive: true, maxSockets: 1 }) : false;
    while (!isOver) {
      await (connectedMs > 0 ? askLate(port, connectedMs, result) : ask(port, agent, result));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    if (agent) agent.destroy();
  };
  const all = Promise.all(Array.from({ length: clients }, client));
  return async () => {
    isOver = true;
    await all;
    return result;
  };
}

function ask(port: number, agent: Agent | false, result: LoadResult): Promise<void> {
  return new Promise((resolve) => {
    const request = get({ host: "127.0.0.1", port, path: "/", agent }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => body += text).on("end", () => {
        result.answered++;
        result.bodies[body] = (result.bodies[body] ?? 0) + 1;
        resolve();
      }).on("error", fail);
    });
    const fail = ({ code = "unknown" }: NodeJS.ErrnoException) => {
      if (request.reusedSocket && (code === "ECONNRESET" || code === "EPIPE")) result.raced++;
      else result.failed[code] = (result.failed[code] ?? 0) + 1;
      resolve();
    };
    request.on("error", fail);
  });
}

/** Connects, and sends a request after a time. */
function askLate(port: number, afterMs: number, result: LoadResult): Promise<void> {
  return new Promise((resolve) => {
    let text = "";
    let error = "no answer";
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () =>
      setTimeout(() => {
        socket.write("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
      }, afterMs));
    socket.setEncoding("utf8").on("data", (part) => text += part);
    socket.on("error", ({ code = "unknown" }: NodeJS.ErrnoException) => error = code);
    socket.on("close", () => {
      if (text.startsWith("HTTP/1.1 200")) result.answered++;
      else result.failed[error] = (result.failed[error] ?? 0) + 1;
      resolve();
    });
  });
}
