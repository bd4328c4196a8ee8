/** Sends datagrams to a Unix socket on Linux. It calls the C library, because no runtime can send them itself. */
import { SamError } from "../errors.ts";
import { allocate } from "./c_memory.ts";
import { loadNative } from "./load_c_library.ts";

/** A sender of datagrams to one socket. */
interface Datagrams {
  /** Sends a datagram, at most 4,096 bytes; the rest is cut off. Throws LIBRARY if the socket is gone or full. */
  send(text: string): void;
  close(): void;
}

const unixFamily = 1;
/** `SOCK_DGRAM | SOCK_CLOEXEC` */
const kind = 2 | 0o2000000;
/** `MSG_DONTWAIT | MSG_NOSIGNAL` */
const sendFlags = 0x40 | 0x4000;
const maxPathBytes = 107;
const maxBytes = 4096;

/**
 * Opens a sender to the socket at `path`. A path that begins with `@` is an abstract name. Rejects with NOT_SUPPORTED
 * or ACCESS if C cannot be called, and with INVALID_PARAM if `path` is not a valid socket path.
 */
export async function openDatagrams(path: string): Promise<Datagrams> {
  const name = new TextEncoder().encode(path);
  if (!/^[/@]/.test(path) || name.length > maxPathBytes) {
    throw new SamError(
      "INVALID_PARAM",
      `${path} is not a socket path: it must begin with / or @ and have at most ${maxPathBytes} bytes`,
    );
  }
  const native = await loadNative();
  const { functions: { socket, sendto, close }, close: closeLibrary } = native.open("libc.so.6", {
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    sendto: { parameters: ["i32", "u64", "u64", "i32", "u64", "u32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  });
  const descriptor = socket(unixFamily, kind, 0) as number;
  if (descriptor < 0) {
    closeLibrary();
    throw new SamError(
      "LIBRARY",
      "cannot open a Unix socket: check the limit of file descriptors (ulimit -n)",
    );
  }
  const address = allocate(native, 2 + maxPathBytes + 1);
  address.view.setUint16(0, unixFamily, true);
  address.bytes.set(name, 2);
  const isAbstract = path.startsWith("@");
  if (isAbstract) address.bytes[2] = 0;
  const addressBytes = 2 + name.length + (isAbstract ? 0 : 1);
  const message = allocate(native, maxBytes);
  return {
    send(text) {
      const bytes = new TextEncoder().encode(text).subarray(0, maxBytes);
      message.bytes.set(bytes);
      const sent = sendto(
        descriptor,
        message.address,
        BigInt(bytes.length),
        sendFlags,
        address.address,
        addressBytes,
      );
      if (sent !== bytes.length) {
        throw new SamError(
          "LIBRARY",
          `cannot send a message to ${path}: the socket is gone or full`,
        );
      }
    },
    close() {
      close(descriptor);
      address.free();
      message.free();
      closeLibrary();
    },
  };
}
