/**
 * Figures about supervised programs for Prometheus: restarts by reason, near misses, how long a hang was not noticed, how
 * long a recovery took. `sam run --metrics` serves them; here they are for a server of yours.
 *
 * ```ts
 * import { supervise } from "@x/sam";
 * import { prometheusMetrics } from "@x/sam/metrics";
 *
 * await using web = supervise({ command: "sleep", args: ["60"] }, { recoveryPolicy: "restart" });
 * const metrics = prometheusMetrics({ web });
 * console.log(metrics.text()); // served as metrics.contentType
 * ```
 *
 * @module
 */
import { PrometheusText, prometheusType } from "./prometheus_text.ts";
import type { Supervisor } from "../api/supervisor.ts";

export type { Supervisor } from "../api/supervisor.ts";

/** Programs, measured for Prometheus. */
export interface PrometheusMetrics {
  /** What is known now, in the text format of Prometheus 0.0.4; see docs/metrics.md for the names. */
  text(): string;
  /** The media type of the text. */
  readonly contentType: string;
  /**
   * Measures one more program, under a name that becomes the label `program`; returns how that is ended. Throws INVALID_PARAM
   * where the name is taken.
   */
  add(name: string, program: Supervisor): () => void;
}

/**
 * Measures programs from now on. What happened before is not counted, except signs of life.
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
 * Throws INVALID_PARAM for what is no `Supervisor`.
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
