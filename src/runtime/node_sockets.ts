/**
 * Listening sockets on a Node that cannot call C: Node's own binding binds them. A short-lived process of Node makes them listen,
 * because a socket that Node listens on accepts connections at once.
 */
import type * as ChildProcesses from "node:child_process";
import type * as Net from "node:net";
import type * as Util from "node:util";
import { SamError } from "../errors.ts";
import { nodeApi, process } from "./node_api.ts";
import { type SocketAddress, type SocketCalls, SocketError } from "./socket_calls.ts";

/** Node's own handle of a socket. */
interface Handle {
  readonly fd: number;
  getsockname?(into: { address?: string; port?: number }): number;
  close(): void;
}

/** Functions that Node does not document. They are checked before use, because a later version of Node may remove them. */
interface NetInternals {
  _createServerHandle?(
    host: string | null,
    port: number,
    family: number,
    descriptor?: number,
  ): Handle | number;
}

/** Stands for the port and the address family of a Unix socket. */
const noPort = -1;

/** Returns the functions for sockets. Throws NOT_SUPPORTED if this version of Node has changed. */
export function nodeSockets(): SocketCalls {
  const { _createServerHandle } = process.getBuiltinModule("node:net") as typeof Net & NetInternals;
  if (typeof _createServerHandle !== "function") {
    throw new SamError(
      "NOT_SUPPORTED",
      "cannot listen for the program: this version of Node needs the package koffi. Run npm install koffi, or use Node 26.",
    );
  }
  /** The open handles. Node closes the descriptor of a handle that is not referenced any more. */
  const handles = new Map<number, Handle>();
  const create = (...args: Parameters<typeof _createServerHandle>): Handle => {
    const handle = _createServerHandle(...args);
    // Node reports a port in use later, and this call tells it at once. A Unix socket has no such function.
    const failure = typeof handle === "number" ? handle : handle.getsockname?.({}) ?? 0;
    if (typeof handle !== "number") {
      if (failure === 0) return handle;
      handle.close();
    }
    const { getSystemErrorName } = process.getBuiltinModule("node:util") as typeof Util;
    throw new SocketError(getSystemErrorName(failure), "bind");
  };
  return {
    canReserve: false,
    async open(address) {
      const handle = address.path !== undefined
        ? create(address.path, noPort, noPort)
        : create(address.host, address.port, address.host.includes(":") ? 6 : 4);
      try {
        await listenInChild(handle.fd);
      } catch {
        handle.close();
        // Two sockets can be bound to one port if none of them listens. The second one cannot listen.
        throw new SocketError("EADDRINUSE", "listen");
      }
      handles.set(handle.fd, handle);
      return handle.fd;
    },
    addressOf(descriptor) {
      try {
        const handle = handles.get(descriptor) ?? create(null, 0, 0, descriptor);
        handles.set(descriptor, handle);
        const found: { address?: string; port?: number } = {};
        if (handle.getsockname === undefined) return unixAddress(descriptor);
        if (handle.getsockname(found) !== 0 || found.address === undefined) return undefined;
        return { host: found.address, port: found.port! };
      } catch {
        return undefined;
      }
    },
    keep() {}, // Node has set close-on-exec for all descriptors that it inherited
    duplicate() {
      throw new SocketError("ENOSYS", "dup"); // Node hands descriptors on under any number
    },
    close(descriptor) {
      handles.get(descriptor)?.close();
      handles.delete(descriptor);
    },
    end() {},
  };
}

/** The address of a Unix socket that listens on a path: /proc/net/unix lists them by inode, with the path last. */
function unixAddress(descriptor: number): SocketAddress | undefined {
  const [, inode] =
    /^socket:\[(\d+)\]$/.exec(nodeApi.systemLink(`/proc/self/fd/${descriptor}`) ?? "") ?? [];
  const listed = nodeApi.systemText("/proc/net/unix");
  const [, path] = new RegExp(`^\\S+ \\S+ \\S+ 00010000 0001 01 +${inode} (/.*)$`, "m")
    .exec(listed ?? "") ?? [];
  return path === undefined ? undefined : { path };
}

/** Ends in the turn of the event loop in which it listens, so it accepts no connection. */
const code =
  'const server = require("net").createServer().listen({ fd: 3 }); process.exit(server.listening ? 0 : 1)';

/** Makes a bound socket listen. Rejects if it cannot. */
function listenInChild(descriptor: number): Promise<void> {
  const { spawn } = process.getBuiltinModule("node:child_process") as typeof ChildProcesses;
  const stdio: ChildProcesses.StdioOptions = ["ignore", "ignore", "ignore", descriptor];
  return new Promise((resolve, reject) => {
    const env = { ...process.env, NODE_OPTIONS: "" };
    const child = spawn(process.execPath, ["-e", code], { stdio, env });
    child.once("error", reject);
    child.once("exit", (status) => status === 0 ? resolve() : reject(new Error("listen failed")));
  });
}
