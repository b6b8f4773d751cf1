import { z } from "zod";

const relativeFile = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith("/") && !path.split("/").includes(".."), "must be a path below the model's folder");

const SOURCE = /^(?:hf:(?<repo>[\w.-]+\/[\w.-]+)(?:@(?<revision>[\w./-]+))?|(?<url>https?:\/\/[^\s?#]+\/)|(?<dir>\/[^\0]+))$/;

/** Where a model's files come from. */
export type PullSource =
  | { readonly kind: "hf"; readonly repo: string; readonly revision: string }
  | { readonly kind: "http"; readonly base: string }
  | { readonly kind: "folder"; readonly dir: string };

const pulledFile = z.strictObject({
  /** In the source. */
  from: relativeFile,
  /** Below the model's folder; by default where it is in the source. */
  to: relativeFile.optional(),
  sizeBytes: z.int().nonnegative().optional(),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
});

/** How `dryapi models pull` gets a model: by variants, such as precisions. */
export const pullSchema = z
  .strictObject({
    /** The variant that is pulled where none is named. */
    default: z.string(),
    variants: z.record(
      z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/),
      z.strictObject({
        /** `hf:owner/repository@revision`, a folder on the web that ends in a slash, or an absolute folder of this machine. */
        source: z.string().regex(SOURCE, "must be hf:owner/repository@revision, https://.../ or an absolute folder"),
        files: z.array(pulledFile).min(1),
        /** What it is for, for people. */
        note: z.string().optional(),
      }),
    ),
  })
  .refine((pull) => pull.default in pull.variants, "default must be one of the variants");

export type PullBlock = z.infer<typeof pullSchema>;
export type PullVariant = PullBlock["variants"][string];

/** @throws RangeError for a text that the schema refuses */
export function parsePullSource(text: string): PullSource {
  const found = SOURCE.exec(text)?.groups;
  if (found?.["repo"] !== undefined) return { kind: "hf", repo: found["repo"], revision: found["revision"] ?? "main" };
  if (found?.["url"] !== undefined) return { kind: "http", base: found["url"] };
  if (found?.["dir"] !== undefined) return { kind: "folder", dir: found["dir"] };
  throw new RangeError(`${text} is no source of a model`);
}
