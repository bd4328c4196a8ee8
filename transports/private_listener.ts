/**
 * The server's side of a private socket: a Unix socket in a directory that only this user may enter, for one connection, the
 * first that says the nonce. Others are refused, those of other users before they have said anything. The names are gone from
 * the file system as soon as that connection is there.
 */
import { SamError } from "../src/errors.ts";
import type { Stream } from "../src/runtime/runtime.ts";
import { strayDirectories } from "./private_directories.ts";
import { addressOf, isRefusal, nonceBytes, removeNames, socketIn } from "./private_socket.ts";
import { streamLink } from "./stream_link.ts";
import type { Link, TransportRuntime } from "./transport.ts";

/** The longest path the system takes; a longer one would be cut by some runtimes without a word. */
const maxPathBytes = 107;
/** The number of connections that may be open and have not said the nonce yet; the oldest goes first. */
const maxStrangers = 8;

/** A socket that waits for its one connection. */
export interface Socket {
  /** What `connectSocket` needs: the nonce and the path. */
  readonly address: string;
  /** Calls back with the link, once. */
  accept(onLink: (link: Link) => void): void;
  /** Stops waiting, and removes the names. */
  close(): void;
}

/**
 * Opens a socket in `directory`, in which the active process may find, or leave, a page. `adopt` makes the link of the
 * one connection; after it all names are removed.
 */
export async function openSocket(
  runtime: TransportRuntime,
  directory: string,
  adopt: (link: Link) => Link | Promise<Link>,
): Promise<Socket> {
  const path = socketIn(directory);
  const remove = () => removeNames(runtime, directory);
  swept ??= sweep(runtime, directory).catch(() => {}); // a server does not end because it could not tidy up
  const pathBytes = new TextEncoder().encode(path).length;
  if (pathBytes > maxPathBytes) {
    remove();
    throw new SamError(
      "LIBRARY",
      `the socket's path has ${pathBytes} bytes, the system takes ${maxPathBytes}: set TMPDIR to a shorter one than ${directory}`,
    );
  }

  const nonce = crypto.getRandomValues(new Uint8Array(nonceBytes));
  const strangers = new Set<Link>();
  let known: Link | null = null;
  let waiting: ((link: Link) => void) | null = null;
  let open = true;
  let taken = false;

  const meet = (stream: Stream, isOurs: boolean) => {
    if (!open || !isOurs) return stream.close();
    const link = streamLink(stream);
    const [oldest] = strangers;
    if (strangers.size >= maxStrangers) oldest!.close();
    strangers.add(link);
    link.receive({
      frame(frame) {
        strangers.delete(link);
        if (!open || taken || !sameBytes(frame, nonce)) return link.close();
        taken = true;
        link.receive(null);
        void take(link);
      },
      heartbeat: () => link.close(), // nobody has one before the nonce
      end: () => strangers.delete(link),
    });
  };
  const listener = await runtime.listen(path, (stream) => {
    peerCheck(runtime).then((check) => meet(stream, check(stream))).catch(() => stream.close());
  }).catch((error) => {
    remove();
    throw error;
  });

  async function take(link: Link): Promise<void> {
    try {
      known = await adopt(link);
    } catch {
      return link.close(); // the program learns that it has no server
    }
    close();
    waiting?.(known);
  }

  function close(): void {
    if (!open) return;
    open = false;
    listener.close();
    for (const link of strangers) link.close();
    remove();
  }

  return {
    address: addressOf(nonce, path),
    accept(onLink) {
      void peerCheck(runtime); // loaded while the program starts
      if (known) onLink(known);
      else waiting = onLink;
    },
    close,
  };
}

let checked: Promise<(stream: Stream) => boolean> | undefined;

/** True if a connection comes from this user, or root; each does where that cannot be known. */
function peerCheck(runtime: TransportRuntime): Promise<(stream: Stream) => boolean> {
  return checked ??= openCheck(runtime).catch(() => () => true);
}

async function openCheck(runtime: TransportRuntime): Promise<(stream: Stream) => boolean> {
  if (!runtime.exposesDescriptors) return () => true;
  const check = await (await import("../src/ffi/peer_credentials.ts")).openPeerCheck();
  return ({ descriptor = -1 }) => check(descriptor);
}

let swept: Promise<void> | undefined;

/** Removes the private directories that killed servers have left. */
async function sweep(runtime: TransportRuntime, own: string): Promise<void> {
  for (const { path, abandoned } of strayDirectories(await runtime.temporaryFiles(), own)) {
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

/** Compares in a time that does not depend on where the first difference is. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let at = 0; at < b.length; at++) difference |= (a[at] ?? 0) ^ b[at]!;
  return difference === 0;
}
