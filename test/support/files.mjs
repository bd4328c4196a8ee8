// The files of the checkout.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "./setup.mjs";

/** The files below a folder whose name has one of these ends, sorted, as paths from the root of the checkout. */
export function filesIn(folder, ...ends) {
  return readdirSync(join(root, folder), { recursive: true })
    .map((name) => `${folder}/${name}`)
    .filter((path) => !path.includes("/node_modules/") && ends.some((end) => path.endsWith(end)))
    .sort();
}
