/**
 * Turns the calls with which a program listens into uses of the sockets that its server holds. The program need not know of them.
 *
 * - `server.listen()` of `node:net` and `node:http` takes the inherited descriptor.
 * - `Bun.serve` and `Deno.serve` cannot take a descriptor. They share the port with `reusePort`.
 */
import type { DeferrableServer, DeferredAccept } from "./deferred_accept.ts";
import { type InheritedSocket, launch } from "./launch.ts";
import { followNodeServer, type NodeHttpServer } from "./node_served.ts";
import { noteSignalListeners, type ServedServer } from "./served_requests.ts";
import { WebRequests, type WebServer } from "./web_served.ts";

/** The program's own servers, as far as they are used here. */
interface ServerLike extends NodeHttpServer, DeferrableServer {
  listen(...args: unknown[]): ServerLike;
  close(): void;
  once(
    event: symbol | string,
    listener: (error: { readonly code?: string }) => void,
  ): unknown;
  /** Only servers of HTTP have this function. */
  closeIdleConnections?(): void;
  /** Only servers of TLS have this function. */
  setSecureContext?(): void;
}
interface ServerModule {
  readonly Server: { readonly prototype: ServerLike };
  createServer(options: object, listener: (connection: object) => void): DeferrableServer;
}
interface Files {
  existsSync(path: string): boolean;
}
interface ServeOptions {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly path?: unknown;
  readonly unix?: unknown;
}
type Serve = (first: unknown, ...rest: readonly unknown[]) => WebServer;
interface Globals {
  readonly Deno?: { serve: Serve; readonly pid: number };
  readonly Bun?: { serve: Serve };
  readonly process: { readonly pid: number; getBuiltinModule(name: string): unknown };
}

/** Receives what the program does with the sockets. */
export interface ListenSink {
  /** Prints a line for people. */
  say(line: string): void;
  /**
   * The program listens on an address. `isHeld`: on a socket of the server. `server` is null if it is no server of HTTP. While the
   * program does not accept connections, it answers health checks at `checkPort`; else 0.
   */
  listens(address: string, isHeld: boolean, server: ServedServer | null, checkPort: number): void;
}

/** A place where a program listens. Without a host, it listens on all addresses. */
interface Place {
  readonly port?: number;
  readonly host?: string | undefined;
  readonly path?: string;
}

/** The hosts that stand for all addresses. */
const allHosts: readonly unknown[] = [undefined, null, "", "::", "0.0.0.0"];
/** After this time, a program has usually begun to listen at all its addresses. */
const settledMs = 5000;

/** A socket that the server holds. */
interface Held extends InheritedSocket {
  readonly place: Place;
  isUsed: boolean;
}

/** Replaces the functions with which a program listens. `deferred`: the program does not accept connections yet. */
export async function useInheritedSockets(
  sockets: readonly InheritedSocket[],
  deferred: DeferredAccept | null,
  sink: ListenSink,
): Promise<void> {
  const held = sockets.map((each): Held => ({
    ...each,
    place: placeOf(each.address),
    isUsed: false,
  }));
  const { Deno, Bun } = globalThis as unknown as Globals;
  const load = async (name: string) =>
    Deno ? await import(name) : processOf().getBuiltinModule(name);
  // Deno could ask for a permission.
  const { existsSync } = Deno ? { existsSync: () => true } : await load("node:fs") as Files;
  const watch = new ListenWatch(held, sink, existsSync);
  noteSignalListeners();
  if (Bun) replaceServe(Bun, "Bun.serve", watch);
  if (Deno) replaceServe(Deno, "Deno.serve", watch);
  const { errorMonitor } = await load("node:events") as { readonly errorMonitor: symbol };
  const names = Deno ? ["node:net", "node:http", "node:https"] : ["node:net"];
  const net = await load("node:net") as ServerModule;
  const { close } = net.Server.prototype;
  for (const name of names) {
    const { Server } = await load(name) as ServerModule;
    replaceListen(Server.prototype, watch, errorMonitor, close, deferred && { deferred, net });
  }
  if (Bun) followListen((await load("node:http") as ServerModule).Server.prototype, watch);
}

/** Not read on Deno, where access to `process` loads the Node layer. */
function processOf(): Globals["process"] {
  return (globalThis as unknown as Globals).process;
}

/** The place of an address in the form of the option `listen`. */
function placeOf(address: string): Place {
  if (address.startsWith("unix:")) return { path: address.slice("unix:".length) };
  const [, host, port] = /^(?:(.+):)?(\d+)$/.exec(address) ?? [];
  return { port: Number(port), host: host?.replace(/^\[(.*)\]$/, "$1") };
}

function ownPid(): number {
  return (globalThis as unknown as Globals).Deno?.pid ?? processOf().pid;
}

/** Compares the places where the program listens with those that the server holds. */
class ListenWatch {
  readonly #held: readonly Held[];
  readonly #sink: ListenSink;
  readonly #exists: (path: string) => boolean;
  #isWaiting = false;
  /** A line has told where the program listens. */
  #isTold = false;

