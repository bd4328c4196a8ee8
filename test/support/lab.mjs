// Prepares the place of the cluster tests. Each leg gets a network namespace, /run and /dev/shm of
// its own, so that its Corosync meets no other. Needs root. Installs missing packages with apt and
// compiles one C program.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { installPackages } from "./apt.mjs";
import { root, run } from "./setup.mjs";

/** The files that must exist, and the Debian package of each. */
const needed = {
  "/usr/sbin/corosync": "corosync",
  "/usr/include/corosync/sam.h": "libsam-dev",
  "/usr/include/corosync/cmap.h": "libcmap-dev",
  "/usr/include/corosync/quorum.h": "libquorum-dev",
  "/usr/include/corosync/cpg.h": "libcpg-dev",
  "/usr/bin/gcc": "gcc",
  "/usr/sbin/ip": "iproute2",
  "/usr/bin/etcd": "etcd-server",
};

const setUp = "ip link set lo up; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /dev/shm";

/** The command line that runs `command` in such a namespace. */
export function enterLab(command) {
  const flags = ["--net", "--mount", "--propagation=private"];
  return ["unshare", ...flags, "sh", "-ec", `${setUp}; exec "$@"`, "sh", ...command];
}

/**
 * Installs and compiles what the tests need. Resolves to the reason why they cannot run here, or
 * undefined.
 */
export async function prepareLab() {
  if (process.platform !== "linux") return `Corosync runs on Linux, this is ${process.platform}`;
  if (process.getuid() !== 0) {
    return "namespaces and Corosync need root (sudo npm run test:cluster)";
  }
  const why = await installPackages(needed);
  if (why !== undefined) return why;
  const [file, ...args] = enterLab(["true"]);
  const lab = await run(file, args);
  if (lab.code !== 0) return `no namespaces of one's own here: ${lab.output.trim()}`;
  mkdirSync(join(root, ".build/cluster"), { recursive: true });
  const gcc = await run("gcc", [
    ...["-O1", "-Wall", "-Werror", "-o", join(root, ".build/cluster/libsam")],
    ...[join(root, "test/support/libsam.c"), "-lsam"],
  ]);
  if (gcc.code !== 0) throw new Error(`test/support/libsam.c does not compile:\n${gcc.output}`);
  return undefined;
}
