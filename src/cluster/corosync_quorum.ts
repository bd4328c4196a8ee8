/** Corosync's quorum, watched: what the daemon tells, and whether it still answers. */
import { SamError } from "../errors.ts";
import { loadRuntime } from "../runtime/runtime.ts";
import { connect, type Connection } from "./corosync_connection.ts";
import type { QuorumEvent } from "./corosync_quorum_service.ts";

/** The daemon is asked so often within the time that it has for an answer. */
const questions = 4;
/** Until it has answered for the first time, the thread that asks is being started, which takes long on a busy machine. */
const patience = 10;
/**
 * A daemon that was frozen says what held before, until it notices that its token is lost (by default 3 to 4 seconds on up to
 * three nodes) and has looked for the others (consensus: 1.2 times as long). It is doubted for both and a moment, and no less
 * than this.
 */
const leastDoubtMs = 10_000;
const momentMs = 2000;

/** Watches until the returned function is called. */
export async function watchQuorum(
  answerTimeout: number,
  onChange: (quorate: boolean) => void,
  onProblem: (error: SamError) => void = () => {},
): Promise<() => Promise<void>> {
  const runtime = await loadRuntime();
  let reported: boolean | null = null;
  let told: boolean | null = null; // by the daemon
  let waiting = false;
  let missed = 0;
  let limit = patience * questions;
  /** After a silence, so many more answers have to come before quorum counts, unless the daemon tells of a change. */
  let doubt = 0;
  let map: Promise<Connection> | undefined; // while it is asked how long the daemon is to be doubted
  let ended = false;
  const report = () => {
    const quorate = missed >= limit || doubt > 0 ? false : told;
    if (ended || quorate === null || quorate === reported) return;
    reported = quorate;
    onChange(quorate);
  };
  const tell = (quorate: boolean) => {
    told = quorate;
    doubt = 0;
    report();
  };
  const connection = await connect("quorum", {
    event: (event) => tell((event as QuorumEvent).quorate),
    away(error) {
      if (!ended) onProblem(error);
      tell(false);
    },
  });

  const answersIn = (ms: number) => Math.ceil(ms * questions / answerTimeout) + 1;
  /** Asked when it is to be doubted, it answers when it answers again. */
  const doubtLonger = async () => {
    if (map) return; // asked already
    map = connect("clusterMap", {});
    try {
      const { tried, request } = await map;
      await tried;
      const [token, consensus] = await Promise.all(
        ["token", "consensus"].map((name) =>
          request("number", `runtime.config.totem.${name}`, false)
        ),
      ) as [number, number];
      if (doubt > 0) doubt = Math.max(doubt, answersIn(token + consensus + momentMs));
    } catch {
      // there is no libcmap, or the daemon has ended: what is new is told
    } finally {
      await closeMap();
    }
  };
  const closeMap = async () => {
    const open = map;
    map = undefined;
    await (await open?.catch(() => undefined))?.close();
  };

  // Counted in questions, not by the clock: a process that was stopped has not asked meanwhile, and blames nobody.
  const ask = () => {
    cancel = runtime.schedule(ask, answerTimeout / questions, false);
    if (waiting) {
      if (++missed === limit) {
        if (doubt === 0) {
          const silentMs = answerTimeout * (limit > questions ? patience : 1);
          onProblem(
            new SamError(
              "TIMEOUT",
              `Corosync has not answered for ${silentMs} ms: quorum counts as lost`,
            ),
          );
        }
        doubt = answersIn(leastDoubtMs);
        void doubtLonger();
        report();
        onSilence();
      }
      return;
    }
    waiting = true;
    const settled = () => {
      waiting = false;
      missed = 0;
      limit = questions - 1;
      report();
    };
    connection.request("probe", undefined, false).then(() => {
      if (doubt > 0) doubt--;
      settled();
    }, settled); // it is not the daemon that refuses
  };
  let onSilence = () => {};
  const silence = new Promise<void>((resolve) => onSilence = resolve);
  let cancel = () => {};
  ask();
  const end = async () => {
    ended = true;
    cancel();
    await Promise.all([closeMap(), connection.close()]);
  };
  try {
    await Promise.race([connection.tried, silence]);
  } catch (error) {
    await end();
    throw error;
  }
  return end;
}
