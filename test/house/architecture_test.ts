// Checks the plan of the rooms: one direction of imports, no circles, short files, few modules at
// the start of an active process.

import { assert, assertEquals } from "@std/assert";
import { test } from "../support/harness.ts";
import {
  circles,
  type House,
  loadedWith,
  longFiles,
  openFields,
  readHouse,
  wrongImports,
} from "../support/house.ts";

const house = readHouse();

/** The sources with some files added or replaced. */
function rebuilt(files: Readonly<Record<string, string>>): House {
  return new Map([...house, ...Object.entries(files)]);
}

test("a room imports only from rooms to its left", () => {
  assert(house.size > 100, `${house.size} sources`);
  assertEquals(wrongImports(house), []);
});

test("there is no circle of imports", () => {
  assertEquals(circles(house), []);
});

test("no file has more than 400 lines, and no machine more than 500", () => {
  assertEquals(longFiles(house), []);
});

test("other code cannot write the state of a machine", () => {
  assertEquals(openFields(house), []);
});

/**
 * The modules that an active process on Deno loads over the default transport before its first
 * heartbeat.
 */
const startPath = [
  "mod.ts",
  "src/active/active_process.ts",
  "src/active/initialize.ts",
  "src/api/options.ts",
  "src/api/program.ts",
  "src/api/supervise_options.ts",
  "src/api/validate.ts",
  "src/core/client/machine.ts",
  "src/core/client/requests.ts",
  "src/core/client/schedules.ts",
  "src/core/server/slack.ts",
  "src/core/signals.ts",
  "src/core/wire.ts",
  "src/errors.ts",
  "src/runtime/deno.ts",
  "src/runtime/deno_permissions.ts",
  "src/runtime/launch.ts",
  "src/runtime/load.ts",
  "src/supervisor/event_log.ts",
  "src/supervisor/supervise.ts",
  "transports/builtin.ts",
  "transports/private_socket.ts",
  "transports/shared_file.ts",
  "transports/stream_link.ts",
  "transports/unix.ts",
];
const entries = ["mod.ts", "src/runtime/deno.ts", "transports/unix.ts"];

test("an active process on Deno loads these modules at its start, at most 25", () => {
  assertEquals(loadedWith(house, entries), startPath);
  assert(startPath.length <= 25, `${startPath.length} modules`);
});

test("an import in the wrong direction is found", () => {
  const bad: readonly (readonly [string, string, string])[] = [
    [
      "src/core/server/clock.ts",
      'import type { Runtime } from "../../runtime/runtime.ts";',
      "src/core/server/clock.ts imports src/runtime/runtime.ts: src/core may import only src/errors.ts",
    ],
    [
      "src/core/client/peer.ts",
      'import { Spare } from "../server/spare.ts";',
      "src/core/client/peer.ts imports src/core/server/spare.ts: src/core/client and src/core/server do not know each other",
    ],
    [
      "src/active/direct.ts",
      'export { supervise } from "../supervisor/supervise.ts";',
      "src/active/direct.ts imports src/supervisor/supervise.ts: src/active may import only src/errors.ts, src/core, src/runtime, src/ffi, transports, src/api",
    ],
    [
      "transports/lazy.ts",
      'const load = () => import("../src/api/options.ts");',
      "transports/lazy.ts imports src/api/options.ts: transports may import only src/errors.ts, src/core, src/runtime, src/ffi",
    ],
    [
      "src/metrics/peer.ts",
      'import {\n  supervise,\n} from "../supervisor/supervise.ts";',
      "src/metrics/peer.ts imports src/supervisor/supervise.ts: src/metrics may import only src/errors.ts, src/core, src/runtime, src/ffi, transports, src/api",
    ],
    [
      "src/errors.ts",
      'import "./core/signals.ts";',
      "src/errors.ts imports src/core/signals.ts: src/errors.ts may import nothing",
    ],
    [
      "src/loose.ts",
      "",
      "src/loose.ts is in no room: put it into one of src/errors.ts, src/core, src/runtime, src/ffi, transports, src/api, src/supervisor, src/active, src/corosync, src/metrics, src/testing, src/cli, mod.ts",
    ],
  ];
  for (const [path, source, sentence] of bad) {
    assertEquals(wrongImports(rebuilt({ [path]: source })), [sentence]);
  }
  const later = 'const load = () => import("../supervisor/supervise.ts");';
  assertEquals(wrongImports(rebuilt({ "src/active/later.ts": later })), []);
  const comment = '/** import { x } from "../cli/main.ts"; */\n// import "../cli/main.ts";';
  assertEquals(wrongImports(rebuilt({ "src/core/comment.ts": comment })), []);
});

test("a circle of type imports is found, and a circle of three files", () => {
  const types = {
    "src/core/one.ts": 'import type { Two } from "./two.ts";',
    "src/core/two.ts": 'import { type One } from "./one.ts";',
  };
  assertEquals(circles(rebuilt(types)), [
    "these import each other: src/core/one.ts -> src/core/two.ts -> src/core/one.ts",
  ]);
  const three = {
    "src/api/a.ts": 'export * from "./b.ts";',
    "src/api/b.ts": 'import "./c.ts";',
    "src/api/c.ts": 'import { a } from "./a.ts";',
  };
  assertEquals(circles(rebuilt(three)).length, 1);
  const later = { ...three, "src/api/c.ts": 'const load = () => import("./a.ts");' };
  assertEquals(circles(rebuilt(later)), []);
});

test("a long file, a writable field and an additional module at the start are found", () => {
  const lines = (count: number) => "x();\n".repeat(count);
  const machine = "src/core/server/machine.ts";
  assertEquals(longFiles(rebuilt({ "src/api/long.ts": lines(401), [machine]: lines(500) })), [
    "src/api/long.ts has 401 lines, of 400: split it by what it does",
  ]);
  assertEquals(longFiles(rebuilt({ [machine]: lines(501) })).length, 1);
  const fields = [
    "class Server {",
    "  state: State = idle;",
    "  open;",
    "  #closed = 1;",
    "  readonly fixed: number;",
    "  get pid(): number { return this.#pid; }",
    "  static readonly table = {};",
    "  step(): void {",
    "    let inner: number = 1;",
    "  }",
    "}",
  ];
  assertEquals(openFields(rebuilt({ [machine]: fields.join("\n") })), [
    `${machine}: the field state can be written from outside: make it private`,
    `${machine}: the field open can be written from outside: make it private`,
  ]);
  const more = `${house.get("src/errors.ts")}\nimport "./core/more.ts";`;
  const loaded = loadedWith(rebuilt({ "src/errors.ts": more, "src/core/more.ts": "" }), entries);
  assertEquals(loaded.filter((path) => !startPath.includes(path)), ["src/core/more.ts"]);
});
