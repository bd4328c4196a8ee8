// Shared memory on a system where nothing can be mapped: the page is read and written as a file, on both sides.
import type { Transport } from "../../mod.ts";
import { sharedMemory } from "../../transports/shm.ts";

/** The transport "shm" without memory. */
export const fileShm: Transport = sharedMemory("file-shm", () => Promise.resolve(undefined));
