// Runs the programs in test/generated/, which examples.mjs extracts from README, docs and doc comments.
import { assert, assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import {
  currentRuntime,
  fixture,
  offlineDenoConfig,
  runtimePath,
  sourceFixture,
} from "./runtimes.ts";

/** An example; examples.mjs explains its kind. */
export interface Example {
  readonly name: string;
  readonly file: string;
  readonly kind: "runs" | "serves" | "cluster" | "imported";
}

const list = readFileSync(sourceFixture("../generated/examples").replace(/ts$/, "json"), "utf8");
export const examples: readonly Example[] = JSON.parse(list);

/** Runs an example as its reader would: to its end, or until it has printed something. */
export async function runExample({ name, kind }: Example): Promise<void> {
  const flags = currentRuntime === "deno"
    ? ["run", "-A", "--no-check", `--config=${offlineDenoConfig}`]
    : [];
  const child = spawn(
    runtimePath(currentRuntime),
    [...flags, fixture(`../generated/${name}`)],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  child.stderr.on("data", (text) => output += text);
  child.stdout.on("data", (text) => {
    output += text;
    if (kind !== "runs") process.kill(child.pid!, "SIGTERM");
  });
  const status = await new Promise<unknown>((resolve) =>
    child.on("close", (code, signal) => resolve(code ?? signal))
  );
  if (kind === "runs") assertEquals(status, 0, output);
  else assert([0, 143, "SIGTERM"].includes(status as 0) && output !== "", `${status}: ${output}`);
}
