// A runtime on which no file exists and nothing happens. A test overrides what it needs.
import type { InstanceRuntime } from "../../src/supervisor/instance/instance.ts";

export const emptyRuntime: InstanceRuntime = {
  name: "node",
  pid: 1,
  stdinIsTerminal: false,
  writeOutput: () => Promise.resolve(),
  now: () => 0,
  schedule: () => () => {},
  settle: () => Promise.resolve(),
  settleMs: 0,
  spawn: () => Promise.reject(new Error("no process")),
  kill() {},
  systemText: () => undefined,
  systemNames: () => [],
  systemLink: () => undefined,
  readText: () => undefined,
  connectPort: () => Promise.reject(new Error("nobody listens")),
};
