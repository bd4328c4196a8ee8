// Calls of C, made by more than one part of the library in one process, and beside an application's own.
import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { loadNative } from "../../src/ffi/load_c_library.ts";
import { test } from "../support/harness.ts";
import { currentRuntime, fixture, runtimePath } from "../support/runtimes.ts";

test("a C library can be opened by one part after another", async () => {
  for (let part = 1; part <= 2; part++) {
    const { functions, close } = (await loadNative()).open("libc.so.6", {
      getpid: { parameters: [], result: "i32" },
    });
    assertEquals(functions.getpid(), process.pid);
    close();
  }
});

const usesKoffi = ["node20", "node22", "node24"].includes(currentRuntime);
test(
  "beside an application that has used koffi before, the C library works, and Corosync's say what they need",
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
  { skip: usesKoffi ? false : "this runtime needs no koffi" },
);
