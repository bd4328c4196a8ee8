/**
 * A thread for blocking C calls, so that they do not block its owner's event loop. On Node and Bun it is a worker. On
 * Deno, blocking calls run on threads of the runtime, so the thread's code runs on its owner's event loop.
 */

/** The thread's access to its owner, passed to the thread's code. */
export interface ThreadPort {
  /** Returns the next message of the owner; undefined if there is none. */
  receive(): unknown;
  /** Sends a message to the owner. */
  post(message: unknown): void;
  /**
   * Sets the eventfd that wakes the thread. From then on, the owner adds `messageIncrement` to it for each message, and
   * `endIncrement` to end the thread.
   */
  wakeBy(descriptor: number): void;
}

/** The code of the thread. The thread ends when the returned promise settles. */
export type ThreadBody = (port: ThreadPort) => Promise<void>;

/** A thread, as its owner sees it. */
export interface Thread {
  /** Sends a message to the thread. */
  post(message: unknown): void;
  /** Ends the thread as soon as no call blocks it. */
  end(): void;
  /** Sets whether the thread keeps the event loop alive. On Deno, a blocking call always does. */
  hold(on: boolean): void;
}

/** Receives a thread's messages and its end. */
export interface ThreadSink {
  message(message: unknown): void;
  /** Called when the thread has ended. `error` is set if it failed or could not be started. */
  ended(error?: unknown): void;
}

/** The increment of the eventfd for each message. */
export const messageIncrement = 1n;
/** The increment of the eventfd that ends the thread. */
export const endIncrement: bigint = 2n ** 32n;
