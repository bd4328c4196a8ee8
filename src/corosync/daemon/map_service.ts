/** Corosync's cluster map, libcmap: sets and deletes keys, and reads numbers. */
import { SamError } from "../../errors.ts";
import { allocate } from "../../ffi/c_memory.ts";
import {
  checked,
  csNotExist,
  dispatchAll,
  little,
  type Service,
  type ServiceParts,
} from "./service.ts";

/** What `set` is given. */
export interface MapEntry {
  readonly key: string;
  readonly value: string | bigint;
}

const uint64Type = 8;
const stringType = 11;
/** `CMAP_KEYNAME_MINLEN` */
const minKeyLength = 3;
/** `CMAP_TRACK_DELETE` */
const trackDelete = 1;
const handleAt = 0;
const numberAt = 8;
const keyAt = 16;
/** `CMAP_KEYNAME_MAXLEN`, and the zero after it. */
const keyBytes = 256;
const valueAt = keyAt + keyBytes;
const valueBytes = 16_384;

/** Connects to the cluster map. */
export function clusterMapService({ native }: ServiceParts): Service {
  const library = native.open("libcmap.so.4", {
    cmap_initialize: { parameters: ["u64"], result: "i32", blocks: true },
    cmap_finalize: { parameters: ["u64"], result: "i32", blocks: true },
    cmap_fd_get: { parameters: ["u64", "u64"], result: "i32" },
    cmap_dispatch: { parameters: ["u64", "i32"], result: "i32", blocks: true },
    cmap_set: { parameters: ["u64", "u64", "u64", "u64", "i32"], result: "i32", blocks: true },
    cmap_delete: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    cmap_get_uint32: { parameters: ["u64", "u64", "u64"], result: "i32", blocks: true },
    cmap_track_add: {
      parameters: ["u64", "u64", "i32", "u64", "u64", "u64"],
      result: "i32",
      blocks: true,
    },
  });
  const {
    cmap_initialize,
    cmap_finalize,
    cmap_fd_get,
    cmap_dispatch,
    cmap_set,
    cmap_delete,
    cmap_get_uint32,
    cmap_track_add,
  } = library.functions;
  const { address, view, bytes, free } = allocate(native, valueAt + valueBytes);
  /** Tracks `name.`, where there is never a key: it is not called. */
  const tracked = native.callback([], () => {});
  /** The nodes of the daemon's tree that are held. */
  const held = new Set<string>();
  const at = (offset: number) => address + BigInt(offset);
  let handle = 0n;
  let descriptor = -1;

  /** Puts a text, and a zero after it, into memory; returns its length. */
  const put = (text: string, offset: number, room: number, what: string): number => {
    const encoded = new TextEncoder().encode(text);
    if (encoded.length >= room || encoded.includes(0)) {
      throw new SamError(
        "INVALID_PARAM",
        `${what} has ${encoded.length} bytes; it may have up to ${room - 1}, without a zero byte`,
      );
    }
    bytes.set(encoded, offset);
    bytes[offset + encoded.length] = 0;
    return encoded.length;
  };

  /**
   * Has the daemon make a node of its tree for what keys have in common, `name.`, and hold it. Without it the second key
   * splits the node of the first, and libqb then counts a reader that stands there as one of that node for ever: the first
   * key can be deleted no more, whatever cmap_delete() says.
   */
  const hold = async (key: string) => {
    const name = key.slice(0, key.lastIndexOf(".") + 1);
    if (name.length < minKeyLength || held.has(name)) return;
    put(name, keyAt, keyBytes, `the key "${key}"`);
    await checked("cmap_track_add", cmap_track_add, [
      handle,
      at(keyAt),
      trackDelete,
      tracked.address,
      0n,
      at(numberAt),
    ]);
    held.add(name);
  };

  const set = async ({ key, value }: MapEntry) => {
    await hold(key);
    put(key, keyAt, keyBytes, `the key "${key}"`);
    const isText = typeof value === "string";
    const length = isText ? put(value, valueAt, valueBytes, `the value of "${key}"`) : 8;
    if (!isText) view.setBigUint64(valueAt, value, little);
    await checked("cmap_set", cmap_set, [
      handle,
      at(keyAt),
      at(valueAt),
      BigInt(length),
      isText ? stringType : uint64Type,
    ]);
  };

  const service: Service = {
    get descriptor() {
      return descriptor;
    },
    async connect() {
      await checked("cmap_initialize", cmap_initialize, [at(handleAt)]);
      handle = view.getBigUint64(handleAt, little);
      await checked("cmap_fd_get", cmap_fd_get, [handle, at(numberAt)]);
      descriptor = view.getInt32(numberAt, little);
    },
    async dispatch() {
      await checked("cmap_dispatch", cmap_dispatch, [handle, dispatchAll]);
    },
    async request(name, argument) {
      if (name === "set") return await set(argument as MapEntry);
      const key = argument as string;
      put(key, keyAt, keyBytes, `the key "${key}"`);
      if (name === "number") {
        await checked("cmap_get_uint32", cmap_get_uint32, [handle, at(keyAt), at(numberAt)]);
        return view.getUint32(numberAt, little);
      }
      await checked("cmap_delete", cmap_delete, [handle, at(keyAt)], csNotExist);
    },
    async disconnect() {
      held.clear(); // the daemon's end of the connection lets go
      await cmap_finalize(handle);
    },
    close() {
      tracked.close();
      free();
      library.close();
    },
  };
  return service;
}
