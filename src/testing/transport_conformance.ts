/**
 * What every transport must do, as a list of checks that any test runner can run. The active side runs in a process of
 * its own (`peer`), except for transports that live inside one process.
 * @module
 */
import type { Endpoint, Link, Transport } from "../../transports/transport.ts";
import { SamError } from "../errors.ts";
import { checkProgram, type ModuleProgram } from "../api/program.ts";
import { launch, linkVariable } from "../runtime/launch.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Child, Runtime } from "../runtime/runtime.ts";

/** One check: `run` rejects when the transport does not pass it. */
export interface ConformanceCheck {
  /** What is shown. */
  readonly name: string;
  /** Runs the check. */
  readonly run: () => Promise<void>;
}

/** What `transportConformance` is told. */
export interface ConformanceOptions {
  /**
   * The program of the active side: a module that does nothing but `await servePeer(transport)`. Left out for a transport
   * whose two sides are in one process.
   */
  readonly peer?: ModuleProgram;
  /** How long an answer may take, in milliseconds. Default 20,000. */
  readonly limit?: number;
}

const maxFrameBytes = 64 * 1024;
/** More than a Unix socket has room for, which is 277. */
const fullHeartbeats = 1000;

/** What the server's side asks of the peer: a letter, then a number. */
const ask = {
  echo: "e",
  heartbeats: "h",
  loop: "l",
  frames: "f",
  full: "u",
  close: "c",
  idle: "i",
  keep: "k",
} as const;

/**
 * The checks of a transport.
 *
 * ```ts
 * import { memoryTransport, transportConformance } from "@x/sam/testing";
 *
 * for (const check of transportConformance(memoryTransport())) await check.run();
 * ```
 */
export function transportConformance(
  transport: Transport,
  options: ConformanceOptions = {},
): readonly ConformanceCheck[] {
  const checks: ConformanceCheck[] = [];
  const check = (name: string, body: (pair: Pair) => Promise<void>) => {
    const run = async () => {
      const pair = await openPair(transport, options);
      try {
        await body(pair);
      } finally {
        await pair.close();
      }
    };
    checks.push({ name: `${transport.name}: ${name}`, run });
  };

  check("frames of every size arrive whole", async (pair) => {
    for (const size of [2, 3, 100, 4096, 40_000, maxFrameBytes]) {
      const frame = Uint8Array.from({ length: size }, (_, at) => at % 251);
      frame[0] = ask.echo.charCodeAt(0);
      pair.link.send(frame);
      const answer = await pair.next();
      if (answer.length !== size || answer.some((byte, at) => byte !== frame[at])) {
        fail(`a frame of ${size} bytes came back as ${answer.length}, or changed`);
      }
    }
  });

  check("frames arrive in order, with heartbeats between them", async (pair) => {
    const count = 200;
    pair.ask("frames", count);
    for (let number = 0; number < count; number++) {
      const frame = await pair.next();
      const got = new DataView(frame.buffer, frame.byteOffset).getUint32(0);
      if (got !== number) fail(`frame ${got} came in place of frame ${number}`);
    }
    await pair.untilHealthy();
  });

  check("frames that arrive before receive() are kept", async (pair) => {
    pair.link.receive(null);
    pair.ask("frames", 3);
    await pair.pause(50);
    pair.receive();
    for (let number = 0; number < 3; number++) await pair.next();
  });

  check("a heartbeat reaches the server", async (pair) => {
    pair.ask("heartbeats", 1);
    await pair.next();
    await pair.untilHealthy();
  });

  if (options.peer) {
    check("heartbeats in a loop that never yields arrive while it runs", async (pair) => {
      const loopMs = 600;
      pair.ask("loop", loopMs);
      for (let seen = 0; seen < 5; seen++) {
        await pair.untilHealthy();
        if (pair.waiting > 0) {
          fail(`only ${seen} signs of life came before the loop of ${loopMs} ms was over`);
        }
        await pair.pause(loopMs / 20);
      }
      await pair.next();
    });

    check("heartbeat() does not wait for a server that does not read", async (pair) => {
      pair.ask("loop", 200);
      for (const end = pair.runtime.now() + 400; pair.runtime.now() < end;); // this very process is the server
      await pair.next();
    });

    check("heartbeats in such a loop go on after they have filled the buffer", async (pair) => {
      pair.ask("heartbeats", 1);
      await pair.next(); // it runs
      await pair.untilHealthy();
      pair.ask("full", 800);
      for (const end = pair.runtime.now() + 200; pair.runtime.now() < end;);
      for (let seen = 0; seen < 5; seen++) {
        await pair.untilHealthy();
        if (pair.waiting > 0) fail(`only ${seen} signs of life came before the loop was over`);
        await pair.pause(40);
      }
      await pair.next();
    });

    check("the death of the process ends the link", async (pair) => {
      pair.child!.kill("SIGKILL");
      await pair.ended;
    });

    check("a link that is not held lets the process end", async (pair) => {
      pair.ask("idle", 0);
      await pair.child!.exited;
      await pair.ended;
    });
  }

  check("what the active side keeps is there, before and at its end", async (pair) => {
    const size = 100_000;
    pair.ask("keep", size);
    const keeps = (await pair.next()).at(-1);
    if (keeps === 0) return; // nothing without a message here
    const check = (when: string) => {
      const kept = pair.link.kept?.();
      const bytes = kept?.read();
      if (kept?.size !== size || bytes?.length !== size || bytes.some((byte) => byte !== 2)) {
        fail(`${when}, ${kept?.size} bytes were kept in place of ${size}, or changed`);
      }
    };
    check("while it lives");
    let problem: unknown;
    pair.atEnd(() => {
      try {
        check("at its end");
      } catch (error) {
        problem = error;
      }
    });
    if (pair.child) {
      pair.child.kill("SIGKILL");
      await pair.child.exited;
      if (pair.ends === 0) check("between the exit and the end of the link");
    } else pair.ask("close", 0);
    await pair.ended;
    if (problem !== undefined) throw problem;
  });

  check("close() of the active side ends the link, once", async (pair) => {
    pair.ask("close", 0);
    await pair.ended;
    await pair.pause(20);
    if (pair.ends !== 1) fail(`end was reported ${pair.ends} times`);
  });

  check("close() of the server's side ends it for both", async (pair) => {
    pair.link.close();
    await pair.ended;
    await pair.peerEnded;
  });

  check("nothing is reported after the end, however much had arrived with it", async (pair) => {
    pair.ask("heartbeats", 1);
    await pair.next(); // it is there
    pair.link.receive(null);
    pair.ask("frames", 50);
    await pair.pause(50);
    let ends = 0;
    let late = 0;
    const closeOrCount = () => ends === 0 ? pair.link.close() : void late++;
    pair.link.receive({ frame: closeOrCount, heartbeat: closeOrCount, end: () => void ends++ });
    for (let times = 0; ends === 0 && times < 500; times++) await pair.pause(10);
    await pair.pause(20);
    if (ends !== 1 || late > 0) fail(`the end was reported ${ends} times, then came ${late} more`);
  });

  check("calls on an ended link do nothing", async (pair) => {
    pair.link.close();
    await pair.ended;
    pair.link.close();
    pair.link.heartbeat();
    pair.link.send(Uint8Array.of(1));
    pair.link.hold(false);
  });

  check(
    "an endpoint that is closed, also twice, before anybody came leaves nothing",
    async (pair) => {
      const endpoint = await transport.open(pair.runtime);
      endpoint.close();
      endpoint.close();
      pair.ask("heartbeats", 1);
      await pair.next();
    },
  );

  return checks;
}

