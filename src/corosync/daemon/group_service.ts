/** Corosync's closed process groups, libcpg: joins one group, delivers its messages and changes, and multicasts. */
import { SamError } from "../../errors.ts";
import { allocate } from "../../ffi/c_memory.ts";
import {
  checked,
  corosyncError,
  csOk,
  dispatchAll,
  little,
  type Service,
  type ServiceParts,
} from "./service.ts";

/** A member as libcpg tells it, with the reason of a change (`cpg_reason_t`). */
export interface GroupAddress {
  readonly nodeId: number;
  readonly pid: number;
  readonly reason: number;
}

/** What the service tells, in the order in which all members see it. */
export type GroupServiceEvent =
  | {
    readonly type: "message";
    readonly nodeId: number;
    readonly pid: number;
    readonly data: Uint8Array;
  }
  | {
    readonly type: "members";
    readonly members: readonly GroupAddress[];
    readonly left: readonly GroupAddress[];
    readonly joined: readonly GroupAddress[];
  }
  /** More waits to be taken than is allowed: the group was left, and nothing more comes. */
  | { readonly type: "overflow" };

/** The argument of the request `join`. */
export interface GroupJoin {
  readonly name: Uint8Array;
  /** So many bytes may wait to be taken. */
  readonly maxQueuedBytes: number;
}

/** What `join` answers. */
export interface GroupJoined {
  readonly nodeId: number;
  readonly maxMessageBytes: number;
}

/** `CPG_MAX_NAME_LENGTH` */
export const maxNameBytes = 128;
/** What a message of so many bytes counts while it waits. */
export function queuedBytesOf(messageBytes: number): number {
  return messageBytes + 64;
}

/** `CS_ERR_TRY_AGAIN` */
const tryAgain = 6;
/** `CS_ERR_EXIST` */
const exists = 14;
const modelV1 = 1;
const agreed = 2;
const addressBytes = 12;
const handleAt = 0;
const numberAt = 8;
const partsAt = 16; // one struct iovec
const modelAt = 32; // cpg_model_v1_data_t
const nameAt = 72; // struct cpg_name
const dataAt = 256;
const dataBytes = 1 << 20;

