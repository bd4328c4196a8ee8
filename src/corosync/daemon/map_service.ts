/** Corosync's cluster map, libcmap: sets and deletes keys, and reads numbers. */
import { SamError } from "../../errors.ts";
import {
  csNotExist,
  LibraryService,
  little,
  numberAt,
  ownAt,
  type Service,
  type ServiceParts,
} from "./service.ts";

/** The argument of `set`. */
interface MapEntry {
  readonly key: string;
  readonly value: string | bigint;
}

const uint64Type = 8;
const stringType = 11;
/** `CMAP_KEYNAME_MINLEN` */
const minKeyLength = 3;
/** `CMAP_TRACK_DELETE` */
const trackDelete = 1;
const keyAt = ownAt;
/** `CMAP_KEYNAME_MAXLEN`, and the zero after it. */
const keyBytes = 256;
const valueAt = keyAt + keyBytes;
const valueBytes = 16_384;
const library = {
  file: "libcmap.so.4",
  prefix: "cmap",
  calls: {
    initialize: { parameters: ["u64"], result: "i32", blocks: true },
    set: { parameters: ["u64", "u64", "u64", "u64", "i32"], result: "i32", blocks: true },
    delete: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    get_uint32: { parameters: ["u64", "u64", "u64"], result: "i32", blocks: true },
    track_add: {
      parameters: ["u64", "u64", "i32", "u64", "u64", "u64"],
      result: "i32",
      blocks: true,
    },
  },
  ownBytes: keyBytes + valueBytes,
} as const;

/** Connects to the cluster map. */
export function clusterMapService({ native }: ServiceParts): Service {
  return new ClusterMapService(native, library);
}

class ClusterMapService extends LibraryService<keyof typeof library.calls> {
  /** Tracks `name.`, where there is never a key: it is not called. */
  readonly #tracked = this.callback([], () => {});
  /** The nodes of the daemon's tree that are held. */
  readonly #held = new Set<string>();

  connect(): Promise<void> {
    return this.initializeBy("initialize", []);
  }

  async request(name: string, argument: unknown): Promise<unknown> {
    if (name === "set") return await this.#set(argument as MapEntry);
    this.#putKey(argument as string);
    if (name === "number") {
      await this.call("get_uint32", [this.at(keyAt), this.at(numberAt)]);
      return this.view.getUint32(numberAt, little);
    }
    return void await this.call("delete", [this.at(keyAt)], csNotExist);
  }

  override async disconnect(): Promise<void> {
    this.#held.clear(); // the daemon's end of the connection lets go
    await super.disconnect();
  }

  async #set({ key, value }: MapEntry): Promise<void> {
    await this.#hold(key);
    this.#putKey(key);
    const isText = typeof value === "string";
    const length = isText ? this.#put(value, valueAt, valueBytes, `the value of "${key}"`) : 8;
    if (!isText) this.view.setBigUint64(valueAt, value, little);
    const type = isText ? stringType : uint64Type;
    await this.call("set", [this.at(keyAt), this.at(valueAt), BigInt(length), type]);
  }

  /**
   * Has the daemon make a node of its tree for what keys have in common, `name.`, and hold it. Without it the second key
   * splits the node of the first, and libqb then counts a reader that stands there as one of that node for ever: the first
   * key can be deleted no more, whatever cmap_delete() says.
   */
  async #hold(key: string): Promise<void> {
    const name = key.slice(0, key.lastIndexOf(".") + 1);
    if (name.length < minKeyLength || this.#held.has(name)) return;
    this.#put(name, keyAt, keyBytes, `the key "${key}"`);
    const parameters = [this.at(keyAt), trackDelete, this.#tracked, 0n, this.at(numberAt)];
    await this.call("track_add", parameters);
    this.#held.add(name);
  }

  #putKey(key: string): void {
    this.#put(key, keyAt, keyBytes, `the key "${key}"`);
  }

  /** Puts a text, and a zero after it, into memory; returns its length. */
  #put(text: string, offset: number, room: number, what: string): number {
    const encoded = new TextEncoder().encode(text);
    if (encoded.length >= room || encoded.includes(0)) {
      throw new SamError(
        "INVALID_PARAM",
        `${what} has ${encoded.length} bytes; it may have up to ${room - 1}, without a zero byte`,
      );
    }
    this.bytes.set(encoded, offset);
    this.bytes[offset + encoded.length] = 0;
    return encoded.length;
  }
}
