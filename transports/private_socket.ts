/**
 * A private socket: a Unix socket in a directory that only this user can enter, with or without a shared file beside
 * it. This module has the file names and the active side; `private_listener.ts` has the server's side.
 */
import { SamError } from "../src/errors.ts";
import { streamLink, withEndHook } from "./stream_link.ts";
import type { Link, TransportRuntime } from "./transport.ts";

/** The name of the socket in a private directory. */
export const socketName = "s";
/** The name of the shared file in a private directory. */
export const fileName = "p";
/** The length of the nonce, the secret that the active side sends first. */
export const nonceBytes = 16;

/**
 * Matches the name of a private directory: process namespace, process id of the server, random suffix. The suffix comes
 * from `mkdtemp` (Node, Bun: six characters) or from `makeTempDir` (Deno: a 64-bit number).
 */
export const namePattern: RegExp =
  /^sam-(x?[01][0-9a-z]{6})-([1-9a-z][0-9a-z]{0,4})-([0-9A-Za-z]{6}|[0-9a-f]{8,16})$/;

/** True if the last part of a path is the name of a private directory. */
export function isPrivateName(path: string): boolean {
  return namePattern.test(path.slice(path.lastIndexOf("/") + 1));
}

export function socketIn(directory: string): string {
  return `${directory}/${socketName}`;
}

export function fileIn(directory: string): string {
  return `${directory}/${fileName}`;
}

/** The address for the active side: the nonce in hexadecimal digits, followed by the path of the socket. */
export function addressOf(nonce: Uint8Array, path: string): string {
  const digits = Array.from(nonce, (byte) => byte.toString(16).padStart(2, "0"));
  return `${digits.join("")}${path}`;
}

function pathOf(address: string): string {
  return address.slice(2 * nonceBytes);
}

/** The private directory of an address. */
export function directoryOf(address: string): string {
  return pathOf(address).slice(0, -`/${socketName}`.length);
}

/**
 * The private directory of an address, for a client. Throws ACCESS if it belongs to another user, and the error of the system if
 * it is missing. The name of a directory is free after a program has connected, and a later program below the same wrapper still has
 * the address.
 */
export function ownDirectoryOf(runtime: TransportRuntime, address: string): string {
  const directory = directoryOf(address);
  if (!runtime.isForeign?.(directory)) return directory;
  throw new SamError(
    "ACCESS",
    `${directory} belongs to another user, so this program does not connect to it: start the program again with its SAM server`,
  );
}

/** Hexadecimal digits of a worker's key that name its directory. The others are its nonce. */
const workerNameDigits = 16;

/**
 * The private directory and the nonce of a worker of node:cluster. The directory is beside `directory`, that of its instance. The
 * instance, which knows the address of its own socket, finds the address of the worker's in the same way.
 */
export function placeOfWorker(
  directory: string,
  key: string,
): { readonly directory: string; readonly nonce: Uint8Array } {
  return {
    directory: directory.slice(0, directory.lastIndexOf("-") + 1) + key.slice(0, workerNameDigits),
    nonce: fromHex(key.slice(workerNameDigits)),
  };
}

/**
 * Removes a private directory and its files. A directory with any other name is left alone, because the address comes
 * from the environment and may name anything.
 */
export function removeNames(runtime: TransportRuntime, directory: string): void {
  if (!isPrivateName(directory)) return;
  runtime.remove(socketIn(directory), fileIn(directory), directory);
}

/** True if the socket exists, but no process listens on it. */
export function isRefusal(error: unknown): boolean {
  const { code, name, cause } = error as { code?: string; name?: string; cause?: unknown };
  return code === "ECONNREFUSED" || name === "ConnectionRefused" ||
    (typeof cause === "object" && cause !== null && isRefusal(cause));
}

/**
 * Connects to the private socket at `address`. `counter` counts the heartbeats that the runtime would delay in a loop
 * that never yields.
 */
export async function connectSocket(
  runtime: TransportRuntime,
  address: string,
  counter?: { add(): void },
): Promise<Link> {
  const link = await connectWorker(runtime, address, counter).catch((error) => {
    if (isRefusal(error)) removeNames(runtime, directoryOf(address)); // the server was killed
    throw error;
  });
  // A server that was killed before it read the nonce could not remove its directory.
  return withEndHook(link, () => removeNames(runtime, directoryOf(address)));
}

/** Connects like `connectSocket`, and leaves the socket there if no process listens: the server may be about to. */
export async function connectWorker(
  runtime: TransportRuntime,
  address: string,
  counter?: { add(): void },
): Promise<Link> {
  ownDirectoryOf(runtime, address);
  const link = streamLink(await runtime.connect(pathOf(address)), counter);
  link.send(fromHex(address.slice(0, 2 * nonceBytes)));
  return link;
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
