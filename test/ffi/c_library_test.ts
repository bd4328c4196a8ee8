// Calls of C libraries by several parts of SAM in one process, and next to an application that uses koffi itself.
import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { loadNative } from "../../src/ffi/load_c_library.ts";
import { test } from "../support/harness.ts";
import { currentRuntime, fixture, runtimePath } from "../support/runtimes.ts";

test("a C library can be opened again after it was closed", async () => {
  for (let round = 1; round <= 2; round++) {
    const { functions, close } = (await loadNative()).open("libc.so.6", {
      getpid: { parameters: [], result: "i32" },
    });
    assertEquals(functions.getpid(), process.pid);
    close();
  }
});

const usesKoffi = ["node20", "node22", "node24"].includes(currentRuntime);
test(
  "if the application has already used koffi, the C library works, and other libraries ask for a larger stack",
  () => {
    const program = `
    import koffi from "koffi";
    koffi.load(null);
    const { loadNative } = await import(${JSON.stringify(fixture("../../src/ffi/load_c_library"))});
    const native = await loadNative();
    const functions = { getpid: { parameters: [], result: "i32" } };
    console.log(native.open("libc.so.6", functions).functions.getpid() === process.pid);
    try {
      native.open("libm.so.6", {});
    } catch (error) {
      console.log(error.code, error.message.includes("koffi.config({ sync_stack_size"));
    }`;
    const { stdout, stderr } = spawnSync(
      runtimePath(currentRuntime),
      ["--input-type=module", "--eval", program],
      { encoding: "utf8" },
    );
    assertEquals(stdout, "true\nLIBRARY true\n", stderr);
  },
  { skip: usesKoffi ? false : "this runtime does not need koffi" },
);
