/**
 * A private socket: a Unix socket in a directory that only this user may enter, perhaps with a shared file beside it. Here are
 * the names, and the active side; `private_listener.ts` has the server's side.
 */
import { atEnd, streamLink } from "./stream_link.ts";
import type { Link, TransportRuntime } from "./transport.ts";

/** The name of the socket in a private directory. */
export const socketName = "s";
/** The name of the shared file in a private directory. */
export const fileName = "p";
/** The length of the secret that the active side says first. */
export const nonceBytes = 16;

/**
 * The name of a private directory: the process namespace and the process id of its server. The end is what `mkdtemp` of Node and
 * Bun chooses, or `makeTempDir` of Deno: a number of 64 bits.
 */
export const namePattern: RegExp =
  /^sam-(x?[01][0-9a-z]{6})-([1-9a-z][0-9a-z]{0,4})-([0-9A-Za-z]{6}|[0-9a-f]{8,16})$/;

/** True if the last part of a path is the name of a private directory. */
export function isPrivateName(path: string): boolean {
  return namePattern.test(path.slice(path.lastIndexOf("/") + 1));
}

/** The path of the socket in a directory. */
export function socketIn(directory: string): string {
  return `${directory}/${socketName}`;
}

/** The path of the shared file in a directory. */
export function fileIn(directory: string): string {
  return `${directory}/${fileName}`;
}

/** What the active side needs: the nonce, in hexadecimal digits, and the path of the socket. */
export function addressOf(nonce: Uint8Array, path: string): string {
  const digits = Array.from(nonce, (byte) => byte.toString(16).padStart(2, "0"));
  return `${digits.join("")}${path}`;
}

/** The path in an address. */
function pathOf(address: string): string {
  return address.slice(2 * nonceBytes);
}

/** The directory in an address. */
export function directoryOf(address: string): string {
  return pathOf(address).slice(0, -`/${socketName}`.length);
}

/** Removes a private directory, one name after the other. An address may name another directory: that stays. */
export function removeNames(runtime: TransportRuntime, directory: string): void {
  if (!isPrivateName(directory)) return;
  runtime.remove(socketIn(directory), fileIn(directory), directory);
}

/** True if there is a socket, but nobody listens. */
export function isRefusal(error: unknown): boolean {
  const { code, name, cause } = error as { code?: string; name?: string; cause?: unknown };
  return code === "ECONNREFUSED" || name === "ConnectionRefused" ||
    (typeof cause === "object" && cause !== null && isRefusal(cause));
}

/** Connects to a socket that a server has opened. `overflow` counts the heartbeats that the stream would hold back. */
export async function connectSocket(
  runtime: TransportRuntime,
  address: string,
  overflow?: { add(): void },
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

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
