/**
 * Opens listening sockets without accepting connections, which no runtime offers. Calls the C library, or else Node's own binding.
 * A socket stays open until all processes that have inherited it have closed it, too.
 */
import { SamError } from "../errors.ts";
import { runtimeName } from "../runtime/load.ts";
import { type SocketAddress, type SocketCalls, SocketError } from "../runtime/socket_calls.ts";
import type { Native } from "./c_library.ts";
import { loadNative } from "./load_c_library.ts";

/** Loads the functions for sockets. Rejects with NOT_SUPPORTED or ACCESS if this runtime has none. */
export async function loadSocketCalls(): Promise<SocketCalls> {
  try {
    return byC(await loadNative());
  } catch (error) {
    if (runtimeName() !== "node") {
      const why = error instanceof Error ? error.message : String(error);
      throw new SamError("NOT_SUPPORTED", `cannot listen for the program: ${why}`, {
        cause: error,
      });
    }
    return (await import("../runtime/node_sockets.ts")).nodeSockets();
  }
}

const errorNames: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  13: "EACCES",
  20: "ENOTDIR",
  23: "ENFILE",
  24: "EMFILE",
  30: "EROFS",
  97: "EAFNOSUPPORT",
  98: "EADDRINUSE",
  99: "EADDRNOTAVAIL",
};

const families = { unix: 1, ip4: 2, ip6: 10 } as const;
/** `SOCK_STREAM | SOCK_CLOEXEC` */
const kind = 1 | 0o2000000;
const socketLevel = 1;
const reuseAddress = 2;
const reusePort = 15;
const acceptsConnections = 30;
const ip6Level = 41;
const ip6Only = 26;
const duplicateDescriptor = 0;
const duplicateClosedOnExec = 1030;
/** Above the descriptors that a process inherits by the position of its streams. */
const leastDuplicate = 10;
const setDescriptorFlags = 2;
const getStatusFlags = 3;
const setStatusFlags = 4;
const closeOnExec = 1;
/** The size of `struct sockaddr_un`, the largest of the three. */
const maxAddressBytes = 110;
/** The default of Node. The kernel may have a lower limit: net.core.somaxconn. */
const backlog = 511;

function byC(native: Native): SocketCalls {
  const { functions: c, close: end } = native.open("libc.so.6", {
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
    getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
    bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
    listen: { parameters: ["i32", "i32"], result: "i32" },
    getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    __errno_location: { parameters: [], result: "u64" },
  });
  const errorAt = new Int32Array(native.view(BigInt(c.__errno_location() as bigint), 4));
  const check = (result: unknown, call: string): number => {
    if ((result as number) >= 0) return result as number;
    const [number = 0] = errorAt;
    throw new SocketError(errorNames[number] ?? `error ${number}`, call);
  };
  const turn = (descriptor: number, level: number, option: number, on: boolean) =>
    check(c.setsockopt(descriptor, level, option, words(on ? 1 : 0), 4), "setsockopt");
  return {
    canReserve: true,
    // deno-lint-ignore require-await
    async open(address, use) {
      const bytes = encode(address);
      const family = bytes[0]!;
      const descriptor = check(c.socket(family, kind, 0), "socket");
      try {
        if (family !== families.unix) turn(descriptor, socketLevel, reuseAddress, true);
        if (family === families.ip6) turn(descriptor, ip6Level, ip6Only, false);
        if (use === "reserve") turn(descriptor, socketLevel, reusePort, true);
        check(c.bind(descriptor, bytes, bytes.length), "bind");
        if (use === "listen") check(c.listen(descriptor, backlog), "listen");
        return descriptor;
      } catch (error) {
        c.close(descriptor);
        throw error;
      }
    },
    addressOf(descriptor) {
      const listens = words(0);
      c.getsockopt(descriptor, socketLevel, acceptsConnections, listens, words(4));
      if (listens[0] !== 1) return undefined;
      const bytes = new Uint8Array(maxAddressBytes);
      const size = words(bytes.length);
      if (c.getsockname(descriptor, bytes, size) !== 0) return undefined;
      return decode(bytes.subarray(0, new Uint32Array(size.buffer)[0]));
    },
    keep: (descriptor) => void c.fcntl(descriptor, setDescriptorFlags, closeOnExec),
    duplicate(descriptor, isInherited) {
      const command = isInherited ? duplicateDescriptor : duplicateClosedOnExec;
      const another = check(c.fcntl(descriptor, command, leastDuplicate), "fcntl");
      const flags = c.fcntl(another, getStatusFlags, 0) as number;
      return {
        descriptor: another,
        close() {
          c.fcntl(another, setStatusFlags, flags);
          c.close(another);
        },
      };
    },
    close: (descriptor) => void c.close(descriptor),
    end,
  };
}

/** The bytes of a 32-bit number. */
function words(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

/** Encodes a `struct sockaddr_in`, `sockaddr_in6` or `sockaddr_un`. */
function encode(address: SocketAddress): Uint8Array {
  if (address.path !== undefined) {
    const path = new TextEncoder().encode(address.path);
    return Uint8Array.of(families.unix, 0, ...path, 0);
  }
  const { host, port } = address;
  const portBytes = [port >> 8, port & 255];
  return host.includes(":")
    ? Uint8Array.of(families.ip6, 0, ...portBytes, 0, 0, 0, 0, ...ip6Bytes(host), 0, 0, 0, 0)
    : Uint8Array.of(families.ip4, 0, ...portBytes, ...host.split(".").map(Number), ...padding);
}

const padding = new Array<number>(8).fill(0);

/** The bytes of an IPv6 address in the usual form, in which `::` may stand for zeros. */
function ip6Bytes(host: string): number[] {
  const [before = [], after = []] = host.split("::")
    .map((part) => part.split(":").filter((group) => group !== ""));
  const zeros = new Array<string>(8 - before.length - after.length).fill("0");
  return [...before, ...zeros, ...after].map((group) => Number.parseInt(group, 16))
    .flatMap((group) => [group >> 8, group & 255]);
}

function decode(bytes: Uint8Array): SocketAddress | undefined {
  const port = bytes[2]! * 256 + bytes[3]!;
  switch (bytes[0]) {
    case families.ip4:
      return { host: bytes.subarray(4, 8).join("."), port };
    case families.ip6: {
      const groups = Array.from(
        { length: 8 },
        (_, at) => (bytes[8 + 2 * at]! * 256 + bytes[9 + 2 * at]!).toString(16),
      );
      return { host: new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1), port };
    }
    case families.unix: {
      const path = new TextDecoder().decode(bytes.subarray(2)).replace(/\0+$/, "");
      return path.startsWith("/") ? { path } : undefined;
    }
    default:
      return undefined;
  }
}
