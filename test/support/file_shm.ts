// The transport "shm" for a system that cannot map memory: both sides read and write the page as a file.
import type { Transport } from "../../mod.ts";
import { sharedMemory } from "../../transports/shm.ts";

/** The transport "shm" without mapped memory. */
export const fileShm: Transport = sharedMemory("file-shm", () => Promise.resolve(undefined));
