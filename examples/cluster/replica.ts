/**
 * One node's copy of a counter, and what makes an acknowledged increment last: a majority of the nodes has stored it before it is
 * acknowledged, and a node that comes (back) hears all that the others know before it answers.
 *
 * Requests are numbered by their clients, 1, 2, 3 …, so what a client has reached is its last number and its sum. Of two
 * such entries the one with the higher number is the newer one, wherever it comes from, so that copies that were apart can be
 * merged. What the group gives: a message comes before or after a change of membership for all, so that it is either in the state
 * that a newcomer is sent, or reaches the newcomer itself.
 */

/** The last request of a client that was carried out, and the sum of all. */
interface Entry {
  readonly seq: number;
  readonly sum: number;
}
type Entries = Readonly<Record<string, Entry>>;

type Message =
  /** An increment, for all to store. */
  | { readonly type: "entries"; readonly entries: Entries }
  /** All that a node knows, for those who have just come. */
  | { readonly type: "state"; readonly entries: Entries }
  /** A node has stored these. */
  | { readonly type: "have"; readonly seqs: Readonly<Record<string, number>> };

export interface ReplicaParts {
  readonly nodeId: number;
  /** How many nodes there are in all, whether they are up or not. */
  readonly nodes: number;
  /** Sends to all replicas, this one included. */
  readonly send: (bytes: Uint8Array) => Promise<void>;
  /** Keeps what this node knows, also beyond the end of this process. */
  readonly store: (bytes: Uint8Array) => Promise<void>;
  /** What was kept last. */
  readonly stored: Uint8Array;
}

/** What became of a request. */
export type Outcome =
  /** A majority has it. */
  | "done"
  /**
   * Nobody can say: the same request again, to this or another node, will tell. A number that is not the client's next one is
   * no error: the one before may be on a majority already, and on its way to this node.
   */
  | "unknown";

interface Waiting {
  readonly client: string;
  readonly seq: number;
  readonly nodes: Set<number>;
  done(): void;
}

export class Replica {
  readonly #parts: ReplicaParts;
  readonly #entries: Map<string, Entry>;
  readonly #waiting = new Set<Waiting>();
  #nodeIds = new Set<number>();
  /** Members that have not yet told this one what they know. */
  #awaited = new Set<number>();
  /** Clients whose entries are new since the last store. */
  #fresh = new Set<string>();
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

  /** It is among a majority, and knows what those know. */
  get ready(): boolean {
    return this.#isMajority(this.#nodeIds) && this.#awaited.size === 0;
  }

  /** Other replicas came or went. */
  async members(nodeIds: readonly number[], someCame: boolean): Promise<void> {
    const before = this.#nodeIds;
    this.#nodeIds = new Set(nodeIds);
    if (!this.#isMajority(before)) {
      this.#awaited = new Set(nodeIds);
      this.#awaited.delete(this.#parts.nodeId);
    }
    for (const nodeId of this.#awaited) {
      if (!this.#nodeIds.has(nodeId)) this.#awaited.delete(nodeId);
    }
    if (someCame) await this.#send({ type: "state", entries: Object.fromEntries(this.#entries) });
  }

  /** A message came from a replica; its own come back, too. */
  message(from: number, bytes: Uint8Array): void {
    const message = decode<Message>(bytes);
    if (message?.type === "have") return this.#count(from, message.seqs);
    if (message?.type === "state") this.#awaited.delete(from);
    if (message) this.#merge(message.entries);
  }

  /** Adds `by`, once, however often the same request comes. Resolved within `limitMs`. */
  async add(client: string, seq: number, by: number, limitMs: number): Promise<Outcome> {
    const last = this.#entries.get(client) ?? { seq: 0, sum: 0 };
    if (!this.ready || seq > last.seq + 1) return "unknown";
    const entry = seq === last.seq + 1 ? { seq, sum: last.sum + by } : last;
    return await new Promise((resolve) => {
      const end = (outcome: Outcome) => {
        clearTimeout(timer);
        this.#waiting.delete(waiting);
        resolve(outcome);
      };
      const timer = setTimeout(() => end("unknown"), limitMs);
      const waiting: Waiting = { client, seq, nodes: new Set(), done: () => end("done") };
      this.#waiting.add(waiting);
      // A repeated request is sent again: those who have it say so again.
      this.#send({ type: "entries", entries: { [client]: entry } }).catch(() => end("unknown"));
    });
  }

  #isMajority(nodeIds: ReadonlySet<number>): boolean {
    return nodeIds.size * 2 > this.#parts.nodes;
  }

  #merge(entries: Entries): void {
    for (const [client, entry] of Object.entries(entries)) {
      if (entry.seq > (this.#entries.get(client)?.seq ?? 0)) this.#entries.set(client, entry);
      this.#fresh.add(client);
    }
    if (!this.#storing) void this.#store();
  }

  /** Stores what is known, then says so; what comes meanwhile is the next round's. */
  async #store(): Promise<void> {
    this.#storing = true;
    while (this.#fresh.size > 0) {
      const clients = [...this.#fresh];
      this.#fresh.clear();
      const seqs = Object.fromEntries(
        clients.map((client) => [client, this.#entries.get(client)!.seq]),
      );
      await this.#parts.store(encode(Object.fromEntries(this.#entries)));
      await this.#send({ type: "have", seqs });
    }
    this.#storing = false;
  }

  /** A node has stored what clients have reached. */
  #count(nodeId: number, seqs: Readonly<Record<string, number>>): void {
    for (const waiting of this.#waiting) {
      if ((seqs[waiting.client] ?? 0) < waiting.seq) continue;
      waiting.nodes.add(nodeId);
      if (this.#isMajority(waiting.nodes)) waiting.done();
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
