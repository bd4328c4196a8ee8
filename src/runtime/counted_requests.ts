/**
 * Counts the HTTP requests of this process. Loaded only if the server asks for it.
 *
 * - `node:http` and `node:http2` on Node and Deno tell by channels of `node:diagnostics_channel` when a request begins and ends.
 *   Node 20 has no channels for `node:http2`.
 * - Bun has no such channels. There, the function is replaced that passes requests on to the program.
 * - The handlers of `Deno.serve` and `Bun.serve` are replaced.
 */
import type { RequestKind, RequestProgress } from "../core/client/request_progress.ts";
import { checkAgent } from "./served_requests.ts";
import { type Handler, replaceHandlers } from "./web_served.ts";

/** A response of `node:http`, as far as it is used here. */
interface NodeResponse {
  readonly req: NodeRequest;
  readonly headersSent: boolean;
  readonly destroyed: boolean;
  once(event: "close", listener: () => void): unknown;
}
interface NodeRequest {
  readonly method?: string;
  readonly url?: string;
  /** Frameworks such as Express change `url`, and keep it here. */
  readonly originalUrl?: string;
  readonly rawHeaders: readonly string[];
  readonly socket?: { readonly destroyed: boolean } | null;
}
/** A stream of `node:http2`. */
interface Http2Stream {
  readonly headersSent: boolean;
  readonly destroyed: boolean;
  readonly closed: boolean;
  readonly sentHeaders?: unknown;
}
type Http2Headers = Readonly<Record<string, string | undefined>>;
interface Channels {
  subscribe(name: string, listener: (message: unknown) => void): void;
}
interface HttpServer {
  emit(event: string, ...args: unknown[]): boolean;
}
type Serve = (first: unknown, ...rest: unknown[]) => unknown;
/** A server that the program has opened with `Bun.serve` before this module was loaded. */
export interface OpenedServer {
  readonly server: { reload(options: object): unknown };
  readonly options: object;
}
interface Globals {
  readonly Deno?: { serve: Serve };
  readonly Bun?: { serve: Serve };
  readonly process: { getBuiltinModule(name: string): unknown };
}

/** The global property with which the preload below a wrapper passes on the servers that are open already. */
const openedProperty = Symbol.for("@x/sam/opened");

const nodeKind: RequestKind<NodeResponse> = {
  look: ({ headersSent, destroyed, req }) =>
    headersSent ? "begun" : destroyed || req.socket?.destroyed ? "gone" : "waiting",
  describe: ({ req: { method, originalUrl, url } }) => [method ?? "", originalUrl ?? url ?? ""],
};

const streamHeaders = new WeakMap<Http2Stream, Http2Headers>();
const streamKind: RequestKind<Http2Stream> = {
  look: ({ headersSent, destroyed, closed }) =>
    headersSent ? "begun" : destroyed || closed ? "gone" : "waiting",
  describe: (stream) => {
    const headers = streamHeaders.get(stream);
    return [headers?.[":method"] ?? "", headers?.[":path"] ?? ""];
  },
};

const webKind: RequestKind<Request> = {
  // The signal of a request is not free.
  look: (request, isDue) => isDue && signalOf(request).aborted ? "gone" : "waiting",
  describe: ({ method, url }) => [method, url],
};

/** Passes the requests of this process on to `progress` from now on. */
export async function countRequests(progress: RequestProgress): Promise<void> {
  const { Deno, Bun } = globalThis as unknown as Globals;
  const web = webCounter(progress);
  if (Bun) {
    await countOnBun(progress);
    replaceServe(Bun, web);
    const given = globalThis as unknown as Record<symbol, readonly OpenedServer[] | undefined>;
    for (const { server, options } of given[openedProperty] ?? []) reload(server, options, web);
    return;
  }
  if (Deno) replaceServe(Deno, web);
  const name = "node:diagnostics_channel";
  const channels = Deno
    ? await import(name)
    : (globalThis as unknown as Globals).process.getBuiltinModule(name);
  countByChannels(channels as Channels, progress);
}

/**
 * True for a health check of SAM, which has this text as the value of one header, and perhaps as the name of another one. The object
 * of the headers is not made for this alone, because that takes long.
 */
function isCheck({ rawHeaders }: NodeRequest): boolean {
  return rawHeaders.includes(checkAgent);
}

