/** A link with a page beside it, in which heartbeats are counted. */
import type { Page } from "../src/runtime/runtime.ts";
import type { Link } from "./transport.ts";

/** Makes `sample` of the page's count, and gives the page back when the link ends. */
export function pagedLink(link: Link, page: Page): Link {
  return {
    ...link,
    sample: page.read,
    receive(sink) {
      link.receive(
        sink && {
          ...sink,
          end(detail) {
            page.close();
            sink.end(detail);
          },
        },
      );
    },
    close() {
      page.close();
      link.close();
    },
  };
}
