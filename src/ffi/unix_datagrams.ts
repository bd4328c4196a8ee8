/** Datagrams to a Unix socket, which no runtime sends by itself: by calls of the C library, on Linux. */
import { SamError } from "../errors.ts";
import { allocate } from "./c_memory.ts";
import { loadNative } from "./load_c_library.ts";

/** One way to one socket. */
interface Datagrams {
  /** Sends at once, or throws LIBRARY: the socket is gone, or full. */
  send(text: string): void;
  close(): void;
}

const unixFamily = 1;
/** `SOCK_DGRAM | SOCK_CLOEXEC` */
const kind = 2 | 0o2000000;
/** `MSG_DONTWAIT | MSG_NOSIGNAL` */
const neverWait = 0x40 | 0x4000;
const maxPathBytes = 107;
const maxBytes = 4096;

/**
 * Opens the way to the socket at `path`; `@` at its beginning is an abstract name. Rejects with NOT_SUPPORTED or ACCESS where C
 * cannot be called, and with INVALID_PARAM for what is no path.
 */
export async function openDatagrams(path: string): Promise<Datagrams> {
  const name = new TextEncoder().encode(path);
  if (!/^[/@]/.test(path) || name.length > maxPathBytes) {
    throw new SamError("INVALID_PARAM", `${path} is no path of a socket`);
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
    throw new SamError("LIBRARY", "no socket can be had");
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
        neverWait,
        address.address,
        addressBytes,
      );
      if (sent !== bytes.length) throw new SamError("LIBRARY", `${path} does not take a message`);
    },
    close() {
      close(descriptor);
      address.free();
      message.free();
      closeLibrary();
    },
  };
}
