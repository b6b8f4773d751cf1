import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { isMissing } from "../../lib/errno.ts";
import { parseJson } from "../../lib/parse-json.ts";
import { writeAtomic } from "../../lib/write-atomic.ts";

const NAME = "pulled.json";

const recordSchema = z.object({
  slug: z.string(),
  variant: z.string(),
  /** With the revision as a commit: a later pull takes the same one. */
  source: z.string(),
  /** ISO 8601; null until all files are there. */
  completedAt: z.string().nullable(),
  files: z.array(z.object({ file: z.string(), sizeBytes: z.int().nonnegative(), sha256: z.string() })),
});

/** What a pull has put into a folder, each file with the digest that it was found to have at the first pull. */
export type PullRecord = z.infer<typeof recordSchema>;

/** Null where there is none that can be read: then nothing is taken for granted. */
export async function readPullRecord(dir: string): Promise<PullRecord | null> {
  try {
    return recordSchema.safeParse(parseJson(await readFile(join(dir, NAME), "utf8"))).data ?? null;
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw thrown;
  }
}

export async function writePullRecord(dir: string, record: PullRecord): Promise<void> {
  await writeAtomic(join(dir, NAME), `${JSON.stringify(record, null, 2)}\n`);
}
