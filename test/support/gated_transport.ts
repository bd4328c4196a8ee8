// Wraps a transport so that a test sees all that passes on the server's side, and can hold it up for one process.

import type { Endpoint, Link, LinkSink, Transport } from "../../transports/transport.ts";

/** Event on the server's side: the endpoint is opened, something arrives, or something is sent or requested. */
export type Passage = "open" | "frame" | "heartbeat" | "end" | "send" | "sample";

/**
 * Called for each passage of the `nth` process. A promise for "open" delays the start of the process. A promise for an
 * arrival delays that arrival and all later ones.
 */
export type Gate = (passage: Passage, nth: number) => Promise<void> | void;

/** Puts a gate before the server's side of `base`. */
export function gated(base: Transport, gate: Gate): Transport {
  let opened = 0;
  return {
    ...base,
    async open(runtime) {
      const nth = ++opened;
      await gate("open", nth);
      const endpoint = await base.open(runtime);
      const accept: Endpoint["accept"] = (child, onLink) =>
        endpoint.accept(child, (link) => onLink(gatedLink(link, gate, nth)));
      return { ...endpoint, accept };
    },
  };
}

function gatedLink(link: Link, gate: Gate, nth: number): Link {
  let waiting: (() => void)[] | null = null;
  const arrive = (passage: Passage, what: () => void) => {
    const held = gate(passage, nth);
    if (held && !waiting) {
      waiting = [];
      void held.then(goOn);
    }
    if (waiting) waiting.push(what);
    else what();
  };
  const goOn = () => {
    const past = waiting!;
    waiting = null;
    for (const what of past) what();
  };
  const through = (sink: LinkSink): LinkSink => ({
    frame: (bytes) => arrive("frame", () => sink.frame(bytes)),
    heartbeat: () => arrive("heartbeat", () => sink.heartbeat()),
    end: (detail) => arrive("end", () => sink.end(detail)),
  });
  const { sample } = link;
  return {
    ...link,
    send(frame) {
      link.send(frame);
      gate("send", nth);
    },
    receive: (sink) => link.receive(sink && through(sink)),
    ...(sample && {
      sample() {
        gate("sample", nth);
        return sample();
      },
    }),
  };
}
