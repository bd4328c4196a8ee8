// The clients of a web server, as their process reports them.

/** The kinds of clients: a new connection for each request, or a kept one. */
export type ClientKind = "new" | "kept";

/** The address from which the clients of a kind connect. By it, the benchmark tells their connections apart. */
export const addressOf: Readonly<Record<ClientKind, string>> = {
  new: "127.0.0.1",
  kept: "127.0.0.2",
};

/** A failed request. */
export interface Failure {
  /** The time of the failure, on the clock of `wall`. */
  readonly at: number;
  readonly code: string;
  /** The part of the answer that arrived: the process id of the server. */
  readonly body: string;
  /** The time since the request was sent, in milliseconds. */
  readonly took: number;
  readonly isReused: boolean;
}

/** The results of the clients of one kind. */
export interface Counts {
  readonly sent: number;
  readonly answered: number;
  readonly refused: number;
  readonly reset: number;
  readonly timedOut: number;
  /** Answers with a status other than 200, and errors of other kinds. */
  readonly wrong: number;
  /** Requests on a kept connection that the server closed before it had read them. */
  readonly races: number;
  /** The longest time from a request until its answer or failure, in milliseconds. */
  readonly longestMs: number;
  /** Details of the first failures. */
  readonly failures: readonly Failure[];
}

/** The number of failed requests, without the races. */
export function failed({ refused, reset, timedOut, wrong }: Counts): number {
  return refused + reset + timedOut + wrong;
}
