// Bad input: wrong values for every option of a server and every property of a program.
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { initialize, type SamErrorCode, supervise, type Transport } from "../../mod.ts";
import { SamError } from "../../mod.ts";
import { checkCheck } from "../../src/api/supervise_options.ts";
import { unix } from "../../transports/unix.ts";
import { test } from "../support/harness.ts";

const maxMs = 2 ** 31 - 1;
const valid = { timeInterval: 1000, recoveryPolicy: "restart" };
const program = { command: "true" };

/** Wrong values of an argument. The message must contain `may`, the allowed values. */
interface Wrong {
  readonly name: string;
  readonly may: string;
  readonly values: readonly unknown[];
  readonly code?: SamErrorCode;
}

const noInteger = ["5", NaN, -1, 0.5, maxMs + 1, Infinity, -Infinity, true, null, {}, [5], 5n];
const noTexts = ["--flag", {}, 5, null, true, new Set(["a"])];
const noObject = [null, 5, "text", true, [], () => {}, Symbol("s")];

const ms = `an integer from 0 to ${maxMs} (milliseconds)`;
const wrongOptions: readonly Wrong[] = [
  { name: "timeInterval", may: ms, values: noInteger },
  { name: "startupTimeout", may: ms, values: noInteger },
  { name: "stopTimeout", may: ms, values: noInteger },
  { name: "maxDataSize", may: `an integer from 0 to ${maxMs} (bytes)`, values: noInteger },
  {
    name: "recoveryPolicy",
    may: 'one of "quit", "restart"',
    values: [undefined, null, "", "QUIT", "always", "quorum", 1, true, ["quit"], {}],
  },
  {
    name: "transport",
    may: 'one of "unix", "pipe", "shm", or an object that implements Transport',
    values: [null, "", "tcp", "UNIX", "toString", "__proto__", 5, true, () => {}],
  },
  {
    name: "transport",
    may: "an object with open() and connect()",
    values: [
      {},
      [],
      { name: "mine" },
      { name: "mine", open() {} },
      { name: "mine", connect() {} },
      { ...unix, open: 5 },
      { ...unix, connect: undefined },
    ],
  },
  {
    name: "transport.name",
    may: "a name of letters, digits, dots, dashes and underscores",
    values: [undefined, null, 5, "", "a b", "a:b", "a/b", "a\n", {}].map((name) => ({
      ...unix,
      name,
    })),
  },
  {
    name: "warnSignal",
    may: "a signal name in capitals",
    values: [null, "", "TERM", "sigterm", "SIGNOPE", "toString", 15, true, ["SIGTERM"], {}],
  },
  { name: "standby", may: "one of 0, 1", values: [null, 2, -1, "0", true, NaN, 0.5, {}] },
  {
    name: "serverLost",
    may: 'one of "exit", "continue"',
    values: [null, "", "die", "EXIT", 0, true, {}],
  },
  { name: "captureStack", may: "one of true, false", values: [null, 0, 1, "yes", {}] },
  { name: "observe", may: "one of true, false", values: [null, 0, 1, "no", []] },
  {
    name: "quorum",
    may: "an object with watch()",
    values: [null, 5, "yes", true, {}, [], () => {}, { watch: true }],
  },
  {
    name: "clusterMap",
    may: "an object with set() and delete()",
    values: [null, 5, "yes", true, {}, [], { set() {} }, { delete() {} }, new Set()],
  },
  {
    name: "log",
    may: 'one of "text", "json", "none", or a function',
    values: [null, "", "TEXT", "file", true, 0, {}, ["json"]],
  },
  { name: "restart", may: "an object", values: noObject },
];

const wrongRestarts: readonly Wrong[] = [
  {
    name: "intensity",
    may: `an integer from 0 to ${maxMs} (restarts, or Infinity)`,
    values: noInteger.filter((value) => value !== Infinity),
  },
  {
    name: "on",
    may: 'one of "started", "failure", "always"',
    values: [null, "", "never", "on-failure", true, 0, {}],
  },
  { name: "period", may: ms, values: noInteger },
  { name: "initialDelay", may: ms, values: noInteger },
  { name: "maxDelay", may: ms, values: noInteger },
  { name: "resetAfter", may: ms, values: noInteger },
];

