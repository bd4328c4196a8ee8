/** Corosync's cluster map (libcmap). Sets and deletes keys, and reads numbers. */
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
/** `CMAP_KEYNAME_MAXLEN` plus the terminating zero. */
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

export function clusterMapService({ native }: ServiceParts): Service {
  return new ClusterMapService(native, library);
}

class ClusterMapService extends LibraryService<keyof typeof library.calls> {
  /** A callback for changes of `name.`, which never happen because no key has that name. */
  readonly #tracked = this.callback([], () => {});
  /** The nodes of the daemon's tree that `#hold` holds. */
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
    this.#held.clear(); // the daemon releases them when the connection ends
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
   * Makes the daemon create and hold a node in its tree for the common prefix of the keys, `name.`. Without it, the
   * second key splits the node of the first one. If a reader stands at that node, libqb then counts that reader forever,
   * and the first key can never be deleted, although cmap_delete() reports success.
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

  /** Writes a text with a terminating zero into memory. Returns its length without the zero. */
  #put(text: string, offset: number, room: number, what: string): number {
    const encoded = new TextEncoder().encode(text);
    if (encoded.length >= room || encoded.includes(0)) {
      throw new SamError(
        "INVALID_PARAM",
        `${what} has ${encoded.length} bytes: it may have at most ${room - 1}, and no zero byte`,
      );
    }
    this.bytes.set(encoded, offset);
    this.bytes[offset + encoded.length] = 0;
    return encoded.length;
  }
}
