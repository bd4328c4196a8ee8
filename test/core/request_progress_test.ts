// The count of waiting HTTP requests in a program, and what the server makes of its messages. In virtual time.

import { assertEquals } from "@std/assert";
import { type RequestKind, RequestProgress } from "../../src/core/client/request_progress.ts";
import { tickMsOf } from "../../src/core/client/request_progress.ts";
import { Bench } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

interface Fake {
  readonly url: string;
  state: "waiting" | "begun" | "gone";
  /** True if only a look that is due shows the state, and only the one after it. */
  readonly isLate?: boolean;
  looks?: number;
}

const kind: RequestKind<Fake> = {
  look(request, isDue) {
    if (!request.isLate) return request.state;
    if (isDue) request.looks = (request.looks ?? 0) + 1;
    return (request.looks ?? 0) > 1 ? request.state : "waiting";
  },
  describe: ({ url }) => ["GET", url],
};

/** A program with a limit of 30 s, and its clock. */
class Counted {
  readonly progress: RequestProgress;
  now = 5000;
  readonly said: string[] = [];

  constructor(limitMs = 30_000) {
    this.progress = new RequestProgress(limitMs, this.now);
  }

  begin(url = "/", more: Partial<Fake> = {}): Fake {
    const request: Fake = { url, state: "waiting", ...more };
    this.progress.begin(request, kind);
    return request;
  }

  finish(request: Fake): void {
    this.progress.finish(request);
  }

  /** Lets seconds pass, with a tick in each. Returns what was said. */
  pass(seconds: number): string[] {
    this.said.length = 0;
    for (let second = 0; second < seconds; second++) this.late(1000);
    return [...this.said];
  }

  /** Lets a time pass without a tick. Then there is one. */
  late(ms: number): void {
    this.now += ms;
    const fact = this.progress.tick(this.now);
    if (fact) this.said.push(fact.healthy ? `healthy${fact.detail}` : fact.detail);
  }
}

test("requests that wait are reported after the limit, with the oldest one, and once", () => {
  const program = new Counted();
  program.begin("/orders?token=secret");
  program.pass(1);
  for (let count = 0; count < 11; count++) program.begin("/later");
  assertEquals(program.pass(29), []);
  assertEquals(program.pass(2), [
    "no HTTP request has finished for 31 s; the oldest of 12: GET /orders, since 31 s",
  ]);
  assertEquals(program.pass(100), []);
});

test("a program without requests, and one whose requests finish, is never reported", () => {
  const program = new Counted();
  assertEquals(program.pass(1000), []);
  const old = program.begin("/poll");
  for (let round = 0; round < 20; round++) {
    const request = program.begin();
    assertEquals(program.pass(29), []);
    program.finish(request);
  }
  program.finish(old);
  assertEquals(program.pass(100), []);
  // The time without requests does not count.
  const next = program.begin();
  assertEquals(program.pass(30), []);
  program.finish(next);
});

test("one request that finishes makes the program healthy again, also if others still wait", () => {
  const program = new Counted();
  const [first] = [program.begin(), program.begin()];
  assertEquals(program.pass(40).length, 1);
  program.finish(first);
  assertEquals(program.pass(1), ["healthy"]);
  assertEquals(program.pass(29), []);
  assertEquals(program.pass(3).length, 1);
});

test("a response that begins counts as finished at that moment, and its end does not count", () => {
  const program = new Counted();
  const stream = program.begin("/events");
  program.begin("/waits");
  program.pass(20);
  stream.state = "begun";
  assertEquals(program.pass(30), []);
  program.finish(stream);
  assertEquals(program.pass(2), [
    "no HTTP request has finished for 31 s; the only one that waits: GET /waits, since 51 s",
  ]);
});

test("a request that its client aborts waits no more, and has not finished", () => {
  const program = new Counted();
  const aborted = [program.begin("/a"), program.begin("/b", { isLate: true })];
  program.pass(10);
  program.begin("/c");
  for (const request of aborted) request.state = "gone";
  assertEquals(program.pass(22), [
    "no HTTP request has finished for 31 s; the only one that waits: GET /c, since 21 s",
  ]);
  program.begin("/d").state = "gone";
  assertEquals(program.pass(5), []);
});

test("a program whose clients have all given up is not reported, and is healthy again", () => {
  const program = new Counted();
  program.begin("/a").state = "gone";
  program.begin("/b", { isLate: true }).state = "gone";
  assertEquals(program.pass(40), []);
  const last = program.begin("/c");
  assertEquals(program.pass(40).length, 1);
  last.state = "gone";
  assertEquals(program.pass(1), ["healthy"]);
});

test("time in which the event loop was blocked does not count", () => {
  const program = new Counted();
  program.begin("/");
  program.pass(10);
  program.late(60_000);
  assertEquals(program.pass(19), []);
  assertEquals(program.pass(3).length, 1);
});

test("the report shows the path without host and query, and not more than 200 characters", () => {
  const long = `/${"x".repeat(300)}`;
  for (
    const [url, shown] of [
      ["http://127.0.0.1:80/a?b=/c", "/a"],
      ["/a#b?c", "/a"],
      ["/?next=http://h/", "/"],
      ["/a\n?b\nc", "/a\n"],
      [long, long.slice(0, 200)],
      ["*", "*"],
    ] as const
  ) {
    const program = new Counted(1500);
    program.begin(url);
    for (let round = 0; round < 12; round++) program.late(tickMsOf(1500));
    assertEquals(program.said, [
      `no HTTP request has finished for 1.7 s; the only one that waits: GET ${shown}, since 1.7 s`,
    ]);
  }
});

const stuck = { type: "progress", healthy: false, detail: "no HTTP request" } as const;
const factsOf = ({ log }: Bench) => log.filter(({ type }) => type === "progress");
const moves = { type: "progress", healthy: true, detail: "" } as const;

test("core server: asks for the count, and passes changes on", () => {
  for (const [progressLimit, sent] of [[undefined, 0], [0, 0], [30_000, 30_000]] as const) {
    const bench = new Bench({ progressLimit }).register();
    const welcome = bench.log.flatMap((effect) =>
      effect.type === "send" ? [effect.message] : []
    )[0];
    assertEquals(welcome?.type === "welcome" && welcome.progressLimit, sent);
  }
  const bench = new Bench({ progressLimit: 1000 }).start();
  const { deadline } = bench.server;
  for (const message of [moves, stuck, stuck, moves, moves, stuck]) bench.say(message);
  assertEquals(factsOf(bench), [stuck, moves, stuck]);
  assertEquals([bench.state, bench.server.deadline], ["started", deadline]);
});

test("core server: does not believe a process that need not count, or has ended", () => {
  const uncounted = new Bench().start();
  uncounted.say(stuck);
  assertEquals(factsOf(uncounted), []);
  const bench = new Bench({ progressLimit: 1000 }).start();
  bench.feed({ type: "exit", code: 1, signal: null });
  bench.say(stuck);
  assertEquals(factsOf(bench), []);
});

test("core server: when the program below a wrapper ends, its requests wait no more", () => {
  const bench = new Bench({ progressLimit: 1000, startedAtSpawn: true, preloaded: true }).start();
  bench.say({ type: "belowWrapper" });
  bench.say(stuck);
  bench.feed({ type: "linkEnd" });
  assertEquals([bench.state, factsOf(bench)], ["launched", [stuck, moves]]);
});
