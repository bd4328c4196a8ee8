/**
 * The listening sockets that a server holds for its program. The server never accepts a connection. While no instance runs,
 * connections wait in the kernel, and the next instance serves them.
 */
import { loadSocketCalls } from "../ffi/listening_sockets.ts";
import type { CheckedProgram } from "../api/program.ts";
import type { ListenAddress } from "../api/supervise_options.ts";
import { SamError } from "../errors.ts";
import type { PassedSocket, Runtime } from "../runtime/runtime.ts";
import type {
  SocketAddress,
  SocketCalls,
  SocketError,
  SocketUse,
} from "../runtime/socket_calls.ts";

type SocketsRuntime = Pick<Runtime, "temporaryFiles" | "remove" | "connect">;

/** The sockets of one program. */
export interface HeldSockets {
  /** The sockets, in the order of the option. */
  readonly sockets: readonly PassedSocket[];
  /** Closes the sockets that were opened for the program, and removes their files. */
  close(): void;
}

/**
 * Opens the listening sockets of a program, before its first instance. An address that one of the `inherited` sockets has uses
 * that socket. Rejects with LIBRARY if an address is in use, with ACCESS or with NOT_SUPPORTED.
 */
export function hold(
  runtime: SocketsRuntime & Pick<Runtime, "name">,
  program: Pick<CheckedProgram, "runtime">,
  addresses: readonly ListenAddress[],
  inherited: readonly PassedSocket[],
): Promise<HeldSockets> {
  return openAll(runtime, addresses, inherited, useOf(runtime, program));
}

/** The use of the sockets of a program. */
export function useOf(
  runtime: Pick<Runtime, "name">,
  program: Pick<CheckedProgram, "runtime">,
): SocketUse {
  // Bun.serve and Deno.serve open a socket of their own, which shares the port. A server that listened, too, would get some of
  // the connections. Programs of node:http make the inherited socket listen themselves.
  const name = program.runtime === "own" ? runtime.name : program.runtime;
  return name === "bun" || name === "deno" ? "reserve" : "listen";
}

async function openAll(
  runtime: SocketsRuntime,
  addresses: readonly ListenAddress[],
  inherited: readonly PassedSocket[],
  use: SocketUse,
): Promise<HeldSockets> {
  const ends: (() => void)[] = [];
  const close = () => {
    for (const end of ends.splice(0).reverse()) end();
  };
  const sockets: PassedSocket[] = [];
  let calls: SocketCalls | undefined;
  try {
    for (const address of addresses) {
      const known = inherited.find((each) => isSame(each.address, address.text));
      if (known) {
        sockets.push(known);
        continue;
      }
      if (calls === undefined) {
        calls = await loadSocketCalls();
        ends.push(calls.end);
      }
      const isReserved = use === "reserve" && address.path === undefined;
      if (isReserved && !calls.canReserve) throw cannotReserve(address);
      if (address.path !== undefined) await makeRoom(runtime, address.path);
      const descriptor = await open(calls, address, isReserved ? "reserve" : "listen");
      const { close } = calls;
      ends.push(() => {
        close(descriptor);
        if (address.path !== undefined) runtime.remove(address.path);
      });
      sockets.push(passedSocket(calls, nameOf(address.text), address.text, descriptor));
    }
  } catch (error) {
    close();
    throw error;
  }
  return { sockets, close };
}

/** Makes the description of an open socket. */
export function passedSocket(
  calls: Pick<SocketCalls, "duplicate">,
  name: string,
  address: string,
  descriptor: number,
): PassedSocket {
  return {
    name,
    address,
    descriptor,
    duplicate: (isInherited) => calls.duplicate(descriptor, isInherited),
  };
}

