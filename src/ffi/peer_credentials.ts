/** Checks the user of the process at the other end of a Unix socket (`SO_PEERCRED`). */
import { allocate } from "./c_memory.ts";
import { loadNative } from "./load_c_library.ts";

/** Returns true if the process that connected belongs to this user or to root. */
type PeerCheck = (descriptor: number) => boolean;

const socketLevel = 1;
const peerCredentials = 17;
/** `struct ucred`: process id, user and group, 32 bits each. */
const credentialBytes = 12;

/** Opens the C functions for the check; they stay open. Rejects if C cannot be called. */
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
