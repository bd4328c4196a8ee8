// A transport on whose server side a program or test sees what passes, and holds up what one process needs.

import type { Endpoint, Link, LinkSink, Transport } from "../../transports/transport.ts";

/** What passes on the server's side: the endpoint is to be opened; something arrives; something is sent or asked for. */
export type Passage = "open" | "frame" | "heartbeat" | "end" | "send" | "sample";

/**
 * Told what passes for the `nth` process that is started. Where it answers "open" with a promise, the process waits to be
 * started; where it so answers what arrives, that waits, and so does all after it.
 */
export type Gate = (passage: Passage, nth: number) => Promise<void> | void;

/** `base` with a gate. */
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
