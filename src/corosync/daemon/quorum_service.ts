/** Corosync's quorum service, libquorum: tells whether the cluster is quorate, first and at each change. */
import { allocate } from "../../ffi/c_memory.ts";
import { checked, dispatchAll, little, type Service, type ServiceParts } from "./service.ts";

/** What it tells, and what `probe` answers. */
export interface QuorumEvent {
  readonly quorate: boolean;
}

const trackCurrentAndChanges = 3;
const handleAt = 0;
const numberAt = 8;
const callbacksAt = 16;

/** Connects to the quorum service. */
export function quorumService({ native, emit }: ServiceParts): Service {
  const library = native.open("libquorum.so.5", {
    quorum_initialize: { parameters: ["u64", "u64", "u64"], result: "i32", blocks: true },
    quorum_finalize: { parameters: ["u64"], result: "i32", blocks: true },
    quorum_fd_get: { parameters: ["u64", "u64"], result: "i32" },
    quorum_trackstart: { parameters: ["u64", "u32"], result: "i32", blocks: true },
    quorum_dispatch: { parameters: ["u64", "i32"], result: "i32", blocks: true },
    quorum_getquorate: { parameters: ["u64", "u64"], result: "i32", blocks: true },
  });
  const {
    quorum_initialize,
    quorum_finalize,
    quorum_fd_get,
    quorum_trackstart,
    quorum_dispatch,
    quorum_getquorate,
  } = library.functions;
  const { address, view, free } = allocate(native, 24);
  const notified = native.callback(
    ["u64", "u32", "u64", "u32", "u64"], // handle, quorate, ring, count and list of members
    (_handle, quorate) => emit({ quorate: quorate !== 0 } satisfies QuorumEvent),
  );
  view.setBigUint64(callbacksAt, notified.address, little);
  const at = (offset: number) => address + BigInt(offset);
  let handle = 0n;
  let descriptor = -1;
  const probe = async (): Promise<QuorumEvent> => {
    await checked("quorum_getquorate", quorum_getquorate, [handle, at(numberAt)]);
    return { quorate: view.getInt32(numberAt, little) !== 0 };
  };
  const service: Service = {
    get descriptor() {
      return descriptor;
    },
    async connect() {
      await checked("quorum_initialize", quorum_initialize, [
        at(handleAt),
        at(callbacksAt),
        at(numberAt),
      ]);
      handle = view.getBigUint64(handleAt, little);
      try {
        await checked("quorum_fd_get", quorum_fd_get, [handle, at(numberAt)]);
        descriptor = view.getInt32(numberAt, little);
        const first = await probe(); // before the tracking, so that what that brings is always newer
        await checked("quorum_trackstart", quorum_trackstart, [handle, trackCurrentAndChanges]);
        emit(first); // known as soon as it is connected
      } catch (error) {
        await service.disconnect();
        throw error;
      }
    },
    async dispatch() {
      await checked("quorum_dispatch", quorum_dispatch, [handle, dispatchAll]);
    },
    request: probe,
    async disconnect() {
      await quorum_finalize(handle);
    },
    close() {
      notified.close();
      free();
      library.close();
    },
  };
  return service;
}