const wrongPrograms: readonly (Wrong & { readonly base: object })[] = [
  {
    base: {},
    name: "command",
    may: "a non-empty string without NUL characters",
    values: [undefined, null, "", "a\0b", 5, true, [], {}],
  },
  {
    base: {},
    name: "module",
    may: "a non-empty string without NUL characters",
    values: [undefined, null, "", "a\0b", 5, true, [], {}],
  },
  { base: {}, name: "module", may: "a path, or a URL", values: ["file:///%zz", "file:///a%00b"] },
  { base: program, name: "args", may: "an array of strings", values: noTexts },
  { base: program, name: "cwd", may: "a non-empty string", values: [null, "", "\0", 5, {}] },
  {
    base: program,
    name: "env",
    may: "an object with string values",
    values: [null, 5, "A=1", true, ["A=1"]],
  },
  {
    base: program,
    name: "env",
    may: 'an object with keys that contain no "=" and no NUL character',
    values: [{ "": "a" }, { "A=B": "a" }, { "A\0": "a" }],
  },
  {
    base: program,
    name: "stdio",
    may: 'one of "inherit", "ignore", "tee"',
    values: [null, "", "pipe", 0, true, {}],
  },
  {
    base: program,
    name: "stdio",
    may: '"inherit", "ignore", "tee", or an array of three of these',
    values: [[], ["ignore"], ["ignore", "ignore"], ["ignore", "ignore", "ignore", "ignore"]],
  },
  {
    base: { module: "a.js" },
    name: "runtime",
    may: 'one of "node", "deno", "bun"',
    values: ["", "Node", "chrome", "toString"],
  },
  {
    base: { module: "a.js" },
    name: "runtime",
    may: "an object",
    values: [null, 5, true, ["node"], () => {}],
  },
];

/** Wrong values inside of arrays and objects: the program, the name in the message, and the allowed values. */
const wrongParts: readonly (readonly [object, name: string, may: string])[] = [
  [{ ...program, args: ["a", 5] }, "program.args[1]", "a string without NUL characters"],
  [{ ...program, args: ["a\0"] }, "program.args[0]", "a string without NUL characters"],
  [{ ...program, env: { A: 5 } }, "program.env.A", "a string without NUL characters"],
  [{ ...program, env: { A: undefined } }, "program.env.A", "a string without NUL characters"],
  [{ ...program, env: { A: "a\0" } }, "program.env.A", "a string without NUL characters"],
  [{ ...program, stdio: ["inherit", "pipe", "ignore"] }, "program.stdio[1]", '"inherit"'],
  [{ ...program, stdio: ["tee", "ignore", "ignore"] }, "program.stdio[0]", '"inherit", "ignore"'],
  [{ ...program, stdio: ["inherit", "ignore", null] }, "program.stdio[2]", '"inherit"'],
  ...[undefined, null, "", "chrome", 5, {}].map((name) =>
    [{ module: "a.js", runtime: { name } }, "program.runtime.name", 'one of "node"'] as const
  ),
  ...[null, "", 5, "a\0", []].map((path) =>
    [
      { module: "a.js", runtime: { name: "node", path } },
      "program.runtime.path",
      "a non-empty string",
    ] as const
  ),
  ...[null, "-A", 5, {}].map((flags) =>
    [
      { module: "a.js", runtime: { name: "deno", flags } },
      "program.runtime.flags",
      "an array of strings",
    ] as const
  ),
  [
    { module: "a.js", runtime: { name: "deno", flags: ["-A", 5] } },
    "program.runtime.flags[1]",
    "a string without NUL characters",
  ],
];

const unknownKeys: readonly (readonly [
  program: object,
  options: object,
  where: string,
  key: string,
  some: string,
])[] = [
  [program, { ...valid, timeinterval: 5 }, "options", "timeinterval", "timeInterval"],
  [program, { ...valid, policy: "quit" }, "options", "policy", "recoveryPolicy"],
  [program, { ...valid, restart: { intensty: 1 } }, "restart", "intensty", "intensity"],
  [{ ...program, arguments: [] }, valid, "program", "arguments", "args"],
  [{ ...program, module: "a.js" }, valid, "program", "module", "command"],
  [{ ...program, runtime: "node" }, valid, "program", "runtime", "command"],
  [
    { module: "a.js", runtime: { name: "node", flag: [] } },
    valid,
    "program.runtime",
    "flag",
    "flags",
  ],
];

