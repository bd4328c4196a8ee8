/** Corosync's closed process groups (libcpg). Joins one group, delivers its messages and changes, and sends messages. */
import { SamError } from "../../errors.ts";
import type { NativeLibrary } from "../../ffi/c_library.ts";
import {
  LibraryService,
  little,
  numberAt,
  ownAt,
  type Service,
  type ServiceParts,
} from "./service.ts";

/** A member as libcpg reports it, with the reason of a change (`cpg_reason_t`). */
export interface GroupAddress {
  readonly nodeId: number;
  readonly pid: number;
  readonly reason: number;
}

/** The events of the service, in the order in which all members see them. */
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
  /** More bytes wait for the reader than are allowed. The service has left the group, and sends no more events. */
  | { readonly type: "overflow" };

/** The argument of the request `join`. */
export interface GroupJoin {
  readonly name: Uint8Array;
  /** Maximum number of bytes that wait for the reader. */
  readonly maxQueuedBytes: number;
}

/** The result of the request `join`. */
export interface GroupJoined {
  readonly nodeId: number;
  readonly maxMessageBytes: number;
}

/** `CPG_MAX_NAME_LENGTH` */
export const maxNameBytes = 128;
/** The number of bytes that a message counts while it waits. */
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
/** The offset of one `struct iovec`. */
const partsAt = ownAt;
/** The offset of a `cpg_model_v1_data_t`. */
const modelAt = 32;
/** The offset of a `struct cpg_name`. */
const nameAt = 72;
const dataAt = 256;
const dataBytes = 1 << 20;
const library = {
  file: "libcpg.so.4",
  prefix: "cpg",
  calls: {
    model_initialize: { parameters: ["u64", "u32", "u64", "u64"], result: "i32", blocks: true },
    join: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    leave: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    mcast_joined: { parameters: ["u64", "u32", "u64", "u32"], result: "i32", blocks: true },
    local_get: { parameters: ["u64", "u64"], result: "i32", blocks: true },
    max_atomic_msgsize_get: { parameters: ["u64", "u64"], result: "i32" },
  },
  ownBytes: dataAt - ownAt + dataBytes,
} as const;
const libc = {
  memcpy: { parameters: ["u64", "u64", "u64"], result: "u64" },
} as const;

export function groupService(parts: ServiceParts): Service {
  return new GroupService(parts);
}

class GroupService extends LibraryService<keyof typeof library.calls> {
  readonly #emit: (event: GroupServiceEvent) => void;
  readonly #libc: NativeLibrary<typeof libc>;
  readonly #data = this.bytes.subarray(dataAt);
  #maxMessageBytes = 0;
  #maxQueuedBytes = 0;
  #queuedBytes = 0;
  #overflow: "no" | "noticed" | "reported" = "no";

