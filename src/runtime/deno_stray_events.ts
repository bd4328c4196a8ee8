/**
 * The end of a Deno process, and errors that nobody caught, for a program that becomes a server. Imported with the library, because
 * Deno runs listeners in the order in which they were added, and none can be removed by another.
 */

/** What happens to a Deno process: its end, and errors that nobody caught. */
interface StrayEvent {
  readonly type: string;
  readonly reason: unknown;
  readonly error: unknown;
  preventDefault(): void;
  stopImmediatePropagation(): void;
}

/** Called for each event, ahead of the listeners of the program; null until this process becomes a server. */
export const interception: { handle: ((event: StrayEvent) => void) | null } = { handle: null };

if ("Deno" in globalThis) {
  const { addEventListener } = globalThis as unknown as {
    addEventListener(type: string, listener: (event: StrayEvent) => void): void;
  };
  for (const type of ["unload", "unhandledrejection", "error"]) {
    addEventListener(type, (event) => interception.handle?.(event));
  }
}