/** The text for a value in a message. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

function assertMessage(error: unknown, code: SamErrorCode, ...parts: string[]): void {
  assertInstanceOf(error, SamError, String(error));
  assertEquals(error.name, "SamError");
  assertEquals(error.code, code, error.message);
  for (const part of parts) {
    assert(error.message.includes(part), `no ${part} in: ${error.message}`);
  }
}

/** Checks that `supervise()` and `initialize()` refuse the options with the same message. */
async function assertRefused(options: unknown, code: SamErrorCode, ...parts: string[]) {
  const ours = options as Parameters<typeof initialize>[0];
  const thrown = assertThrows(() => supervise(program, ours));
  assertMessage(thrown, code, ...parts);
  const rejected = await assertRejects(() => initialize(ours));
  assertEquals((rejected as Error).message, (thrown as Error).message);
  assertMessage(rejected, code, ...parts);
}

for (const { name, may, values, code = "INVALID_PARAM" } of wrongOptions) {
  test(`option ${name} is refused unless it is ${may}`, async () => {
    for (const value of values) {
      const was = name.includes(".") ? (value as { name: unknown }).name : value;
      const parts = code === "INVALID_PARAM" ? [`${name} is ${shown(was)}`] : [name];
      const [option] = name.split(".");
      await assertRefused({ ...valid, [option!]: value }, code, may, ...parts);
    }
  });
}

for (const { name, may, values } of wrongRestarts) {
  test(`option restart.${name} is refused unless it is ${may}`, async () => {
    for (const value of values) {
      await assertRefused(
        { ...valid, restart: { [name]: value } },
        "INVALID_PARAM",
        may,
        `restart.${name} is ${shown(value)}`,
      );
    }
  });
}

const one = 'an object with one of "http", "tcp", "command", or with "progress"';
const atLeastOne = `an integer from 1 to ${maxMs}`;
const wrongChecks: readonly (readonly [check: unknown, name: string, may: string])[] = [
  ...noObject.map((check) => [check, "check", "an object"] as const),
  [{}, "check", one],
  [{ http: "http://h", tcp: "h:1" }, "check", one],
  ...[null, "", 5, "h", "ftp://h", "http://", "http://h:x"].map((http) =>
    [{ http }, "check.http", "a URL that begins with http:// or https://"] as const
  ),
  ...["http://u:secret@h/", "http://u@h", "u:secret@h", "http://u:se/cret@h"].map((http) =>
    [{ http }, "check.http", "contains a user name or a password"] as const
  ),
  ...["http://h:6000/", "https://h:25"].map((http) =>
    [{ http }, "check.http", "has the port"] as const
  ),
  ...[null, "", "h", ":1", "h:x", "h:123456", "h:0", "h:65536", "[::1]:0", 80].map((tcp) =>
    [{ tcp }, "check.tcp", 'a string "host:port" with a port from 1 to 65535'] as const
  ),
  ...[null, "", "a\0", 5].map((command) =>
    [{ command }, "check.command", "a non-empty string without NUL characters"] as const
  ),
  ...["period", "timeout", "failureThreshold"].flatMap((name) =>
    [...noInteger, 0].map((value) =>
      [{ tcp: "h:1", [name]: value }, `check.${name}`, atLeastOne] as const
    )
  ),
  ...[...noInteger, 0, 999].map((progress) =>
    [{ progress }, "check.progress", `an integer from 1000 to ${maxMs}`] as const
  ),
  ...[null, "stop", true].map((progressAction) =>
    [
      { progress: 1000, progressAction },
      "check.progressAction",
      'one of "report", "restart"',
    ] as const
  ),
  [{ progressAction: "report" }, "check", one],
  [{ http: "http://h", tcp: "h:1", progress: 1000 }, "check", one],
];

test("the error for a check names the wrong property", () => {
  for (const [check, name, may] of wrongChecks) {
    const options = { recoveryPolicy: "quit", check } as Parameters<typeof supervise>[1];
    const error = assertThrows(() => supervise(program, options)) as Error;
    assertMessage(error, "INVALID_PARAM", name, may);
    assert(!error.message.includes("cret"), error.message);
  }
  for (const http of ["http://h/@x", "https://h:8080", "http://[::1]:3000/?a=b@c"]) {
    assertEquals(checkCheck({ http }).check?.target, http);
  }
  const unknown = { tcp: "h:1", periodSeconds: 1 } as never;
  const error = assertThrows(() => supervise(program, { recoveryPolicy: "quit", check: unknown }));
  assertMessage(error, "INVALID_PARAM", 'check has the unknown key "periodSeconds"', "period");
});