  constructor({ native, emit }: ServiceParts) {
    super(native, library);
    this.#emit = emit;
    this.#libc = native.open("libc.so.6", libc);
    const delivered = this.callback(
      ["u64", "u64", "u32", "u32", "u64", "u64"], // handle, group, node, process, message and its length
      (_handle, _group, nodeId, pid, message, length) =>
        this.#deliver(Number(nodeId), Number(pid), BigInt(message!), Number(length)),
    );
    const changed = this.callback(
      // handle, group, and three lists with their lengths: members, left and joined
      ["u64", "u64", "u64", "u64", "u64", "u64", "u64", "u64"],
      (_handle, _group, members, memberCount, left, leftCount, joined, joinedCount) => {
        if (this.#overflow !== "no") return;
        this.#emit({
          type: "members",
          members: this.#addresses(members!, memberCount!),
          left: this.#addresses(left!, leftCount!),
          joined: this.#addresses(joined!, joinedCount!),
        });
      },
    );
    this.view.setUint32(modelAt, modelV1, little);
    this.view.setBigUint64(modelAt + 8, delivered, little);
    this.view.setBigUint64(modelAt + 16, changed, little);
    this.view.setBigUint64(partsAt, this.at(dataAt), little);
  }

  connect(): Promise<void> {
    return this.initializeBy("model_initialize", [modelV1, this.at(modelAt), 0n], async () => {
      await this.call("max_atomic_msgsize_get", [this.at(numberAt)]);
      this.#maxMessageBytes = Math.min(this.view.getUint32(numberAt, little), dataBytes);
    });
  }

  override async dispatch(): Promise<void> {
    await super.dispatch();
    if (this.#overflow !== "noticed") return;
    this.#overflow = "reported";
    await this.#leave().catch(() => {}); // the owner then closes the connection, which leaves the group, too
    this.#emit({ type: "overflow" });
  }

  async request(name: string, argument: unknown): Promise<unknown> {
    switch (name) {
      case "join":
        return await this.#join(argument as GroupJoin);
      case "send":
        return await this.#send(argument as readonly Uint8Array[]);
      case "taken":
        this.#queuedBytes -= argument as number;
        return;
      case "leave":
        return await this.#leave();
      default:
        throw new SamError("INVALID_PARAM", `process groups have no request "${name}"`);
    }
  }

  override close(): void {
    super.close();
    this.#libc.close();
  }

  async #join({ name, maxQueuedBytes }: GroupJoin): Promise<GroupJoined> {
    this.#maxQueuedBytes = maxQueuedBytes;
    this.view.setUint32(nameAt, name.length, little);
    this.bytes.fill(0, nameAt + 4, nameAt + 4 + maxNameBytes);
    this.bytes.set(name, nameAt + 4);
    await this.call("local_get", [this.at(numberAt)]);
    const nodeId = this.view.getUint32(numberAt, little);
    if (await this.call("join", [this.at(nameAt)], exists) === exists) {
      throw new SamError("TRY_AGAIN", "this process is still leaving the group");
    }
    return { nodeId, maxMessageBytes: this.#maxMessageBytes };
  }

  /** Sends messages until Corosync refuses one for now. Returns the number of messages that were taken. */
  async #send(messages: readonly Uint8Array[]): Promise<number> {
    for (const [index, message] of messages.entries()) {
      this.#data.set(message);
      this.view.setBigUint64(partsAt + 8, BigInt(message.length), little);
      const status = await this.call("mcast_joined", [agreed, this.at(partsAt), 1], tryAgain);
      if (status === tryAgain) return index;
    }
    return messages.length;
  }

  async #leave(): Promise<void> {
    await this.call("leave", [this.at(nameAt)]);
  }

  #deliver(nodeId: number, pid: number, message: bigint, size: number): void {
    if (this.#overflow !== "no") return;
    this.#queuedBytes += queuedBytesOf(size);
    if (this.#queuedBytes > this.#maxQueuedBytes) this.#overflow = "noticed";
    else this.#emit({ type: "message", nodeId, pid, data: this.#fetch(message, size) });
  }

  #addresses(list: number | bigint, count: number | bigint): GroupAddress[] {
    const found = new DataView(this.#fetch(BigInt(list), Number(count) * addressBytes).buffer);
    return Array.from({ length: Number(count) }, (_, index) => {
      const offset = index * addressBytes;
      return {
        nodeId: found.getUint32(offset, little),
        pid: found.getUint32(offset + 4, little),
        reason: found.getUint32(offset + 8, little),
      };
    });
  }

  /** Copies the data of a callback, which is freed when the callback returns. Copies in pieces of our buffer's size. */
  #fetch(from: bigint, count: number): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(count);
    for (let done = 0; done < count; done += dataBytes) {
      const part = Math.min(count - done, dataBytes);
      this.#libc.functions.memcpy(this.at(dataAt), from + BigInt(done), BigInt(part));
      all.set(this.#data.subarray(0, part), done);
    }
    return all;
  }
}
