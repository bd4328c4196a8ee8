// Asks a server of test/fixtures that answers one text and closes the connection.
import { connect } from "node:net";
import { waitMs } from "./processes.ts";

/** Sends a text, and resolves to the answer; undefined if the connection was refused or reset. */
export function ask(where: number | string, text = "who"): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = typeof where === "number" ? connect(where, "127.0.0.1") : connect(where);
    let answer = "";
    socket.setTimeout(waitMs, () => socket.destroy()).setEncoding("utf8")
      .on("connect", () => socket.write(text))
      .on("data", (more: string) => answer += more)
      .on("error", () => resolve(undefined))
      .on("close", () => resolve(answer));
  });
}