  constructor(held: readonly Held[], sink: ListenSink, exists: (path: string) => boolean) {
    this.#held = held;
    this.#sink = sink;
    this.#exists = exists;
  }

  /** True if the server holds a socket for a place. */
  holds(place: Place): boolean {
    return this.#find(place) !== undefined;
  }

  /** Notes that the program listens on a place of which the server holds the socket. */
  noteListening(place: Place, server: ServedServer | null, checkPort = 0): void {
    this.#sink.listens(textOf(place), true, server, checkPort);
  }

  /** The held socket for a place, if no server of this process has used it. */
  take(place: Place): Held | undefined {
    const found = this.#find(place);
    if (found?.isUsed) return undefined;
    if (found === undefined) this.#tellElsewhere(place);
    else found.isUsed = true;
    if (found?.place.path !== undefined && !this.#exists(found.place.path)) {
      // Clients could not connect to the held socket. So the program opens its own.
      this.#sink.say(
        `the program removed the file of ${found.address} before it listened, so connections are refused while no instance runs. ` +
          "Let the program keep the file.",
      );
      this.#sink.listens(found.address, false, null, 0);
      return undefined;
    }
    return found;
  }

  /** A held socket of the same port. */
  #near({ port }: Place): Held | undefined {
    return this.#held.find(({ place }) => port !== undefined && place.port === port);
  }

  /**
   * The held socket for a place. A program that listens on all addresses gets the socket of one address, too: `--listen` may
   * narrow what a program exposes, but never widens it.
   */
  #find(place: Place): Held | undefined {
    const isAll = place.port !== undefined && allHosts.includes(place.host);
    return this.#held.find((each) => isSamePlace(each.place, place)) ??
      this.#held.find((each) => isAll && each.place.port === place.port);
  }

  /** Tells why the program cannot listen at a place. */
  tellInUse(place: Place): void {
    const near = this.#near(place);
    if (near === undefined) return;
    this.#sink.say(
      this.#find(place)
        ? `the program listens on ${near.address} a second time, but sam holds only one socket for the address. ` +
          "Let the program listen once, and keep its server open."
        : `the program cannot listen on ${textOf(place)}, because sam holds ${near.address}. ` +
          `Use --listen ${textOf(place)}, or let the program listen on ${near.address}.`,
    );
  }

  /** Tells that the program listens at another address of a held port. */
  tellBeside(place: Place): void {
    const near = this.#near(place);
    if (near === undefined || this.#find(place)) return;
    this.#isTold = true;
    this.#sink.say(
      `the program listens on ${
        textOf(place)
      }, but sam holds only ${near.address}, so connections to ${textOf(place)} ` +
        `are refused while no instance runs. Add --listen ${textOf(place)}.`,
    );
  }

  /** The place of a held socket that does not listen, and with which the program shares its port. */
  share(place: Place, name: string): Place | undefined {
    const found = this.#find(place);
    if (found === undefined) {
      this.#tellElsewhere(place);
      return undefined;
    }
    found.isUsed = true;
    if (place.path !== undefined) {
      this.#sink.say(
        `${name} cannot take over a Unix socket. Use node:http, or leave out --listen ${found.address}.`,
      );
      return undefined;
    }
    this.#sink.say(
      `${name} cannot take over a listening socket, so connections to ${found.address} are refused while no instance runs. ` +
        "Use node:http in Node or Deno to avoid that.",
    );
    return found.place;
  }

  #tellElsewhere(place: Place): void {
    if (place.port === 0) return;
    this.#sink.listens(textOf(place), false, null, 0);
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    // A program may listen at another address first, for example for metrics.
    const timer = setTimeout(() => {
      const unused = this.#held.filter((each) => !each.isUsed);
      if (this.#isTold || unused.length < this.#held.length) return;
      this.#sink.say(
        `the program listens on ${textOf(place)}, which --listen does not name (${
          unused.map(({ address }) => address).join(", ")
        })`,
      );
    }, settledMs) as unknown as { unref?(): void } | number;
    if (typeof timer === "number") {
      (globalThis as unknown as { Deno: { unrefTimer(id: number): void } }).Deno.unrefTimer(timer);
    } else timer.unref?.();
  }
}

function isSamePlace(held: Place, place: Place): boolean {
  if (held.path !== undefined) return held.path === place.path;
  if (held.port !== place.port) return false;
  if (held.host === undefined) return allHosts.includes(place.host);
  return held.host === place.host ||
    (place.host === "localhost" && (held.host === "127.0.0.1" || held.host === "::1"));
}