/** Connects to the process groups. */
export function groupService({ native, emit }: ServiceParts): Service {
  const library = native.open("libcpg.so.4", {
    cpg_model_initialize: {
      parameters: ["u64", "u32", "u64", "u64"],
      result: "i32",
      blocks: true,
    },
    cpg_finalize: { parameters: ["u64"], result: "i32", blocks: true },
    cpg_fd_get: { parameters: ["u64", "u64"], result: "i32" },
    cpg_dispatch: { parameters: ["u64", "i32"], result: "i32", blocks: true },
    cpg_join: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    cpg_leave: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    cpg_mcast_joined: { parameters: ["u64", "u32", "u64", "u32"], result: "i32", blocks: true },
    cpg_local_get: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    cpg_max_atomic_msgsize_get: { parameters: ["u64", "u64"], result: "i32" },
  });
  const cpg = library.functions;
  const libc = native.open("libc.so.6", {
    memcpy: { parameters: ["u64", "u64", "u64"], result: "u64" },
  });
  const { memcpy } = libc.functions;
  const { address, view, bytes, free } = allocate(native, dataAt + dataBytes);
  const at = (offset: number) => address + BigInt(offset);
  const data = bytes.subarray(dataAt);
  /** Copies what a callback was given, which is gone when the callback returns; piece by piece, as it may be longer than ours. */
  const fetch = (from: bigint, count: number) => {
    const all = new Uint8Array(count);
    for (let done = 0; done < count; done += dataBytes) {
      const part = Math.min(count - done, dataBytes);
      memcpy(at(dataAt), from + BigInt(done), BigInt(part));
      all.set(data.subarray(0, part), done);
    }
    return all;
  };

  let handle = 0n;
  let descriptor = -1;
  let maxMessageBytes = 0;
  let maxQueuedBytes = 0;
  let queuedBytes = 0;
  let overflow: "no" | "noticed" | "told" = "no";

  const delivered = native.callback(
    ["u64", "u64", "u32", "u32", "u64", "u64"], // handle, group, node, process, message, its length
    (_handle, _group, nodeId, pid, message, length) => {
      if (overflow !== "no") return;
      const size = Number(length);
      queuedBytes += queuedBytesOf(size);
      if (queuedBytes > maxQueuedBytes) {
        overflow = "noticed";
        return;
      }
      emit(
        {
          type: "message",
          nodeId: Number(nodeId),
          pid: Number(pid),
          data: fetch(BigInt(message!), size),
        } satisfies GroupServiceEvent,
      );
    },
  );
  const addresses = (list: number | bigint, count: number | bigint): GroupAddress[] => {
    const found = new DataView(fetch(BigInt(list), Number(count) * addressBytes).buffer);
    return Array.from({ length: Number(count) }, (_, index) => {
      const offset = index * addressBytes;
      return {
        nodeId: found.getUint32(offset, little),
        pid: found.getUint32(offset + 4, little),
        reason: found.getUint32(offset + 8, little),
      };
    });
  };
  const changed = native.callback(
    // handle, group, and three lists with their lengths: members, left, joined
    ["u64", "u64", "u64", "u64", "u64", "u64", "u64", "u64"],
    (_handle, _group, members, memberCount, left, leftCount, joined, joinedCount) => {
      if (overflow !== "no") return;
      emit(
        {
          type: "members",
          members: addresses(members!, memberCount!),
          left: addresses(left!, leftCount!),
          joined: addresses(joined!, joinedCount!),
        } satisfies GroupServiceEvent,
      );
    },
  );
  view.setUint32(modelAt, modelV1, little);
  view.setBigUint64(modelAt + 8, delivered.address, little);
  view.setBigUint64(modelAt + 16, changed.address, little);
  view.setBigUint64(partsAt, at(dataAt), little);

  const service: Service = {
    get descriptor() {
      return descriptor;
    },
    async connect() {
      await checked("cpg_model_initialize", cpg.cpg_model_initialize, [
        at(handleAt),
        modelV1,
        at(modelAt),
        0n,
      ]);
      handle = view.getBigUint64(handleAt, little);
      try {
        await checked("cpg_fd_get", cpg.cpg_fd_get, [handle, at(numberAt)]);
        descriptor = view.getInt32(numberAt, little);
        await checked("cpg_max_atomic_msgsize_get", cpg.cpg_max_atomic_msgsize_get, [
          handle,
          at(numberAt),
        ]);
        maxMessageBytes = Math.min(view.getUint32(numberAt, little), dataBytes);
      } catch (error) {
        await service.disconnect();
        throw error;
      }
    },
    async dispatch() {
      await checked("cpg_dispatch", cpg.cpg_dispatch, [handle, dispatchAll]);
      if (overflow !== "noticed") return;
      overflow = "told";
      await cpg.cpg_leave(handle, at(nameAt));
      emit({ type: "overflow" } satisfies GroupServiceEvent);
    },
    async request(name, argument) {
      switch (name) {
        case "join":
          return await join(argument as GroupJoin);
        case "send":
          return await send(argument as readonly Uint8Array[]);
        case "taken":
          queuedBytes -= argument as number;
          return;
        case "leave":
          await checked("cpg_leave", cpg.cpg_leave, [handle, at(nameAt)]);
          return;
        default:
          throw new SamError("INVALID_PARAM", `process groups have no request "${name}"`);
      }
    },
    async disconnect() {
      await cpg.cpg_finalize(handle);
    },
    close() {
      delivered.close();
      changed.close();
      free();
      libc.close();
      library.close();
    },
  };
  return service;

  async function join(wish: GroupJoin): Promise<GroupJoined> {
    ({ maxQueuedBytes } = wish);
    view.setUint32(nameAt, wish.name.length, little);
    bytes.fill(0, nameAt + 4, nameAt + 4 + maxNameBytes);
    bytes.set(wish.name, nameAt + 4);
    await checked("cpg_local_get", cpg.cpg_local_get, [handle, at(numberAt)]);
    const nodeId = view.getUint32(numberAt, little);
    const status = await checked("cpg_join", cpg.cpg_join, [handle, at(nameAt)], exists);
    if (status === exists) {
      throw new SamError("TRY_AGAIN", "this process is still leaving the group");
    }
    return { nodeId, maxMessageBytes };
  }

  /** Multicasts messages until one is refused for now; returns how many were taken. */
  async function send(messages: readonly Uint8Array[]): Promise<number> {
    for (const [index, message] of messages.entries()) {
      data.set(message);
      view.setBigUint64(partsAt + 8, BigInt(message.length), little);
      const status = await cpg.cpg_mcast_joined(handle, agreed, at(partsAt), 1) as number;
      if (status === tryAgain) return index;
      if (status !== csOk) throw corosyncError("cpg_mcast_joined", status);
    }
    return messages.length;
  }
}
