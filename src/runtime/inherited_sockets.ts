/**
 * Turns the calls with which a program listens into uses of the sockets that its server holds. The program need not know of them.
 *
 * - `server.listen()` of `node:net` and `node:http` takes the inherited descriptor.
 * - `Bun.serve` and `Deno.serve` cannot take a descriptor. They share the port with `reusePort`.
 */
import type { InheritedSocket } from "./launch.ts";

/** The program's own servers, as far as they are used here. */
interface ServerLike {
  listen(...args: unknown[]): ServerLike;
  once(event: symbol, listener: (error: { readonly code?: string }) => void): unknown;
}
interface ServerModule {
  readonly Server: { readonly prototype: ServerLike };
}
interface ServeOptions {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly path?: unknown;
  readonly unix?: unknown;
}
type Serve = (first: unknown, ...rest: readonly unknown[]) => unknown;
interface Globals {
  readonly Deno?: { serve: Serve };
  readonly Bun?: { serve: Serve };
  readonly process: { getBuiltinModule(name: string): unknown };
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

/** Replaces the functions with which a program listens. `say` prints a line; it is called when the program listens. */
export async function useInheritedSockets(
  sockets: readonly InheritedSocket[],
  say: (line: string) => void,
): Promise<void> {
  const held = sockets.map((each): Held => ({
    ...each,
    place: placeOf(each.address),
    isUsed: false,
  }));
  const { Deno, Bun } = globalThis as unknown as Globals;
  const watch = new ListenWatch(held, say);
  if (Bun) replaceServe(Bun, "Bun.serve", watch);
  if (Deno) replaceServe(Deno, "Deno.serve", watch);
  const load = async (name: string) =>
    Deno ? await import(name) : processOf().getBuiltinModule(name);
  const { errorMonitor } = await load("node:events") as { readonly errorMonitor: symbol };
  const names = Deno ? ["node:net", "node:http", "node:https"] : ["node:net"];
  for (const name of names) {
    const { Server } = await load(name) as ServerModule;
    replaceListen(Server.prototype, watch, errorMonitor);
  }
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

/** Compares the places where the program listens with those that the server holds. */
class ListenWatch {
  readonly #held: readonly Held[];
  readonly #say: (line: string) => void;
  #isWaiting = false;

  constructor(held: readonly Held[], say: (line: string) => void) {
    this.#held = held;
    this.#say = say;
  }

  /** The held socket for a place, if no server of this process has used it. */
  take(place: Place): Held | undefined {
    const found = this.#find(place);
    if (found?.isUsed) return undefined;
    if (found === undefined) this.#tellElsewhere(place);
    else found.isUsed = true;
    return found;
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
    const near = this.#held.find((each) => each.place.port === place.port);
    if (near === undefined) return;
    this.#say(
      this.#find(place)
        ? `the program listens on ${near.address} a second time, but sam holds only one socket for the address. ` +
          "Let the program listen once, and keep its server open."
        : `the program cannot listen on ${textOf(place)}, because sam holds ${near.address}. ` +
          `Use --listen ${textOf(place)}, or let the program listen on ${near.address}.`,
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
      this.#say(
        `${name} cannot take over a Unix socket. Use node:http, or leave out --listen ${found.address}.`,
      );
      return undefined;
    }
    this.#say(
      `${name} cannot take over a listening socket, so connections to ${found.address} are refused while no instance runs. ` +
        "Use node:http in Node or Deno to avoid that.",
    );
    return found.place;
  }

  #tellElsewhere(place: Place): void {
    if (place.port === 0 || this.#isWaiting) return;
    this.#isWaiting = true;
    // A program may listen at another address first, for example for metrics.
    const timer = setTimeout(() => {
      const unused = this.#held.filter((each) => !each.isUsed);
      if (unused.length < this.#held.length) return;
      this.#say(
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

function replaceListen(prototype: ServerLike, watch: ListenWatch, errorMonitor: symbol): void {
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
      }
      return listen.apply(this, args);
    }
    const [first] = args;
    const options = typeof first === "object" ? first : {};
    const callback = args.findLast((each) => typeof each === "function");
    const { port: _port, host: _host, path: _path, ...rest } = options as Record<string, unknown>;
    return listen.apply(this, [
      { ...rest, fd: socket.fd },
      ...(callback === undefined ? [] : [callback]),
    ]);
  };
}

/** The place of a call of `listen()`; undefined if it has a descriptor or a handle. */
function placeOfListen([first, second]: readonly unknown[]): Place | undefined {
  if (typeof first === "object" && first !== null) {
    const { port, host, path, fd, _handle } = first as Record<string, unknown>;
    if (fd !== undefined || _handle !== undefined) return undefined;
    if (typeof path === "string" && port === undefined) return { path };
    return port === undefined
      ? undefined
      : { port: Number(port), host: host as string | undefined };
  }
  if (typeof first === "string" && !/^\d+$/.test(first)) return { path: first };
  if (typeof first !== "number" && typeof first !== "string") return undefined;
  return { port: Number(first), host: typeof second === "string" ? second : undefined };
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
    const more = { reusePort: true, ...(shared.host !== undefined && { hostname: shared.host }) };
    return typeof first === "function"
      ? serve(more, first, ...rest)
      : serve({ ...options, ...more }, ...rest);
  };
}

/** The port of `Deno.serve` without the option `port`. */
const denoPort = 8000;

/** The port of `Bun.serve` without the option `port`. */
function bunPort(): string {
  const { env } = processOf() as unknown as { env: Record<string, string | undefined> };
  return env["BUN_PORT"] ?? env["PORT"] ?? env["NODE_PORT"] ?? "3000";
}