/**
 * The active side of the checks; the whole of the `peer` program.
 *
 * ```ts imported
 * // my_transport_peer.ts
 * import { servePeer } from "@x/sam/testing";
 * import { mine } from "./my_transport.ts";
 *
 * await servePeer(mine);
 * ```
 */
export async function servePeer(transport: Transport): Promise<void> {
  const address = launch.link?.slice(launch.link.indexOf(":") + 1);
  if (address === undefined) {
    throw new SamError(
      "BAD_HANDLE",
      `servePeer() runs in a process that was started with ${linkVariable}`,
    );
  }
  const runtime = await loadRuntime();
  await answer(await transport.connect(address, runtime), runtime, true);
}

/** Does what it is asked, until the link ends. */
function answer(link: Link, runtime: Runtime, ownProcess: boolean): Promise<void> {
  return new Promise((resolve) => {
    const obey = (letter: string, number: number) => {
      switch (letter) {
        case ask.heartbeats:
          for (let count = 0; count < number; count++) link.heartbeat();
          return link.send(numbered(number));
        case ask.full:
          for (let count = 0; count < fullHeartbeats; count++) link.heartbeat();
          return obey(ask.loop, number);
        case ask.loop:
          for (const end = runtime.now() + number, last = { at: 0 }; runtime.now() < end;) {
            if (runtime.now() - last.at < 1) continue;
            last.at = runtime.now();
            link.heartbeat();
          }
          return link.send(numbered(number));
        case ask.keep: // twice, and less than before, so that what is left over would be seen
          link.keep?.(new Uint8Array(number + 1).fill(1));
          link.keep?.(new Uint8Array(number).fill(2));
          return link.send(numbered(link.keep ? 1 : 0));
        case ask.frames:
          for (let count = 0; count < number; count++) {
            link.send(numbered(count));
            link.heartbeat();
          }
          return;
        case ask.close:
          return link.close();
        case ask.idle: // nothing but the link is left to wait for
          if (ownProcess) link.hold(false);
          return resolve();
      }
    };
    link.receive({
      heartbeat() {},
      frame(frame) {
        const letter = String.fromCharCode(frame[0]!);
        if (letter === ask.echo) return link.send(frame);
        const number = new DataView(frame.buffer, frame.byteOffset).getUint32(1);
        obey(letter, number);
      },
      end: () => resolve(),
    });
  });
}

