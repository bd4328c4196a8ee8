/** Corosync's quorum, watched: what the daemon tells, and whether it still answers. */
import { SamError } from "../errors.ts";
import { loadRuntime } from "../runtime/load.ts";
import { connect } from "./daemon/connection.ts";
import type { QuorumEvent } from "./daemon/quorum_service.ts";

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
  const ending = new AbortController();
  const report = () => {
    const quorate = missed >= limit || doubt > 0 ? false : told;
    if (ending.signal.aborted || quorate === null || quorate === reported) return;
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
      if (!ending.signal.aborted) onProblem(error);
      tell(false);
    },
  });

  const answersIn = (ms: number) => Math.ceil(ms * questions / answerTimeout) + 1;
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
        regroupTime(ending.signal).then((ms) => {
          if (doubt > 0) doubt = Math.max(doubt, answersIn(ms + momentMs));
        }, () => {}); // there is no libcmap, or the daemon has ended: what is new is told
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
    ending.abort();
    cancel();
    await connection.close();
  };
  try {
    await Promise.race([connection.tried, silence]);
  } catch (error) {
    await end();
    throw error;
  }
  return end;
}

/** The token and the consensus of the daemon, in milliseconds: asked while it is silent, it answers when it answers again. */
async function regroupTime(signal: AbortSignal): Promise<number> {
  const { tried, request, close } = await connect("clusterMap", {}, signal);
  try {
    await tried;
    const read = (name: string) =>
      request("number", `runtime.config.totem.${name}`, false) as Promise<number>;
    return await read("token") + await read("consensus");
  } finally {
    await close();
  }
}
