/**
 * A place for calls that block: the event loop of its owner goes on meanwhile. On Node and Bun it is a worker; on Deno,
 * whose calls that block have threads of their own, the same code runs beside its owner.
 */
/** What the code in that place is given. */
export interface ThreadPort {
  /** The next message of the owner; undefined where none has come. */
  receive(): unknown;
  /** Says something to the owner. */
  post(message: unknown): void;
  /** From now on the owner adds `messageIncrement` to this eventfd with each message, and `endIncrement` when it is to end. */
  wakeBy(descriptor: number): void;
}

/** The code in that place; it has ended when its promise is settled. */
export type ThreadBody = (port: ThreadPort) => Promise<void>;

/** The place, for its owner. */
export interface Thread {
  /** Says something to the code in it. */
  post(message: unknown): void;
  /** Tells the code to end, which it does as soon as no call blocks it. */
  end(): void;
  /** Sets if it keeps the event loop alive; on Deno, a call that blocks always does. */
  hold(on: boolean): void;
}

/** What the owner is told. */
export interface ThreadSink {
  message(message: unknown): void;
  /** It has ended, or could not be started. */
  ended(error?: unknown): void;
}

/** Added to the eventfd for each message. */
export const messageIncrement = 1n;
/** Added to it for the end. */
export const endIncrement: bigint = 2n ** 32n;