function numbered(number: number): Uint8Array {
  const frame = new Uint8Array(4);
  new DataView(frame.buffer).setUint32(0, number);
  return frame;
}

/** Ends a check that is not passed. */
export function fail(what: string): never {
  throw new SamError("MESSAGE_ERROR", what);
}

/** Waits for a promise, so long. */
export async function within<T>(
  runtime: Runtime,
  limit: number,
  what: string,
  promise: Promise<T>,
): Promise<T> {
  let cancel = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = runtime.schedule(
      () => reject(new SamError("TIMEOUT", `${what}: not within ${limit} ms`)),
      limit,
      true,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel();
  }
}

/** Both sides of one link. */
interface Pair {
  readonly runtime: Runtime;
  readonly link: Link;
  readonly child: Child | null;
  readonly ended: Promise<void>;
  readonly peerEnded: Promise<void>;
  /** How often the end was reported. */
  readonly ends: number;
  /** Does something when the link reports its end. */
  atEnd(act: () => void): void;
  /** Frames that have arrived and were not asked for. */
  readonly waiting: number;
  receive(): void;
  ask(what: keyof typeof ask, number: number): void;
  /** The next frame. */
  next(): Promise<Uint8Array>;
  /** Resolved at the next sign of life after this call, or one that was not seen yet. */
  untilHealthy(): Promise<void>;
  pause(ms: number): Promise<void>;
  close(): Promise<void>;
}

async function openPair(transport: Transport, options: ConformanceOptions): Promise<Pair> {
  const runtime = await loadRuntime();
  const limit = options.limit ?? 20_000;
  const endpoint = await transport.open(runtime);
  let child: Child | null = null;
  try {
    child = options.peer ? await spawnPeer(runtime, transport, endpoint, options.peer) : null;
  } catch (error) {
    endpoint.close();
    throw error;
  }
  const arrival = new Promise<Link>((resolve) =>
    endpoint.accept(child ?? { stream: null }, resolve)
  );
  const peerEnded: Promise<void> = child
    ? child.exited.then(() => {})
    : transport.connect(String(endpoint.address), runtime).then((link) =>
      answer(link, runtime, false)
    );

  const inTime = <T>(what: string, promise: Promise<T>) => within(runtime, limit, what, promise);
  const pause = (ms: number) =>
    new Promise<void>((resolve) => void runtime.schedule(resolve, ms, true));
  const until = async (what: string, condition: () => boolean) => {
    for (const end = runtime.now() + limit; !condition();) {
      if (runtime.now() > end) fail(`${what}: not within ${limit} ms`);
      await pause(2);
    }
  };

  const frames: Uint8Array[] = [];
  let healthy = false;
  let ends = 0;
  let link: Link;
  try {
    link = await inTime("the peer connects", arrival);
  } catch (error) {
    child?.kill("SIGKILL");
    endpoint.close();
    throw error;
  }
  endpoint.close();
  let sampled = link.sample?.();
  const endActs: (() => void)[] = [];
  let whenEnded = () => {};
  const ended = new Promise<void>((resolve) => whenEnded = resolve);
  const receive = () =>
    link.receive({
      frame: (frame) => void frames.push(frame),
      heartbeat: () => healthy = true,
      end: () => {
        ends++;
        endActs.forEach((act) => act());
        whenEnded();
      },
    });
  receive();
  return {
    runtime,
    link,
    child,
    receive,
    pause,
    atEnd: (act) => void endActs.push(act),
    get ended() {
      return inTime("the link ends", ended);
    },
    get peerEnded() {
      return inTime("the peer's side ends", peerEnded);
    },
    get ends() {
      return ends;
    },
    get waiting() {
      return frames.length;
    },
    ask(what, number) {
      const frame = new Uint8Array(5);
      frame[0] = ask[what].charCodeAt(0);
      new DataView(frame.buffer).setUint32(1, number);
      link.send(frame);
    },
    async next() {
      await until("the next frame arrives", () => frames.length > 0);
      return frames.shift()!;
    },
    async untilHealthy() {
      await until(
        "a heartbeat arrives",
        () => healthy || (ends === 0 && link.sample?.() !== sampled),
      );
      healthy = false;
      sampled = link.sample?.();
    },
    async close() {
      child?.kill("SIGKILL");
      link.close();
      child?.stream?.close();
      await inTime("the peer's side ends", peerEnded);
    },
  };
}

async function spawnPeer(
  runtime: Runtime,
  transport: Transport,
  endpoint: Endpoint,
  peer: ModuleProgram,
): Promise<Child> {
  const command = await checkProgram(peer).command(runtime);
  const { address } = endpoint;
  const link = (text: string) => ({ [linkVariable]: `${transport.name}:${text}` });
  if (typeof address !== "string") {
    return await runtime.spawn(command, (descriptor) => link(address(descriptor)));
  }
  return await runtime.spawn({ ...command, env: { ...command.env, ...link(address) } });
}
