/**
 * The servers with which a program serves the sockets of its SAM server. They refuse health checks that are meant for another
 * process behind the same socket, and they finish their requests before the process ends.
 */
import type { Signal } from "../core/signals.ts";

/** The header of a health check: the id of the process that must answer. */
export const checkHeader = "sam-check";
/** The header of a health check at another port than that of its URL: the host and port of the URL. `fetch` sets Host itself. */
export const checkHostHeader = "sam-check-host";
/** The header User-Agent of a health check of a program that counts its requests: this one does not count. */
export const checkAgent = "sam-check";
/** The connections at the port of a replacement for health checks. Only there does `checkHostHeader` count. */
export const checkConnections: WeakSet<object> = new WeakSet();
/** The status of the answer of any other process: the request was misdirected. */
export const misdirected = 421;

/** Time for which an idle connection stays open, in milliseconds. A request on it gets an answer that closes the connection. */
export const idleMs = 250;
/** Time for the first request of a new connection, in milliseconds. */
export const newMs = 1000;

/** A server of the program. */
export interface ServedServer {
  /**
   * From now on, each answer closes its connection. Resolves when clients that send requests again and again have got such an
   * answer. The server goes on.
   */
  closeKept(): Promise<void>;
  /** Stops accepting connections. Resolves when no request is left. */
  drain(): Promise<void>;
}

/** True if a health check is meant for another process. `pid` is the id of this process. */
export function isMisdirected(check: string | null | undefined, pid: number): boolean {
  return check !== null && check !== undefined && check !== String(pid);
}

interface DenoSignals {
  addSignalListener(signal: Signal, listener: () => void): void;
  removeSignalListener(signal: Signal, listener: () => void): void;
  kill(pid: number, signal: Signal): void;
  readonly pid: number;
  exit(code: number): never;
}
interface ProcessSignals {
  readonly pid: number;
  listenerCount(signal: Signal): number;
  kill(pid: number, signal: Signal): void;
}
const { Deno } = globalThis as unknown as { readonly Deno?: DenoSignals };
/** Not read on Deno before it is needed, because access to `process` loads the Node layer. */
const ownProcess = () => (globalThis as unknown as { readonly process: ProcessSignals }).process;

/** The listeners that the program has added by `Deno.addSignalListener()`. */
const listeners = new Map<Signal, Set<() => void>>();

/** Notes the signals that the program handles itself. Deno does not tell which ones these are. */
export function noteSignalListeners(): void {
  if (Deno === undefined) return;
  const { addSignalListener, removeSignalListener } = Deno;
  Deno.addSignalListener = (signal, listener) => {
    addSignalListener(signal, listener);
    listeners.set(signal, (listeners.get(signal) ?? new Set()).add(listener));
  };
  Deno.removeSignalListener = (signal, listener) => {
    removeSignalListener(signal, listener);
    listeners.get(signal)?.delete(listener);
  };
}

/** True if the program handles a signal itself. */
function isHandled(signal: Signal): boolean {
  return (listeners.get(signal)?.size ?? 0) > 0 || ownProcess().listenerCount(signal) > 0;
}

/**
 * Ends this process by a signal. If the program does not handle the signal, its servers first finish their requests, because the
 * signal would end the process at once. If the program does, its handler usually calls `server.close()`. That would wait for
 * connections on which clients go on to send requests, so these are closed first.
 */
export async function endBySignal(
  signal: Signal,
  servers: readonly ServedServer[],
): Promise<void> {
  const isOwn = isHandled(signal);
  await Promise.allSettled(servers.map((server) => isOwn ? server.closeKept() : server.drain()));
  if (Deno === undefined) {
    const { pid } = ownProcess();
    return ownProcess().kill(pid, signal);
  }
  try {
    Deno.kill(Deno.pid, signal);
  } catch {
    Deno.exit(0); // without --allow-run, Deno sends no signals
  }
}
