import { open, readFile, rename, rm, writeFile, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { parseJson } from "../../lib/parse-json.ts";
import { syncDir } from "../../lib/write-atomic.ts";
import { bytesOf, joinRanges, missingRanges, type Range } from "./ranges.ts";

const journalSchema = z.object({
  identity: z.string(),
  size: z.int().nonnegative(),
  done: z.array(z.object({ start: z.int().nonnegative(), end: z.int().nonnegative() })),
});

/**
 * A file that comes in pieces, under `<path>.part` with a journal of what is there beside it, so that a download goes on after its process
 * was killed. A piece is in the journal only once it is written; what a power cut takes in spite of that is found by the digest of the whole.
 */
export class PartialFile implements AsyncDisposable {
  readonly path: string;
  readonly size: number;
  readonly #target: string;
  readonly #identity: string;
  readonly #handle: FileHandle;
  #done: readonly Range[];
  #noted: Promise<void> = Promise.resolve();
  /** A sync under way, beside what comes meanwhile: at the end little is left to wait for. */
  #synced: Promise<void> | null = null;
  #lost: { readonly thrown: unknown } | null = null;

  private constructor(target: string, identity: string, size: number, handle: FileHandle, done: readonly Range[]) {
    this.#target = target;
    this.path = partOf(target);
    this.size = size;
    this.#identity = identity;
    this.#handle = handle;
    this.#done = done;
  }

  /** Goes on with what is there where it is of the same content (`identity`, such as an ETag, and size), else begins anew. */
  static async open(target: string, identity: string, size: number): Promise<PartialFile> {
    // Journals are not synced, since the digest is the judge: what a power cut leaves of one may be empty.
    const journal = journalSchema.safeParse(parseJson(await readFile(journalOf(target), "utf8").catch(() => "")));
    const goesOn = journal.success && journal.data.identity === identity && journal.data.size === size;
    if (!goesOn) await removePartial(target);
    const handle = await open(partOf(target), goesOn ? "r+" : "w+").catch(async () => open(partOf(target), "w+"));
    const held = (await handle.stat()).size;
    // What the journal has beyond the file's end was lost.
    const done = goesOn ? journal.data.done.map(({ start, end }) => ({ start, end: Math.min(end, held) })) : [];
    return new PartialFile(target, identity, size, handle, joinRanges(done));
  }

  get doneBytes(): number {
    return bytesOf(this.#done);
  }

  missing(pieceBytes: number): readonly Range[] {
    return missingRanges(this.#done, this.size, pieceBytes);
  }

  /** Behind each other, from `at` on. */
  async write(chunks: readonly Uint8Array[], at: number): Promise<void> {
    const bytes = chunks.reduce((sum, { length }) => sum + length, 0);
    const { bytesWritten } = await this.#handle.writev(chunks, at);
    if (bytesWritten === bytes) return;
    // A full disk takes a part, and says why at the next write.
    const left = Buffer.concat(chunks).subarray(bytesWritten);
    for (let from = 0; from < left.length;)
      from += (await this.#handle.write(left, from, left.length - from, at + bytesWritten + from)).bytesWritten;
  }

  /** Bytes from the beginning on that are there. */
  get prefixBytes(): number {
    const [first] = this.#done;
    return first?.start === 0 ? first.end : 0;
  }

  /** These bytes are written. */
  note(range: Range): Promise<void> {
    this.#done = joinRanges([...this.#done, range]);
    this.#synced ??= this.#handle
      .datasync()
      .catch((thrown: unknown) => {
        // The system says it once: a later sync would know nothing of it.
        this.#lost ??= { thrown };
      })
      .finally(() => (this.#synced = null));
    const text = JSON.stringify({ identity: this.#identity, size: this.size, done: this.#done });
    const journal = journalOf(this.#target);
    this.#noted = this.#noted.then(async () => {
      await writeFile(`${journal}.new`, text);
      await rename(`${journal}.new`, journal);
    });
    return this.#noted;
  }

  /** The whole file under its own name, on the disk for sure. */
  async finish(): Promise<void> {
    await this.#noted;
    await this.#synced;
    if (this.#lost !== null) throw this.#lost.thrown;
    await this.#handle.truncate(this.size);
    await this.#handle.sync();
    await rename(this.path, this.#target);
    await rm(journalOf(this.#target), { force: true });
    await syncDir(dirname(this.#target));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#noted.catch(() => undefined);
    await this.#synced;
    await this.#handle.close();
  }
}

export async function removePartial(target: string): Promise<void> {
  await Promise.all([partOf(target), journalOf(target), `${journalOf(target)}.new`].map((path) => rm(path, { force: true })));
}

function partOf(target: string): string {
  return `${target}.part`;
}

function journalOf(target: string): string {
  return `${target}.part.json`;
}
