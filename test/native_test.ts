// Calls of C, made by more than one part of the library in one process.
import { assertEquals } from "@std/assert";
import { loadNative } from "../src/ffi/native.ts";
import { test } from "./support/harness.ts";

test("a C library can be opened by one part after another", async () => {
  for (let part = 1; part <= 2; part++) {
    const { functions, close } = (await loadNative()).open("libc.so.6", {
      getpid: { parameters: [], result: "i32" },
    });
    assertEquals(functions.getpid(), process.pid);
    close();
  }
});
