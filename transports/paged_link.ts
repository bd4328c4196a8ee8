/** A link with a page beside it, in which heartbeats are counted. */
import type { Page } from "../src/runtime/runtime.ts";
import type { Link } from "./transport.ts";

/** Does something when a link ends, before its owner is told. */
export function atEnd(link: Link, act: () => void): Link {
  return {
    ...link,
    receive(sink) {
      link.receive(
        sink && {
          ...sink,
          end(detail) {
            act();
            sink.end(detail);
          },
        },
      );
    },
  };
}

/** Makes `sample` of the page's count, and gives the page back when the link ends. */
export function pagedLink(link: Link, page: Page): Link {
  return {
    ...atEnd(link, page.close),
    sample: page.read,
    close() {
      page.close();
      link.close();
    },
  };
}
