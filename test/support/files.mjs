// The files of the checkout.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "./setup.mjs";

/** The files below a folder whose name has this end, as paths from the root of the checkout. */
export function filesIn(folder, ...ends) {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.name === "node_modules") return [];
    if (entry.isDirectory()) return filesIn(path, ...ends);
    return ends.some((end) => entry.name.endsWith(end)) ? [path] : [];
  }).sort();
}
