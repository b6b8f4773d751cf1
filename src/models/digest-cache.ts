import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { makeFolders } from "../lib/make-folders.ts";
import { sha256File, type Sha256Options } from "../lib/sha256-file.ts";
import { writeAtomic } from "../lib/write-atomic.ts";

const cacheSchema = z.object({
  v: z.literal(1),
  files: z.record(z.string(), z.object({ stamp: z.string(), sha256: z.string() })),
});

/**
 * sha256 of big files, remembered by (path, size, mtime, inode): hashing 20 GB takes a minute, a look at the cache nothing. Kept in one
 * small JSON file; a lost or damaged one only costs the hashing again.
 */
export class DigestCache {
  readonly #path: string;
  #entries: Map<string, { readonly stamp: string; readonly sha256: string }> | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Null when it was never hashed, or changed since. Rejects when there is no such file. */
  async recall(path: string): Promise<string | null> {
    const entry = (await this.#load()).get(path);
    return entry !== undefined && entry.stamp === (await stampOf(path)) ? entry.sha256 : null;
  }

  /** Hashes the file now and remembers it. Rejects with the file system's error or `signal.reason`. */
  async compute(path: string, options: Sha256Options = {}): Promise<string> {
    const before = await stampOf(path);
    const { sha256 } = await sha256File(path, options);
    // A file that changed while it was read has no digest worth keeping.
    if ((await stampOf(path)) === before) {
      (await this.#load()).set(path, { stamp: before, sha256 });
      await this.#save();
    }
    return sha256;
  }

  /** Changes whenever the file does; the empty text where there is none. */
  async stamp(path: string): Promise<string> {
    return stampOf(path).catch(() => "");
  }

  async #load(): Promise<Map<string, { readonly stamp: string; readonly sha256: string }>> {
    if (this.#entries !== null) return this.#entries;
    const text = await readFile(this.#path, "utf8").catch(() => "");
    this.#entries ??= new Map(Object.entries(parseCache(text)));
    return this.#entries;
  }

  /** One write at a time; a cache that cannot be written (read-only state folder) is only slower. */
  async #save(): Promise<void> {
    const write = async (): Promise<void> => {
      const files = Object.fromEntries(this.#entries ?? []);
      await makeFolders(dirname(this.#path));
      await writeAtomic(this.#path, JSON.stringify({ v: 1, files }));
    };
    this.#writing = this.#writing.then(write).catch(() => undefined);
    await this.#writing;
  }
}

function parseCache(text: string): Record<string, { stamp: string; sha256: string }> {
  try {
    const parsed = cacheSchema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data.files : {};
  } catch {
    return {};
  }
}

async function stampOf(path: string): Promise<string> {
  const { size, mtimeNs, ino, dev } = await stat(path, { bigint: true });
  return `${size}/${mtimeNs}/${dev}/${ino}`;
}
