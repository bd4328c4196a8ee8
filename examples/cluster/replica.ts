/**
 * One node's copy of a replicated counter. Two rules protect an acknowledged increment:
 *
 * - A majority of the nodes has stored the increment before it is acknowledged.
 * - A node that joins receives the state of all other members before it answers requests.
 *
 * Clients number their requests 1, 2, 3 …, so an entry with a client's last number and its sum describes all its
 * requests. Of two entries of a client, the one with the higher number is newer, whichever node it comes from. Copies
 * that were apart can therefore be merged. The process group guarantees that each message comes before or after a change
 * of membership for all members. So an increment is either part of the state that a new member receives, or reaches the
 * new member itself.
 */

/** The number of the last request of a client that was carried out, and the sum of all its requests. */
interface Entry {
  readonly seq: number;
  readonly sum: number;
}
type Entries = Readonly<Record<string, Entry>>;

type Message =
  /** An increment that all nodes should store. */
  | { readonly type: "entries"; readonly entries: Entries }
  /** The whole state of a node, for new members. */
  | { readonly type: "state"; readonly entries: Entries }
  /** The numbers of the requests that a node has stored. */
  | { readonly type: "stored"; readonly seqs: Readonly<Record<string, number>> };

export interface ReplicaParts {
  readonly nodeId: number;
  /** The number of all nodes, running or not. */
  readonly nodes: number;
  /** Sends a message to all replicas, including this one. */
  readonly send: (bytes: Uint8Array) => Promise<void>;
  /** Stores the state of this node so that it survives this process. */
  readonly store: (bytes: Uint8Array) => Promise<void>;
  /** The state that was stored last. */
  readonly stored: Uint8Array;
}

/** The outcome of a request. */
export type Outcome =
  /** A majority of the nodes has stored it. */
  | "done"
  /**
   * It is not known if a majority has stored it. The client should repeat the request, to this or another node. A number
   * that is too high for this node also gives this outcome: the earlier requests may still be on their way to it.
   */
  | "unknown";

interface PendingRequest {
  readonly client: string;
  readonly seq: number;
  readonly nodes: Set<number>;
  done(): void;
}

export class Replica {
  readonly #parts: ReplicaParts;
  readonly #entries: Map<string, Entry>;
  readonly #pending = new Set<PendingRequest>();
  #nodeIds = new Set<number>();
  /** Members whose state this one has not yet received. */
  #awaited = new Set<number>();
  /** Clients whose entries have changed since the last store. */
  #changed = new Set<string>();
  #storing = false;

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    this.#entries = new Map(Object.entries(decode<Entries>(parts.stored) ?? {}));
  }

  /** The sum of all increments that this node knows. */
  get value(): number {
    let value = 0;
    for (const { sum } of this.#entries.values()) value += sum;
    return value;
  }

  /** True if this node is part of a majority, and has received the state of its members. */
  get ready(): boolean {
    return this.#isMajority(this.#nodeIds) && this.#awaited.size === 0;
  }

  /** Handles a change of the members. `someJoined` is true if there are new ones. */
  async members(nodeIds: readonly number[], someJoined: boolean): Promise<void> {
    const before = this.#nodeIds;
    this.#nodeIds = new Set(nodeIds);
    if (!this.#isMajority(before)) {
      this.#awaited = new Set(nodeIds);
      this.#awaited.delete(this.#parts.nodeId);
    }
    for (const nodeId of this.#awaited) {
      if (!this.#nodeIds.has(nodeId)) this.#awaited.delete(nodeId);
    }
    if (someJoined) await this.#send({ type: "state", entries: Object.fromEntries(this.#entries) });
  }

  /** Handles a message from a replica. A replica also receives its own messages. */
  message(from: number, bytes: Uint8Array): void {
    const message = decode<Message>(bytes);
    if (message?.type === "stored") return this.#confirm(from, message.seqs);
    if (message?.type === "state") this.#awaited.delete(from);
    if (message) this.#merge(message.entries);
  }

  /** Adds `by`. A repeated request counts once. Resolves within `limitMs`. */
  async add(client: string, seq: number, by: number, limitMs: number): Promise<Outcome> {
    const last = this.#entries.get(client) ?? { seq: 0, sum: 0 };
    if (!this.ready || seq > last.seq + 1) return "unknown";
    const entry = seq === last.seq + 1 ? { seq, sum: last.sum + by } : last;
    return await new Promise((resolve) => {
      const end = (outcome: Outcome) => {
        clearTimeout(timer);
        this.#pending.delete(request);
        resolve(outcome);
      };
      const timer = setTimeout(() => end("unknown"), limitMs);
      const request: PendingRequest = { client, seq, nodes: new Set(), done: () => end("done") };
      this.#pending.add(request);
      // A repeated request is sent again, so that the nodes that have stored it confirm it again.
      this.#send({ type: "entries", entries: { [client]: entry } }).catch(() => end("unknown"));
    });
  }

  #isMajority(nodeIds: ReadonlySet<number>): boolean {
    return nodeIds.size * 2 > this.#parts.nodes;
  }

  #merge(entries: Entries): void {
    for (const [client, entry] of Object.entries(entries)) {
      if (entry.seq > (this.#entries.get(client)?.seq ?? 0)) this.#entries.set(client, entry);
      this.#changed.add(client);
    }
    if (!this.#storing) void this.#store();
  }

  /** Stores the state, then confirms it to the others. Changes that arrive meanwhile are stored in the next round. */
  async #store(): Promise<void> {
    this.#storing = true;
    while (this.#changed.size > 0) {
      const clients = [...this.#changed];
      this.#changed.clear();
      const seqs = Object.fromEntries(
        clients.map((client) => [client, this.#entries.get(client)!.seq]),
      );
      await this.#parts.store(encode(Object.fromEntries(this.#entries)));
      await this.#send({ type: "stored", seqs });
    }
    this.#storing = false;
  }

  /** Counts a node that has stored requests, up to these numbers. */
  #confirm(nodeId: number, seqs: Readonly<Record<string, number>>): void {
    for (const request of this.#pending) {
      if ((seqs[request.client] ?? 0) < request.seq) continue;
      request.nodes.add(nodeId);
      if (this.#isMajority(request.nodes)) request.done();
    }
  }

  #send(message: Message): Promise<void> {
    return this.#parts.send(encode(message));
  }
}

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function decode<T>(bytes: Uint8Array): T | undefined {
  return bytes.length === 0 ? undefined : JSON.parse(new TextDecoder().decode(bytes));
}