function textOf({ port, host, path }: Place): string {
  if (path !== undefined) return `unix:${path}`;
  if (allHosts.includes(host)) return String(port);
  return host!.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** `close` stops accepting. That of node:http would also close connections on which a request may arrive just now. */
function replaceListen(
  prototype: ServerLike,
  watch: ListenWatch,
  errorMonitor: symbol,
  close: () => void,
  deferral: { readonly deferred: DeferredAccept; readonly net: ServerModule } | null,
): void {
  const { listen } = prototype;
  prototype.listen = function (this: ServerLike, ...args: unknown[]): ServerLike {
    const place = placeOfListen(args);
    const socket = place && watch.take(place);
    if (socket === undefined) {
      // A listener for "error" itself would count as the program's, and hide the error.
      if (place?.port) {
        this.once(errorMonitor, ({ code }) => {
          if (code === "EADDRINUSE") watch.tellInUse(place);
        });
        this.once("listening", () => watch.tellBeside(place));
      }
      return listen.apply(this, args);
    }
    const [first] = args;
    const options = typeof first === "object" ? first : {};
    const callback = args.findLast((each) => typeof each === "function");
    const { port: _port, host: _host, path: _path, ...rest } = options as Record<string, unknown>;
    const server = this.closeIdleConnections === undefined
      ? null
      : followNodeServer(this, ownPid(), {
        isSecure: this.setSecureContext !== undefined,
        closesIdle: false,
      }, () => close.call(this));
    const held = [{ ...rest, fd: socket.fd }, ...(callback === undefined ? [] : [callback])];
    const note = (checkPort: number) => watch.noteListening(socket.place, server, checkPort);
    // A health check by HTTPS could not verify the name of another port.
    if (deferral && this.setSecureContext === undefined) {
      deferral.deferred.listen(deferral.net, this, listen, held, note);
      return this;
    }
    this.once("listening", () => note(0));
    return listen.apply(this, held);
  };
}

/** Follows the requests of `node:http` on Bun, which opens its socket by `Bun.serve`. */
function followListen(prototype: ServerLike, watch: ListenWatch): void {
  const { listen } = prototype;
  prototype.listen = function (this: ServerLike, ...args: unknown[]): ServerLike {
    const place = placeOfListen(args);
    if (place && watch.holds(place)) {
      const server = followNodeServer(
        this,
        ownPid(),
        { isSecure: false, closesIdle: true },
        () => this.close(),
      );
      this.once("listening", () => watch.noteListening(place, server));
    }
    return listen.apply(this, args);
  };
}

/** The place of a call of `listen()`; undefined if it has a descriptor or a handle. */
function placeOfListen([first, second]: readonly unknown[]): Place | undefined {
  if (typeof first === "object" && first !== null) {
    const { port, host, path, fd, _handle } = first as Record<string, unknown>;
    if (fd !== undefined || _handle !== undefined) return undefined;
    if (typeof path === "string" && port === undefined) return { path: absolute(path) };
    return port === undefined
      ? undefined
      : { port: Number(port), host: host as string | undefined };
  }
  if (typeof first === "string" && !/^\d+$/.test(first)) return { path: absolute(first) };
  if (typeof first !== "number" && typeof first !== "string") return undefined;
  return { port: Number(first), host: typeof second === "string" ? second : undefined };
}

/** The absolute path of a Unix socket. */
function absolute(path: string): string {
  if (/^[/\0]/.test(path) || launch.cwd === undefined) return path;
  return `${launch.cwd}/${path.replace(/^(\.\/+)+/, "")}`;
}

function replaceServe(runtime: { serve: Serve }, name: string, watch: ListenWatch): void {
  const { serve } = runtime;
  const isBun = name === "Bun.serve";
  runtime.serve = (first, ...rest) => {
    const options = (typeof first === "object" && first !== null ? first : {}) as ServeOptions;
    const place: Place = typeof (options.unix ?? options.path) === "string"
      ? { path: String(options.unix ?? options.path) }
      : {
        port: Number(options.port ?? (isBun ? bunPort() : denoPort)),
        host: options.hostname as string | undefined,
      };
    const shared = watch.share(place, name);
    if (shared === undefined) return serve(first, ...rest);
    const requests = new WebRequests(ownPid());
    const more = { reusePort: true, ...(shared.host !== undefined && { hostname: shared.host }) };
    // node:http of Bun opens its socket here: see followListen().
    if ("onNodeHTTPRequest" in options) return serve({ ...options, ...more }, ...rest);
    const [handler = first] = rest;
    const server = typeof handler === "function"
      ? serve(
        typeof first === "function" ? more : { ...options, ...more },
        requests.replaceHandler(handler as Parameters<WebRequests["replaceHandler"]>[0]),
      )
      : serve(Object.assign(requests.replaceHandlers(options), more), ...rest);
    if (isBun) replaceReload(server as BunServer, requests);
    watch.noteListening(place, requests.served(server));
    return server;
  };
}

/** A server of `Bun.serve`, whose handlers can be replaced later. */
interface BunServer extends WebServer {
  reload(options: object): unknown;
}

function replaceReload(server: BunServer, requests: WebRequests): void {
  const { reload } = server;
  server.reload = (options) => reload.call(server, requests.replaceHandlers(options));
}

/** The port of `Deno.serve` without the option `port`. */
const denoPort = 8000;

/** The port of `Bun.serve` without the option `port`. */
function bunPort(): string {
  const { env } = processOf() as unknown as { env: Record<string, string | undefined> };
  return env["BUN_PORT"] ?? env["PORT"] ?? env["NODE_PORT"] ?? "3000";
}
