/** The version that `sam --version` prints. It repeats package.json and deno.json, which are not available at run time. */
export const version = "0.1.0";