test("preload is refused if the program cannot load the preload module", () => {
  for (const preload of [null, 1, "yes", {}]) {
    const wrong = { ...program, preload } as unknown as typeof program;
    const error = assertThrows(() => supervise(wrong, { recoveryPolicy: "quit" }));
    assertMessage(error, "INVALID_PARAM", "program.preload is ", "one of true, false");
  }
  const wrapper = { command: "sh", args: ["-c", "exit 0"], preload: true };
  const error = assertThrows(() => supervise(wrapper, { recoveryPolicy: "restart", standby: 1 }));
  assertMessage(
    error,
    "INVALID_PARAM",
    "standby is 1, but SAM cannot hold a program below a wrapper",
  );
});

test("options that are not an object are refused", async () => {
  for (const options of [...noObject, undefined]) {
    await assertRefused(options, "INVALID_PARAM", `options is ${shown(options)}`, "an object");
  }
});

test("timeInterval may be left out for a command only", async () => {
  const options = { recoveryPolicy: "quit" } as const;
  assertMessage(
    assertThrows(() => supervise({ module: "a.js" }, options)),
    "INVALID_PARAM",
    "timeInterval is undefined",
    ms,
  );
  assertMessage(
    await assertRejects(() => initialize(options as Parameters<typeof initialize>[0])),
    "INVALID_PARAM",
    "timeInterval is undefined",
    ms,
  );
  assertEquals((await supervise(program, options).finished).code, 0);
});

for (const { base, name, may, values } of wrongPrograms) {
  test(`program.${name} is refused unless it is ${may}`, () => {
    for (const value of values) {
      const wrong = { ...base, [name]: value } as unknown as typeof program;
      const error = assertThrows(() => supervise(wrong, { recoveryPolicy: "quit" }));
      assertMessage(error, "INVALID_PARAM", may, `program.${name} is `);
    }
  });
}

test("the error for a program names the wrong element or property", () => {
  for (const [wrong, name, may] of wrongParts) {
    const error = assertThrows(() =>
      supervise(wrong as typeof program, { timeInterval: 1, recoveryPolicy: "quit" })
    );
    assertMessage(error, "INVALID_PARAM", `${name} is `, may);
  }
});

test("a program that is not an object, or is missing, is refused", () => {
  for (const wrong of [...noObject, undefined]) {
    const error = assertThrows(() =>
      supervise(wrong as unknown as typeof program, { recoveryPolicy: "quit" })
    );
    assertMessage(error, "INVALID_PARAM", `program is ${shown(wrong)}`, "an object");
  }
  const error = assertThrows(() =>
    supervise({} as unknown as typeof program, { recoveryPolicy: "quit" })
  );
  assertMessage(error, "INVALID_PARAM", "program.module is undefined");
});

test("an unknown key is refused, and the message lists the known keys", () => {
  for (const [which, options, where, key, some] of unknownKeys) {
    const error = assertThrows(() =>
      supervise(which as typeof program, options as { recoveryPolicy: "quit" })
    );
    assertMessage(error, "INVALID_PARAM", `${where} has the unknown key "${key}"`, some);
  }
});

test("a long string is shortened in the message", () => {
  const long = "x".repeat(5000);
  const error = assertThrows(() =>
    supervise(program, { recoveryPolicy: long as "quit" })
  ) as SamError;
  assertMessage(error, "INVALID_PARAM", `recoveryPolicy is "${"x".repeat(60)}…"`);
  assert(error.message.length < 200, error.message);
});

test("the least and the greatest values are allowed, and undefined means the default", async () => {
  class Mine implements Transport {
    name = "mine";
    open: Transport["open"] = unix.open;
    connect: Transport["connect"] = unix.connect;
  }
  const none = undefined as unknown as number;
  const all: readonly Parameters<typeof supervise>[1][] = [
    {
      timeInterval: 0,
      recoveryPolicy: "quit",
      transport: "pipe",
      warnSignal: "SIGKILL",
      restart: {
        intensity: 0,
        period: 0,
        initialDelay: 0,
        maxDelay: 0,
        resetAfter: 0,
      },
      startupTimeout: 0,
      stopTimeout: 0,
      standby: 0,
      maxDataSize: 0,
      serverLost: "exit",
      captureStack: false,
      observe: true,
    },
    {
      timeInterval: maxMs,
      recoveryPolicy: "quit",
      transport: new Mine(),
      warnSignal: "SIGUSR2",
      restart: {
        intensity: Infinity,
        period: maxMs,
        initialDelay: maxMs,
        maxDelay: maxMs,
        resetAfter: maxMs,
      },
      startupTimeout: maxMs,
      stopTimeout: maxMs,
      maxDataSize: maxMs,
      serverLost: "continue",
      captureStack: true,
      observe: false,
    },
    {
      timeInterval: none,
      recoveryPolicy: "quit",
      restart: { period: none, maxDelay: none },
      startupTimeout: none,
    },
  ];
  for (const options of all) {
    const { code, reason } = await supervise(
      { ...program, args: [], env: {}, stdio: ["ignore", "inherit", "ignore"] },
      options,
    ).finished;
    assertEquals({ code, reason }, { code: 0, reason: "quit" });
  }
});

