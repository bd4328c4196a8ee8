/** The version that `sam --version` prints. package.json and deno.json have the same one, and do not exist at run time. */
export const version = "0.1.0";
