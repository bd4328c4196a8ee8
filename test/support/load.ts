// Clients that ask a web server again and again, and count the requests that fail.
import { Agent, get } from "node:http";

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

/** Starts clients. Each sends its next request when the last one is answered. Call the result to end them. */
export function load(
  port: number,
  clients: number,
  { keepAlive, pauseMs = 0 }: { readonly keepAlive: boolean; readonly pauseMs?: number },
): () => Promise<LoadResult> {
  const result: LoadResult = { answered: 0, raced: 0, failed: {}, bodies: {} };
  let isOver = false;
  const client = async () => {
    const agent = keepAlive ? new Agent({ keepAlive: true, maxSockets: 1 }) : false;
    while (!isOver) {
      await ask(port, agent, result);
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
