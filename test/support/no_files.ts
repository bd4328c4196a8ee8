// Files for the checks of a command line or a configuration, in which every path exists and is empty.
import type { Files } from "../../src/cli/run/detect_program.ts";

export const noFiles: Files = {
  exists: () => true,
  firstLine: () => "",
  mainOf: () => undefined,
  readText: () => "",
  readVariables: () => ({}),
};
