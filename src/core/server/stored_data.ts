/** The stored data of a program. New data arrives in parts, and replaces the old data with the last part. */

/** The reason for the refusal of a part. */
export interface StoreProblem {
  readonly code: "TOO_BIG" | "INVALID_PARAM" | "NO_MEMORY";
  readonly message: string;
}

/** The stored bytes, and the parts of new bytes that have arrived. */
export class StoredData {
  readonly #maxBytes: number;
  #bytes: Uint8Array = new Uint8Array(0);
  #incoming: Uint8Array | null = null;
  /** Number of bytes of `#incoming` that have arrived. */
  #arrived = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get size(): number {
    return this.#bytes.length;
  }

  /** Takes the part at `offset` of `total` bytes. Offset 0 starts over. The last part replaces the stored bytes. */
  put(total: number, offset: number, bytes: Uint8Array): StoreProblem | undefined {
    if (!Number.isInteger(total) || total < 0) {
      return {
        code: "INVALID_PARAM",
        message: `the data size is ${total}; it must be a non-negative integer`,
      };
    }
    if (total > this.#maxBytes) {
      return {
        code: "TOO_BIG",
        message:
          `cannot store ${total} bytes: maxDataSize is ${this.#maxBytes}. Store less, or raise maxDataSize.`,
      };
    }
    if (offset === 0) {
      try {
        this.#incoming = new Uint8Array(total);
        this.#arrived = 0;
      } catch {
        this.#incoming = null;
        return {
          code: "NO_MEMORY",
          message: `the SAM server cannot allocate ${total} bytes for the data`,
        };
      }
    }
    const incoming = this.#incoming;
    if (
      incoming?.length !== total || offset !== this.#arrived || offset + bytes.length > total
    ) {
      return {
        code: "INVALID_PARAM",
        message: `the part at offset ${offset} is not the next part of ${total} bytes of data`,
      };
    }
    incoming.set(bytes, offset);
    this.#arrived += bytes.length;
    if (this.#arrived === total) {
      this.#bytes = incoming;
      this.#incoming = null;
    }
    return undefined;
  }

  /** Replaces all bytes at once. Does nothing if there are more bytes than allowed. */
  replace(bytes: Uint8Array): void {
    if (bytes.length > this.#maxBytes) return;
    this.#bytes = bytes;
    this.#incoming = null;
  }

  /** Returns at most `maxBytes` stored bytes from `offset` on; none beyond the end. */
  part(offset: number, maxBytes: number): Uint8Array {
    return this.#bytes.subarray(offset, offset + maxBytes);
  }
}
