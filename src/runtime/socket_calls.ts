/** The functions that open listening sockets. `src/ffi` implements them by calls of C, and `node_sockets.ts` without C. */

/** The address of a socket: a host and a port, or the path of a Unix socket. */
export type SocketAddress =
  | { readonly host: string; readonly port: number; readonly path?: undefined }
  | { readonly path: string };

/** The use of a socket: it listens, or only reserves its port, which sockets with SO_REUSEPORT of the same user can share. */
export type SocketUse = "listen" | "reserve";

/** A second descriptor of a socket. */
export interface DuplicateSocket {
  readonly descriptor: number;
  close(): void;
}

/** The functions for sockets. Failed calls throw a `SocketError`. */
export interface SocketCalls {
  /** True if sockets can be opened for the use `"reserve"`. */
  readonly canReserve: boolean;
  /** Opens a socket, and returns its descriptor, which other processes do not inherit. */
  open(address: SocketAddress, use: SocketUse): Promise<number>;
  /** Returns the address of an inherited descriptor; undefined if it is no listening socket of a known kind. */
  addressOf(descriptor: number): SocketAddress | undefined;
  /** Keeps other processes from inheriting a descriptor. */
  keep(descriptor: number): void;
  /**
   * Returns a new descriptor of the same socket, with a number from 10 on. `close()` gives the socket the mode back, blocking or
   * not, that it had before. All processes that have the socket share this mode.
   */
  duplicate(descriptor: number, isInherited: boolean): DuplicateSocket;
  /** Closes a descriptor. */
  close(descriptor: number): void;
  /** Frees the functions. Call it when all descriptors are closed. */
  end(): void;
}

/** The reason why a socket could not be opened. */
export class SocketError extends Error {
  /** The name of the system error, such as `EADDRINUSE`; its number if SAM does not know the name. */
  readonly code: string;

  /** Creates an error with the name of a system error. */
  constructor(code: string, call: string) {
    super(`${call}: ${code}`);
    this.code = code;
  }
}
