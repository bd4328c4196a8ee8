/** Corosync's quorum service (libquorum). Reports if the cluster is quorate, at first and at each change. */
import {
  LibraryService,
  little,
  numberAt,
  ownAt,
  type Service,
  type ServiceParts,
} from "./service.ts";

/** The event of the service, and the answer to `probe`. */
export interface QuorumEvent {
  readonly quorate: boolean;
}

const trackCurrentAndChanges = 3;
const library = {
  file: "libquorum.so.5",
  prefix: "quorum",
  calls: {
    initialize: { parameters: ["u64", "u64", "u64"], result: "i32", blocks: true },
    trackstart: { parameters: ["u64", "u32"], result: "i32", blocks: true },
    getquorate: { parameters: ["u64", "u64"], result: "i32", blocks: true },
  },
  ownBytes: 8, // one callback
} as const;

export function quorumService(parts: ServiceParts): Service {
  return new QuorumService(parts);
}

class QuorumService extends LibraryService<keyof typeof library.calls> {
  readonly #emit: (event: QuorumEvent) => void;

  constructor({ native, emit }: ServiceParts) {
    super(native, library);
    this.#emit = emit;
    const notified = this.callback(
      ["u64", "u32", "u64", "u32", "u64"], // handle, quorate, ring, count and list of members
      (_handle, quorate) => this.#emit({ quorate: quorate !== 0 }),
    );
    this.view.setBigUint64(ownAt, notified, little);
  }

  connect(): Promise<void> {
    return this.initializeBy("initialize", [this.at(ownAt), this.at(numberAt)], async () => {
      const first = await this.request(); // before the tracking, so that tracked changes are always newer
      await this.call("trackstart", [trackCurrentAndChanges]);
      this.#emit(first);
    });
  }

  /** Asks if the cluster is quorate. This service has only one request, so it ignores the name. */
  async request(): Promise<QuorumEvent> {
    await this.call("getquorate", [this.at(numberAt)]);
    return { quorate: this.view.getInt32(numberAt, little) !== 0 };
  }
}
