// Shared memory on a system where nothing can be mapped: the page is read and written as a file, on both sides.
import type { Runtime, Transport } from "../../mod.ts";
import { shm } from "../../transports/shm.ts";

const unmapped = (runtime: Runtime): Runtime => ({
  ...runtime,
  mapPage: () => Promise.resolve(undefined),
});

/** The transport "shm" without memory. */
export const fileShm: Transport = {
  ...shm,
  name: "file-shm",
  open: (runtime) => shm.open(unmapped(runtime)),
  connect: (address, runtime) => shm.connect(address, unmapped(runtime)),
};
