/** The conformance checks of transports, as a list that any test runner can run. */
import type { Transport } from "../../transports/transport.ts";
import { type ConformanceCheck, fail } from "./conformance.ts";
import { type ConformanceOptions, openPair, type Pair } from "./transport_pair.ts";
import { requests } from "./transport_peer.ts";

const maxFrameBytes = 64 * 1024;

/**
 * Returns the conformance checks for a transport. Run each of them in your test runner.
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
      frame[0] = requests.echo.charCodeAt(0);
      pair.link.send(frame);
      const answer = await pair.next();
      if (answer.length !== size || answer.some((byte, at) => byte !== frame[at])) {
        fail(`a frame of ${size} bytes came back changed, with ${answer.length} bytes`);
      }
    }
  });

  check("frames arrive in order, with heartbeats between them", async (pair) => {
    const count = 200;
    pair.ask("frames", count);
    for (let number = 0; number < count; number++) {
      const frame = await pair.next();
      const got = new DataView(frame.buffer, frame.byteOffset).getUint32(0);
      if (got !== number) fail(`frame ${got} arrived instead of frame ${number}`);
    }
    await pair.untilHealthy();
  });

  check("frames that arrive before receive() are delivered later", async (pair) => {
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
          fail(`only ${seen} heartbeats arrived before the loop of ${loopMs} ms ended`);
        }
        await pair.pause(loopMs / 20);
      }
      await pair.next();
    });

    check("heartbeat() does not wait for a server that does not read", async (pair) => {
      pair.ask("loop", 200);
      // This process is the server. It does not read while this loop runs.
      for (const end = pair.runtime.now() + 400; pair.runtime.now() < end;);
      await pair.next();
    });

    check(
      "heartbeats in a loop that never yields continue after the buffer was full",
      async (pair) => {
        pair.ask("heartbeats", 1);
        await pair.next(); // the peer runs
        await pair.untilHealthy();
        pair.ask("full", 800);
        for (const end = pair.runtime.now() + 200; pair.runtime.now() < end;);
        for (let seen = 0; seen < 5; seen++) {
          await pair.untilHealthy();
          if (pair.waiting > 0) fail(`only ${seen} heartbeats arrived before the loop ended`);
          await pair.pause(40);
        }
        await pair.next();
      },
    );

    check("the end of the process ends the link", async (pair) => {
      pair.child!.kill("SIGKILL");
      await pair.ended;
    });

    check("an unreferenced link does not keep the process alive", async (pair) => {
      pair.ask("idle", 0);
      await pair.child!.exited;
      await pair.ended;
    });
  }

  check(
    "the server can read the data that the program stores, while the program runs and after its end",
    async (pair) => {
      const size = 100_000;
      pair.ask("store", size);
      const canStore = (await pair.next()).at(-1) === 1;
      if (!canStore) return; // this transport sends data in messages
      const check = (when: string) => {
        const stored = pair.link.storedData?.();
        const bytes = stored?.read();
        if (stored?.size !== size || bytes?.length !== size || bytes.some((byte) => byte !== 2)) {
          fail(`${when}, the stored data has changed: ${stored?.size} bytes instead of ${size}`);
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
    },
  );

  check(
    "after close() by the program's side, the server receives the end exactly once",
    async (pair) => {
      pair.ask("close", 0);
      await pair.ended;
      await pair.pause(20);
      if (pair.ends !== 1) fail(`the end was reported ${pair.ends} times`);
    },
  );

  check("close() by the server's side ends the link for both sides", async (pair) => {
    pair.link.close();
    await pair.ended;
    await pair.peerEnded;
  });

  check("nothing is reported after the end, even if frames had arrived before it", async (pair) => {
    pair.ask("heartbeats", 1);
    await pair.next(); // the peer is connected
    pair.link.receive(null);
    pair.ask("frames", 50);
    await pair.pause(50);
    let ends = 0;
    let late = 0;
    const closeOrCount = () => ends === 0 ? pair.link.close() : void late++;
    pair.link.receive({ frame: closeOrCount, heartbeat: closeOrCount, end: () => void ends++ });
    for (let times = 0; ends === 0 && times < 500; times++) await pair.pause(10);
    await pair.pause(20);
    if (ends !== 1 || late > 0) {
      fail(`the end was reported ${ends} times, and ${late} more events followed`);
    }
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
    "an endpoint can be closed, even twice, before a peer connects",
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
