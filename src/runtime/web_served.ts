/** Follows the requests of `Bun.serve` and `Deno.serve` on a port that the program shares with the SAM server. */
import {
  checkHeader,
  idleMs,
  isMisdirected,
  misdirected,
  type ServedServer,
} from "./served_requests.ts";

/** A handler of `Deno.serve` or `Bun.serve`. */
export type Handler = (request: Request, ...rest: unknown[]) => unknown;

/** A running server: `shutdown()` is Deno's function, and `stop()` Bun's. Both finish the requests. */
export interface WebServer {
  shutdown?(): Promise<void>;
  stop?(): Promise<void>;
}

/** Returns the options of a server with its handlers replaced. */
export function replaceHandlers(
  options: object,
  replace: (handler: Handler) => Handler,
): Record<string, unknown> {
  // The options can be an object of a class, whose functions are not its own properties: export default new App().
  const replaced = Object.assign(
    Object.create(Object.getPrototypeOf(options)),
    options,
  ) as Record<string, unknown>;
  for (const name of ["fetch", "handler"]) {
    if (typeof replaced[name] === "function") replaced[name] = replace(replaced[name] as Handler);
  }
  const { routes } = replaced;
  // Bun ignores an array. An application of Hono has one.
  if (typeof routes === "object" && routes !== null && !Array.isArray(routes)) {
    replaced["routes"] = Object.fromEntries(
      Object.entries(routes).map(([path, route]) => [path, replaceRoute(route, replace)]),
    );
  }
  return replaced;
}

/** A route of Bun: a function, functions by method, or a fixed response, which stays as it is. */
function replaceRoute(route: unknown, replace: (handler: Handler) => Handler): unknown {
  if (typeof route === "function") return replace(route as Handler);
  if (route === null || Object.getPrototypeOf(route) !== Object.prototype) return route;
  return Object.fromEntries(
    Object.entries(route as object).map(([method, each]) => [
      method,
      typeof each === "function" ? replace(each as Handler) : each,
    ]),
  );
}

/** The requests of one server. */
export class WebRequests {
  readonly #pid: number;
  #isDraining = false;

  constructor(pid: number) {
    this.#pid = pid;
  }

  /** Returns the options of the server with its handlers replaced. */
  replaceHandlers(options: object): Record<string, unknown> {
    return replaceHandlers(options, (handler) => this.replaceHandler(handler));
  }

  /** Returns a handler that refuses misdirected health checks, and closes connections while the server drains. */
  replaceHandler(handler: Handler): Handler {
    // deno-lint-ignore no-this-alias
    const requests = this;
    return function (this: unknown, request: Request, ...rest: unknown[]): unknown {
      const check = request.headers?.get(checkHeader);
      if (isMisdirected(check, requests.#pid)) {
        const headers = { [checkHeader]: "misdirected", connection: "close" };
        return new Response(null, { status: misdirected, headers });
      }
      const given = typeof check === "string" ? withoutCheck(request) : request;
      const answer = Reflect.apply(handler, this, [given, ...rest]) as unknown;
      if (answer instanceof Response) return requests.#finish(answer);
      if (typeof (answer as PromiseLike<unknown> | undefined)?.then !== "function") return answer;
      return (answer as PromiseLike<unknown>).then((later) => requests.#finish(later));
    };
  }

  #finish(answer: unknown): unknown {
    if (!this.#isDraining || !(answer instanceof Response)) return answer;
    try {
      answer.headers.set("connection", "close");
    } catch {
      // a response of fetch(): its headers cannot be changed
    }
    return answer;
  }

  /** The server that answers these requests. */
  served(server: WebServer): ServedServer {
    const closeKept = async () => {
      this.#isDraining = true;
      await new Promise((resolve) => setTimeout(resolve, idleMs));
    };
    return {
      closeKept,
      drain: async () => {
        // The server closes idle connections as soon as it stops. Until then, their next request gets an answer.
        await closeKept();
        await (server.shutdown ?? server.stop)!.call(server);
      },
    };
  }
}

/** Returns a request without the header of a health check. A proxy would pass the header on, and its target would refuse it. */
function withoutCheck(request: Request): Request {
  try {
    request.headers.delete(checkHeader);
    return request;
  } catch {
    // The headers of Deno cannot be changed.
    const headers = new Headers(request.headers);
    headers.delete(checkHeader);
    return new Request(request, { headers });
  }
}
