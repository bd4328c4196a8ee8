/**
 * The server's side of a private socket: a Unix socket in a directory that only this user can enter. It admits one
 * connection, the first client that presents the nonce. Clients of other users are refused before they can send
 * anything. As soon as the connection is admitted, the socket and its directory are removed from the file system.
 */
import { SamError } from "../src/errors.ts";
import type { Stream } from "../src/runtime/runtime.ts";
import { leftoverDirectories } from "./private_directories.ts";
import {
  addressOf,
  isRefusal,
  nonceBytes,
  placeOfWorker,
  removeNames,
  socketIn,
} from "./private_socket.ts";
import { streamLink } from "./stream_link.ts";
import type { Link, TransportRuntime } from "./transport.ts";

/** The longest path of a Unix socket (`sun_path`). Some runtimes would silently truncate a longer one. */
const maxPathBytes = 107;
/** The limit of open connections that have not presented the nonce. A further one replaces the oldest. */
const maxUnverified = 8;

/** A listening private socket. */
export interface Socket {
  /** The nonce and the path, for `connectSocket`. */
  readonly address: string;
  /** The secret that the client must present. */
  readonly nonce: Uint8Array;
  /** Calls `onLink` once, with the link of the admitted client. */
  accept(onLink: (link: Link) => void): void;
  /** Stops listening, and removes the socket and its directory. */
  close(): void;
}

/**
 * Opens a private socket in `directory`, which may also contain a shared file. `adopt` receives the admitted client's
 * link and returns the link to use; afterwards the directory is removed. The default nonce is random.
 */
export async function openSocket(
  runtime: TransportRuntime,
  directory: string,
  adopt: (link: Link) => Link | Promise<Link>,
  nonce: Uint8Array = crypto.getRandomValues(new Uint8Array(nonceBytes)),
): Promise<Socket> {
  const path = socketIn(directory);
  const remove = () => removeNames(runtime, directory);
  // Leftover directories do no harm, so a failure to remove them must not end the server.
  swept ??= sweep(runtime, directory).catch(() => {});
  const pathBytes = new TextEncoder().encode(path).length;
  if (pathBytes > maxPathBytes) {
    remove();
    throw new SamError(
      "LIBRARY",
      `cannot listen on ${path}: the path has ${pathBytes} bytes, and the system allows ${maxPathBytes}. Set TMPDIR to a directory with a shorter path.`,
    );
  }

  const unverified = new Set<Link>();
  let admitted: Link | null = null;
  let waiting: ((link: Link) => void) | null = null;
  let open = true;
  let isNonceUsed = false;

  const verify = (stream: Stream, isOurs: boolean) => {
    if (!open || !isOurs) return stream.close();
    const link = streamLink(stream);
    const [oldest] = unverified;
    if (unverified.size >= maxUnverified) oldest!.close();
    unverified.add(link);
    link.receive({
      frame(frame) {
        unverified.delete(link);
        if (!open || isNonceUsed || !sameBytes(frame, nonce)) return link.close();
        isNonceUsed = true;
        link.receive(null);
        void admit(link);
      },
      heartbeat: () => link.close(), // a program sends the nonce before any heartbeat
      end: () => unverified.delete(link),
    });
  };
  const listener = await runtime.listen(path, (stream) => {
    peerCheck(runtime).then((check) => verify(stream, check(stream))).catch(() => stream.close());
  }).catch((error) => {
    remove();
    throw error;
  });

  async function admit(link: Link): Promise<void> {
    try {
      admitted = await adopt(link);
    } catch {
      return link.close(); // the program sees the end of its link, as if the server were gone
    }
    close();
    waiting?.(admitted);
  }

  function close(): void {
    if (!open) return;
    open = false;
    listener.close();
    for (const link of unverified) link.close();
    remove();
  }

  return {
    address: addressOf(nonce, path),
    nonce,
    accept(onLink) {
      void peerCheck(runtime); // loads the C library while the program starts, not when it connects
      if (admitted) onLink(admitted);
      else waiting = onLink;
    },
    close,
  };
}

/** Opens a private socket for the worker of node:cluster with this key. `directory` is that of its instance. */
export async function openWorkerSocket(
  runtime: TransportRuntime,
  directory: string,
  key: string,
): Promise<Socket> {
  const place = placeOfWorker(directory, key);
  await (await runtime.temporaryFiles()).makeExactDirectory(place.directory);
  return await openSocket(runtime, place.directory, (link) => link, place.nonce);
}

/** Makes the private directory of an ended link again, with the same name. Fails if the name exists: another user may own it. */
export async function remakeDirectory(
  runtime: TransportRuntime,
  directory: string,
): Promise<void> {
  removeNames(runtime, directory); // the ended process may have left its shared file
  await (await runtime.temporaryFiles()).makeExactDirectory(directory);
}

let checked: Promise<(stream: Stream) => boolean> | undefined;

/** Checks that a connection comes from this user or root. Accepts every connection where the runtime cannot tell. */
function peerCheck(runtime: TransportRuntime): Promise<(stream: Stream) => boolean> {
  return checked ??= openCheck(runtime).catch(() => () => true);
}

async function openCheck(runtime: TransportRuntime): Promise<(stream: Stream) => boolean> {
  if (!runtime.exposesDescriptors) return () => true;
  const check = await (await import("../src/ffi/peer_credentials.ts")).openPeerCheck();
  return ({ descriptor = -1 }) => check(descriptor);
}

let swept: Promise<void> | undefined;

/** Removes the private directories that killed servers left behind. */
async function sweep(runtime: TransportRuntime, own: string): Promise<void> {
  for (const { path, abandoned } of leftoverDirectories(await runtime.temporaryFiles(), own)) {
    if (abandoned) removeNames(runtime, path);
    else {
      try {
        (await runtime.connect(socketIn(path))).close();
      } catch (error) {
        if (isRefusal(error)) removeNames(runtime, path);
      }
    }
  }
}

/** Compares in constant time, so that the timing does not reveal how many bytes of a guess were right. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let at = 0; at < b.length; at++) difference |= (a[at] ?? 0) ^ b[at]!;
  return difference === 0;
}
