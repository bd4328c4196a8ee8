/** Watches Corosync's quorum: listens to the daemon, and checks that the daemon still answers. */
import { SamError } from "../errors.ts";
import { loadRuntime } from "../runtime/load.ts";
import { connect } from "./daemon/connection.ts";
import type { QuorumEvent } from "./daemon/quorum_service.ts";

/** The number of probes within `answerTimeout`. */
const probesPerTimeout = 4;
/** The time limit for the first answer, in `answerTimeout`s. The thread starts first, which takes long on a busy machine. */
const firstAnswerFactor = 10;
/**
 * The shortest time for which answers do not count after the daemon was silent. A daemon that was frozen reports the
 * state from before until it notices that its token is lost (by default after 3 to 4 seconds on up to three nodes) and
 * has looked for the other nodes (consensus, 1.2 times as long). If token and consensus plus `marginMs` take longer, that
 * time applies.
 */
const leastDoubtMs = 10_000;
const marginMs = 2000;

/** Watches quorum until the returned function is called. */
export async function watchQuorum(
  answerTimeout: number,
  onChange: (quorate: boolean) => void,
  onProblem: (error: SamError) => void = () => {},
): Promise<() => Promise<void>> {
  const runtime = await loadRuntime();
  let reported: boolean | null = null;
  /** The last state that the daemon reported. */
  let daemonSays: boolean | null = null;
  let isWaiting = false;
  let missed = 0;
  let limit = firstAnswerFactor * probesPerTimeout;
  /** The number of answers after a silence that do not count yet. A change reported by the daemon ends this. */
  let doubtedAnswers = 0;
  const ending = new AbortController();
  const report = () => {
    const quorate = missed >= limit || doubtedAnswers > 0 ? false : daemonSays;
    if (ending.signal.aborted || quorate === null || quorate === reported) return;
    reported = quorate;
    onChange(quorate);
  };
  const setState = (quorate: boolean) => {
    daemonSays = quorate;
    doubtedAnswers = 0;
    report();
  };
  const connection = await connect("quorum", {
    event: (event) => setState((event as QuorumEvent).quorate),
    away(error) {
      if (!ending.signal.aborted) onProblem(error);
      setState(false);
    },
  });

  const answersIn = (ms: number) => Math.ceil(ms * probesPerTimeout / answerTimeout) + 1;
  // Silence is counted in probes, not by the clock: while this process was stopped, it sent no probes either.
  const probe = () => {
    cancel = runtime.schedule(probe, answerTimeout / probesPerTimeout, false);
    if (isWaiting) {
      if (++missed === limit) {
        if (doubtedAnswers === 0) {
          const silentMs = answerTimeout * (limit > probesPerTimeout ? firstAnswerFactor : 1);
          onProblem(
            new SamError(
              "TIMEOUT",
              `Corosync has not answered for ${silentMs} ms: quorum counts as lost`,
            ),
          );
        }
        doubtedAnswers = answersIn(leastDoubtMs);
        regroupTime(ending.signal).then((ms) => {
          if (doubtedAnswers > 0) {
            doubtedAnswers = Math.max(doubtedAnswers, answersIn(ms + marginMs));
          }
        }, () => {}); // without libcmap the default stays; the end of the daemon is reported elsewhere
        report();
        onSilence();
      }
      return;
    }
    isWaiting = true;
    const settled = () => {
      isWaiting = false;
      missed = 0;
      limit = probesPerTimeout - 1;
      report();
    };
    connection.request("probe", undefined, false).then(() => {
      if (doubtedAnswers > 0) doubtedAnswers--;
      settled();
    }, settled); // a rejection is not silence: the daemon is away, which `away` has reported
  };
  let onSilence = () => {};
  const silence = new Promise<void>((resolve) => onSilence = resolve);
  let cancel = () => {};
  probe();
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

/** Reads the daemon's token and consensus timeouts, in milliseconds. A silent daemon answers when it runs again. */
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