function countByChannels(
  { subscribe }: Channels,
  progress: RequestProgress,
): void {
  subscribe("http.server.request.start", (message) => {
    const { request, response } = message as { request: NodeRequest; response: NodeResponse };
    if (!isCheck(request)) progress.begin(response, nodeKind);
  });
  subscribe("http.server.response.finish", (message) => {
    progress.finish((message as { response: NodeResponse }).response);
  });
  subscribe("http2.server.stream.start", (message) => {
    const { stream, headers } = message as { stream: Http2Stream; headers: Http2Headers };
    if (headers[":method"] === "CONNECT" || headers["user-agent"] === checkAgent) return;
    streamHeaders.set(stream, headers);
    progress.begin(stream, streamKind);
  });
  subscribe("http2.server.stream.close", (message) => {
    const { stream } = message as { stream: Http2Stream };
    if (stream.headersSent) progress.finish(stream);
    else progress.remove(stream);
  });
}

/** Counts the requests of `node:http` on Bun, also those of servers that listen already. */
async function countOnBun(progress: RequestProgress): Promise<void> {
  const { Server } = await import("node:http") as unknown as {
    readonly Server: { readonly prototype: HttpServer };
  };
  const { emit } = Server.prototype;
  Server.prototype.emit = function (this: HttpServer, event, ...args) {
    if (event === "request" || event === "checkContinue" || event === "checkExpectation") {
      const [request, response] = args as [NodeRequest, NodeResponse];
      if (!isCheck(request)) {
        progress.begin(response, nodeKind);
        response.once("close", () => {
          if (response.headersSent) progress.finish(response);
          else progress.remove(response);
        });
      }
    }
    return Reflect.apply(emit, this, [event, ...args]) as boolean;
  };
}

/** Returns a function that replaces a handler of `Deno.serve` or `Bun.serve` by one that counts its requests. */
function webCounter(progress: RequestProgress): (handler: Handler) => Handler {
  const end = (request: Request, answer: unknown) => {
    // Without a response, Bun has upgraded the connection. Deno answers an upgrade with 101.
    const status = (answer as Response | undefined)?.status;
    if (status === undefined || status === 101) progress.remove(request);
    else progress.finish(request);
  };
  return (handler) =>
    function (this: unknown, request: Request, ...rest: unknown[]): unknown {
      const call = () => Reflect.apply(handler, this, [request, ...rest]) as unknown;
      if (request.headers.get("user-agent") === checkAgent) return call();
      progress.begin(request, webKind);
      try {
        const answer = call();
        const then = (answer as PromiseLike<unknown> | undefined)?.then;
        if (typeof then !== "function") {
          end(request, answer);
          return answer;
        }
        return (answer as PromiseLike<unknown>).then((later) => {
          end(request, later);
          return later;
        }, (error) => {
          progress.finish(request); // the runtime answers with an error
          throw error;
        });
      } catch (error) {
        progress.finish(request);
        throw error;
      }
    };
}

function replaceServe(runtime: { serve: Serve }, count: (handler: Handler) => Handler): void {
  const { serve } = runtime;
  runtime.serve = (first, ...rest) => {
    if (typeof first === "function") return serve(count(first as Handler), ...rest);
    // node:http of Bun opens its socket here.
    if (typeof first !== "object" || first === null || "onNodeHTTPRequest" in first) {
      return serve(first, ...rest);
    }
    const [handler, ...others] = rest;
    if (typeof handler === "function") return serve(first, count(handler as Handler), ...others);
    const server = serve(replaceHandlers(first, count), ...rest) as Partial<OpenedServer["server"]>;
    if (typeof server.reload === "function") {
      replaceReload(server as OpenedServer["server"], count);
    }
    return server;
  };
}

/** Counts the requests of a server of Bun that is open already. */
function reload(
  server: OpenedServer["server"],
  options: object,
  count: (handler: Handler) => Handler,
): void {
  server.reload(replaceHandlers(options, count));
  replaceReload(server, count);
}

function replaceReload(
  server: OpenedServer["server"],
  count: (handler: Handler) => Handler,
): void {
  const { reload } = server;
  server.reload = (options) => reload.call(server, replaceHandlers(options, count));
}

/**
 * The signal of a request. Deno warns once if a program has used the signal of a request that was answered. Here, the program has
 * not, so the warning would be wrong.
 */
function signalOf(request: Request): AbortSignal {
  if ((globalThis as unknown as Globals).Deno) hideWarning();
  return request.signal;
}

let isHidden = false;

function hideWarning(): void {
  if (isHidden) return;
  isHidden = true;
  const { warn } = console;
  console.warn = (...args) => {
    if (!String(args[0]).startsWith("Deno.serve: request.signal aborts on successful")) {
      warn(...args);
    }
  };
}
