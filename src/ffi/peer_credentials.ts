/** Who is at the other end of a Unix socket, as the kernel noted it when the connection was made. */
import { allocate } from "./c_memory.ts";
import { loadNative } from "./load_c_library.ts";

/** True if the process that has made a connection is of this user, or root's. */
type PeerCheck = (descriptor: number) => boolean;

const socketLevel = 1;
const peerCredentials = 17;
/** `struct ucred`: process id, user and group, 32 bits each. */
const credentialBytes = 12;

/** Opens what the check needs, for good. Rejects where C cannot be called. */
export async function openPeerCheck(): Promise<PeerCheck> {
  const native = await loadNative();
  const { functions: { getsockopt, geteuid } } = native.open("libc.so.6", {
    getsockopt: { parameters: ["i32", "i32", "i32", "u64", "u64"], result: "i32" },
    geteuid: { parameters: [], result: "u32" },
  });
  const { address, bytes } = allocate(native, credentialBytes + 4);
  const words = new Uint32Array(bytes.buffer);
  const sizeAt = address + BigInt(credentialBytes);
  return (descriptor) => {
    words[3] = credentialBytes;
    if (getsockopt(descriptor, socketLevel, peerCredentials, address, sizeAt) !== 0) return false;
    const user = words[1];
    return user === 0 || user === geteuid();
  };
}
