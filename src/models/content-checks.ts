import { stat } from "node:fs/promises";
import type { FileSpec } from "../core/family-layout.ts";
import { checkExternal, lookInside, type ContentProblem, type FileContent } from "./check-content.ts";

/** Checks of files' content, each looked into once and then again only after its size, time or inode changed. */
export class ContentChecks {
  readonly #seen = new Map<string, { readonly stamp: string; readonly content: FileContent }>();

  /** Null where nothing is wrong. Rejects with the file system's error. */
  async check(path: string, spec: FileSpec): Promise<ContentProblem | null> {
    const { problem, external } = await this.#look(path, spec);
    if (problem !== null) return problem;
    for (const [location, bytes] of external) {
      const wrong = await checkExternal(path, location, bytes);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  async #look(path: string, spec: FileSpec): Promise<FileContent> {
    const { size, mtimeNs, ino, dev } = await stat(path, { bigint: true });
    const stamp = JSON.stringify([String(size), String(mtimeNs), String(dev), String(ino), spec]);
    const earlier = this.#seen.get(path);
    if (earlier?.stamp === stamp) return earlier.content;
    const content = await lookInside(path, spec);
    this.#seen.set(path, { stamp, content });
    return content;
  }
}
