import type { ModelEntry } from "../../src/models/scan-models.ts";
import { AppError } from "../../src/protocol/error.ts";
import type { Manifest } from "../../src/protocol/manifest.ts";

/** Models on a disk that is not there. */
export class FakeModels {
  readonly #entries = new Map<string, ModelEntry>();

  constructor(manifests: readonly Manifest[]) {
    for (const manifest of manifests) {
      const { slug } = manifest;
      this.#entries.set(slug, {
        slug,
        state: "available",
        manifest,
        manifestPath: "",
        dir: "",
        shipped: false,
        problems: [],
        partBytes: {},
      });
    }
  }

  get(slug: string): ModelEntry | undefined {
    return this.#entries.get(slug);
  }

  list(): readonly ModelEntry[] {
    return [...this.#entries.values()];
  }

  invalid(): readonly never[] {
    return [];
  }

  async ensureVerified(slug: string): Promise<ModelEntry> {
    const entry = this.get(slug);
    if (entry?.state !== "available") throw new AppError("MODEL_CORRUPT", `model ${slug} is damaged`);
    return entry;
  }

  async markCorrupt(slug: string): Promise<void> {
    const entry = this.get(slug);
    if (entry !== undefined) this.#entries.set(slug, { ...entry, state: "corrupt" });
  }

  async rescan(): Promise<{ readonly added: []; readonly removed: []; readonly changed: [] }> {
    return { added: [], removed: [], changed: [] };
  }
}