/** The text of an address, in the form of the option `listen`. */
export function textOf(address: SocketAddress): string {
  if (address.path !== undefined) return `unix:${address.path}`;
  const { host, port } = address;
  if (host === "::") return String(port);
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True if two addresses are the same. `[::]:80` accepts the same connections as `80`. */
function isSame(one: string, another: string): boolean {
  const plain = (text: string) => text.replace(/^\[::\]:/, "");
  return plain(one) === plain(another);
}

/** The name of a socket for LISTEN_FDNAMES, where a colon separates names. */
function nameOf(text: string): string {
  return text.replaceAll(":", "_");
}

async function open(calls: SocketCalls, address: ListenAddress, use: SocketUse): Promise<number> {
  try {
    if (address.path !== undefined) return await calls.open(address, use);
    const { host, port } = address;
    if (host !== null) return await calls.open({ host, port }, use);
    return await calls.open({ host: "::", port }, use).catch((error: SocketError) => {
      // This machine has no IPv6.
      if (error.code !== "EAFNOSUPPORT" && error.code !== "EADDRNOTAVAIL") throw error;
      return calls.open({ host: "0.0.0.0", port }, use);
    });
  } catch (error) {
    throw listenError(address, error as SocketError);
  }
}

function cannotReserve({ text }: ListenAddress): SamError {
  return new SamError(
    "NOT_SUPPORTED",
    `cannot hold ${text} for a program on Deno or Bun: this version of Node needs the package koffi. ` +
      "Run npm install koffi, use Node 26, or leave out listen.",
  );
}

function listenError({ text, path }: ListenAddress, cause: SocketError): SamError {
  const what = `cannot listen on ${text}`;
  switch (cause.code) {
    case "EADDRINUSE":
      return inUse(text, path);
    case "EACCES":
    case "EPERM":
      return new SamError(
        "ACCESS",
        path === undefined
          ? `${what}: permission denied. Choose a port from 1024 on, or give sam the capability CAP_NET_BIND_SERVICE.`
          : `${what}: permission denied. Check the permissions of the directory.`,
        { cause },
      );
    case "EADDRNOTAVAIL":
      return new SamError(
        "LIBRARY",
        `${what}: this machine does not have the address. Choose one that "ip address" lists, or only the port.`,
        { cause },
      );
    case "ENOENT":
    case "ENOTDIR":
      return new SamError("LIBRARY", `${what}: the directory does not exist. Create it first.`);
    case "EMFILE":
    case "ENFILE":
      return new SamError(
        "TRY_AGAIN",
        `${what}: no file descriptors are left. Raise the limit (ulimit -n).`,
        { cause },
      );
    default:
      if (cause instanceof SamError) return cause;
      return new SamError("LIBRARY", `${what}: ${cause.message}`, { cause });
  }
}

function inUse(text: string, path: string | undefined): SamError {
  const what = path === undefined ? "the port" : "the socket";
  return new SamError(
    "LIBRARY",
    `cannot listen on ${text}: another process uses ${what}. Stop that process, or choose another address for listen.`,
  );
}

const fileKind = 0o170000;
const socketKind = 0o140000;

/** Removes a Unix socket on which no process listens any more. Throws LIBRARY if a process does, or for any other file. */
async function makeRoom(runtime: SocketsRuntime, path: string): Promise<void> {
  const mode = (await runtime.temporaryFiles()).status(path)?.mode;
  if (mode === undefined) return;
  if ((mode & fileKind) !== socketKind) {
    throw new SamError(
      "LIBRARY",
      `cannot listen on unix:${path}: the file exists and is not a socket. Remove it, or choose another path.`,
    );
  }
  if (await isInUse(runtime, path)) throw inUse(`unix:${path}`, path);
  runtime.remove(path);
}

/** True unless the system refuses a connection. It also fails, with another error, if the backlog of a socket in use is full. */
async function isInUse(runtime: SocketsRuntime, path: string): Promise<boolean> {
  try {
    (await runtime.connect(path)).close();
    return true;
  } catch (error) {
    const { code, cause } = error as { readonly code?: string; readonly cause?: { code?: string } };
    return (cause?.code ?? code) !== "ECONNREFUSED";
  }
}
