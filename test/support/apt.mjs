// Debian's packages, installed when a suite needs them.

import { existsSync } from "node:fs";
import { run } from "./setup.mjs";

/** Installs what is missing of `needed` (path: its package); resolves to why that cannot be done, or undefined. */
export async function installPackages(needed) {
  const packages = Object.keys(needed).filter((path) => !existsSync(path)).map((path) =>
    needed[path]
  );
  if (packages.length === 0) return undefined;
  const missing = packages.join(", ");
  if (!existsSync("/usr/bin/apt-get")) return `${missing} missing, and no apt-get here`;
  if (process.getuid() !== 0) return `${missing} missing, and only root can install (apt-get)`;
  console.error(`Installing ${missing} …`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = ["install", "--yes", "--no-install-recommends", ...packages];
  let { code, output } = await run("apt-get", install, { env });
  if (code !== 0) {
    await run("apt-get", ["update"], { env }); // lists may be missing or old
    ({ code, output } = await run("apt-get", install, { env }));
  }
  return code === 0 ? undefined : `apt-get cannot install ${missing}: ${output.trim()}`;
}
