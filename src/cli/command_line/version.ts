/** What `sam --version` says: the version of package.json and deno.json, which are not there at run time. */
export const version = "0.1.0";
