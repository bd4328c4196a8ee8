import { withDefault } from "../../api/validate.ts";

/**
 * The settings of one program, from flags, environment variables and the configuration file. Each setting has a source: the
 * flag, variable or key that error messages name.
 */
export class Settings {
  readonly #values = new Map<string, { readonly value: unknown; readonly source: string }>();

  /**
   * Sets a value, unless another source has set it before. If the same source sets it again, the last value counts, but a list
   * is extended. The variables of `env` from all sources are merged.
   */
  add(key: string, value: unknown, source: string): void {
    const before = this.#values.get(key);
    const isAgain = before?.source === source;
    if (before !== undefined && key === "env") {
      const [less, more] = isAgain ? [before.value, value] : [value, before.value];
      this.#values.set(key, {
        source: before.source,
        value: { ...less as object, ...more as object },
      });
      return;
    }
    if (before !== undefined && !isAgain) return;
    const isList = Array.isArray(before?.value) && Array.isArray(value);
    this.#values.set(key, { source, value: isList ? [...before.value as [], ...value] : value });
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  value(key: string, otherwise?: unknown): unknown {
    return withDefault(this.#values.get(key)?.value, otherwise);
  }

  source(key: string): string {
    return this.#values.get(key)?.source ?? key;
  }

  keys(): Iterable<string> {
    return this.#values.keys();
  }
}
