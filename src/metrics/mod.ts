/**
 * Prometheus metrics of supervised programs: restarts by reason, how close heartbeats came to their deadline, time to detect a
 * hang, time to recover.
 * `sam run --metrics` serves the same metrics. This module is for a server of your own.
 *
 * ```ts
 * import { supervise } from "@x/sam";
 * import { prometheusMetrics } from "@x/sam/metrics";
 *
 * await using web = supervise({ command: "sleep", args: ["60"] }, { recoveryPolicy: "restart" });
 * const metrics = prometheusMetrics({ web });
 * console.log(metrics.text()); // serve it with metrics.contentType
 * ```
 *
 * @module
 */
import { PrometheusText, prometheusType } from "./prometheus_text.ts";
import type { Supervisor } from "../api/supervisor.ts";

export type { Supervisor } from "../api/supervisor.ts";

/** Metrics of programs in the format of Prometheus; made by `prometheusMetrics`. */
export interface PrometheusMetrics {
  /**
   * Returns the current metrics in the text format of Prometheus, version 0.0.4. For their names, see
   * https://github.com/x/sam/blob/main/docs/metrics.md
   */
  text(): string;
  /** The media type of the text, for the header `content-type`. */
  readonly contentType: string;
  /**
   * Adds a program to the metrics. Its name becomes the label `program`. Returns a function that removes the program again.
   * Throws INVALID_PARAM if the name is in use.
   */
  add(name: string, program: Supervisor): () => void;
}

/**
 * Returns Prometheus metrics of these programs. Each key becomes the label `program`. Default: no programs; see `add()`.
 *
 * Restarts before this call are not counted. The counts of heartbeats begin with the program.
 *
 * ```ts
 * import { supervise } from "@x/sam";
 * import { prometheusMetrics } from "@x/sam/metrics";
 *
 * const metrics = prometheusMetrics();
 * await using job = supervise({ command: "sleep", args: ["60"] }, { recoveryPolicy: "restart" });
 * const remove = metrics.add("job", job);
 * console.log(metrics.text().includes('sam_instance_id{program="job"} 1'));
 * remove();
 * ```
 *
 * Throws INVALID_PARAM for a value that is not a `Supervisor`.
 */
export function prometheusMetrics(
  programs: Readonly<Record<string, Supervisor>> = {},
): PrometheusMetrics {
  const prometheus = new PrometheusText();
  prometheus.meters.addAll(programs);
  return {
    text: () => prometheus.text,
    contentType: prometheusType,
    add(name, program) {
      const remove = prometheus.meters.add(name, program);
      return () => {
        remove();
        prometheus.forget(name);
      };
    },
  };
}
