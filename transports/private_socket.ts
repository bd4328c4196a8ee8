/**
 * A Unix socket in a directory that only this user may enter, for one connection: the first that says the nonce. Others
 * are refused, those of other users before they have said anything; the names are gone from the file system as soon as it
 * is there.
 */
import { SamError } from "../src/errors.ts";
import { isPrivateName, pageName, socketName } from "../src/runtime/private_directories.ts";
import type { Page, Runtime, Stream } from "../src/runtime/runtime.ts";
import { atEnd } from "./paged_link.ts";
import { streamLink } from "./stream_link.ts";
import type { Link } from "./transport.ts";

/** The longest path the system takes; a longer one would be cut by some runtimes without a word. */
const maxPathBytes = 107;
const nonceBytes = 16;
/** So many connections may be open that have not said the nonce yet; the oldest goes first. */
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
  runtime: Runtime,
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
    address: `${toHex(nonce)}${path}`,
    accept(onLink) {
      void peerCheck(runtime); // loaded while the program starts
      if (known) onLink(known);
      else waiting = onLink;
    },
    close,
  };
}

let checked: Promise<(stream: Stream) => boolean> | undefined;

/** Whether a connection comes from this user, or root; each does where that cannot be known. */
function peerCheck(runtime: Runtime): Promise<(stream: Stream) => boolean> {
  return checked ??= openCheck(runtime).catch(() => () => true);
}

async function openCheck(runtime: Runtime): Promise<(stream: Stream) => boolean> {
  if (!runtime.tellsDescriptors) return () => true;
  const check = await (await import("../src/ffi/peer_credentials.ts")).openPeerCheck();
  return ({ descriptor = -1 }) => check(descriptor);
}

let swept: Promise<void> | undefined;

/** Removes the private directories that killed servers have left. */
async function sweep(runtime: Runtime, own: string): Promise<void> {
  for (const { path, abandoned } of runtime.strayDirectories(own)) {
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

/** Removes a private directory, one name after the other. An address may name another directory: that stays. */
function removeNames(runtime: Runtime, directory: string): void {
  if (!isPrivateName(directory)) return;
  runtime.remove(socketIn(directory), pageIn(directory), directory);
}

/** There is a socket, but nobody listens. */
function isRefusal(error: unknown): boolean {
  const { code, name, cause } = error as { code?: string; name?: string; cause?: unknown };
  return code === "ECONNREFUSED" || name === "ConnectionRefused" ||
    (typeof cause === "object" && cause !== null && isRefusal(cause));
}

/** Connects to a socket opened by `openSocket`. */
export async function connectSocket(
  runtime: Runtime,
  address: string,
  overflow?: Page,
): Promise<Link> {
  const stream = await runtime.connect(pathOf(address)).catch((error) => {
    if (isRefusal(error)) removeNames(runtime, directoryOf(address)); // the server was killed
    throw error;
  });
  const link = streamLink(stream, overflow);
  link.send(fromHex(address.slice(0, 2 * nonceBytes)));
  // A server that was killed before it read the nonce has left its names.
  return atEnd(link, () => removeNames(runtime, directoryOf(address)));
}

/** The path in an address. */
function pathOf(address: string): string {
  return address.slice(2 * nonceBytes);
}

/** The directory in an address. */
export function directoryOf(address: string): string {
  return pathOf(address).slice(0, -`/${socketName}`.length);
}

/** The path of the socket in a directory. */
function socketIn(directory: string): string {
  return `${directory}/${socketName}`;
}

/** The path of the page in a directory. */
export function pageIn(directory: string): string {
  return `${directory}/${pageName}`;
}

/** Compares in a time that does not depend on where the first difference is. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let at = 0; at < b.length; at++) difference |= (a[at] ?? 0) ^ b[at]!;
  return difference === 0;
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