test("a failed initialize() may be repeated, and the state is checked before the arguments", async () => {
  const wrong = { ...valid, timeInterval: -1 } as unknown as Parameters<typeof initialize>[0];
  const right = { timeInterval: 1000, recoveryPolicy: "quit", maxDataSize: 8 } as const;
  const bad = {} as never;
  assertMessage(await assertRejects(() => initialize(wrong)), "INVALID_PARAM", "timeInterval");
  assertMessage(await assertRejects(() => initialize(wrong)), "INVALID_PARAM", "timeInterval");
  const sam = await initialize(right);
  assertMessage(
    await assertRejects(() => initialize(right)),
    "BAD_HANDLE",
    "a process may call it once",
  );
  assertMessage(
    await assertRejects(() => initialize(wrong)),
    "BAD_HANDLE",
    "a process may call it once",
  );

  assertEquals([sam.state, sam.instanceId], ["initialized", null]);
  assertMessage(assertThrows(() => sam.setHealthCheck(bad)), "BAD_HANDLE", "while initialized");
  assertMessage(assertThrows(() => sam.heartbeat()), "BAD_HANDLE", "while started");
  assertMessage(await assertRejects(() => sam.start()), "BAD_HANDLE", "while registered");
  assertMessage(await assertRejects(() => sam.stop()), "BAD_HANDLE", "while started");
  assertMessage(await assertRejects(() => sam.markFailed()), "BAD_HANDLE", "while initialized");

  const texts = [undefined, 5, "text", [1], {}, new ArrayBuffer(1), new Uint16Array(1)];
  for (const bytes of texts) {
    assertMessage(
      await assertRejects(() => sam.data.store(bytes as unknown as Uint8Array)),
      "INVALID_PARAM",
      "bytes is ",
      "a Uint8Array, or null",
    );
  }
  assertMessage(
    await assertRejects(() => sam.data.store(new Uint8Array(9))),
    "TOO_BIG",
    "9 bytes",
    "maxDataSize is 8",
    "maxDataSize",
  );
  for (const signal of [undefined, null, "", "TERM", "sigterm", "SIGNOPE", 15, {}]) {
    assertMessage(
      await assertRejects(() => sam.setWarnSignal(signal as "SIGTERM")),
      "INVALID_PARAM",
      `signal is ${shown(signal)}`,
      '"SIGTERM"',
    );
  }
  const bytes = Uint8Array.of(1, 2, 3);
  await sam.data.store(bytes);
  bytes[0] = 9;
  assertEquals([sam.data.size, [...sam.data.restore()]], [3, [1, 2, 3]]);
  sam.data.restore()[0] = 9;
  assertEquals([...sam.data.restore()], [1, 2, 3]);
  await sam.data.store(null);
  assertEquals([sam.data.size, sam.data.restore().length], [0, 0]);
  await sam.setWarnSignal("SIGUSR2");

  await sam.finalize();
  assertEquals(sam.state, "finalized");
  const calls: Record<string, () => unknown> = {
    initialize: () => initialize(right),
    register: () => sam.register(),
    setHealthCheck: () => sam.setHealthCheck(bad),
    start: () => sam.start(),
    stop: () => sam.stop(),
    heartbeat: () => sam.heartbeat(),
    setWarnSignal: () => sam.setWarnSignal(bad),
    "data.size": () => sam.data.size,
    "data.store": () => sam.data.store(bad),
    "data.restore": () => sam.data.restore(),
    markFailed: () => sam.markFailed(),
    finalize: () => sam.finalize(),
  };
  for (const call of Object.values(calls)) {
    assertMessage(await assertRejects(async () => await call()), "BAD_HANDLE");
  }
  await sam[Symbol.asyncDispose]();
  assertEquals(sam.state, "finalized");
});
