import { pullSchema } from "./pull-block.ts";
import { z } from "zod";
import { AppError } from "./error.ts";
import { RESERVED_QUEUES } from "./keys.ts";
import { runtimeOptionsSchema } from "./runtime-options.ts";
import { TASK_NAMES } from "./task.ts";

export const MANIFEST_VERSION = 1;
/** Jobs in one run, whatever a manifest says. */
export const MAX_BATCH = 64;

/** Device kinds a runner may be asked for. `auto` exists only in the configuration and is resolved at start. */
export const DEVICE_KINDS = ["cuda", "webgpu", "cpu"] as const;
export type DeviceKind = (typeof DEVICE_KINDS)[number];

const relativePath = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith("/") && !path.split(/[\\/]/).includes(".."), "must stay inside the model's folder");

const pinnedFile = z.strictObject({
  file: relativePath,
  /** Checked at every start (cheap). */
  sizeBytes: z.int().positive().optional(),
  /** Checked by `dryapi models verify` and once after a change of size or time. */
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/, "must be 64 lower-case hex digits")
    .optional(),
});

const sparse = <K extends readonly [string, ...string[]], V extends z.ZodType>(keys: K, value: V) => z.partialRecord(z.enum(keys), value);

/** One ONNX graph. Roles whose tensors are named as in the Optimum layout are left out of `inputs` / `outputs`. */
const part = pinnedFile.extend({
  externalData: z.array(pinnedFile).default([]),
  /** role -> tensor name in the graph */
  inputs: z.record(z.string(), z.string()).default({}),
  outputs: z.record(z.string(), z.string()).default({}),
  /** Bytes that its weights take once it is open, per device kind; by default the size of its files. */
  memoryBytes: sparse(DEVICE_KINDS, z.int().positive()).optional(),
  /** Stands before the model's `runtime`, option by option; what the operator sets stands before both. */
  runtime: runtimeOptionsSchema.optional(),
});

const named = {
  name: z.string().min(1),
  slug: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, "must be 1 to 64 of A-Z a-z 0-9 . _ -"),
};

/** milliseconds; a stage that sends no sign of life for longer is taken for hung and its runner is killed */
const deadlines = z.strictObject({
  loadMs: z.int().positive().default(600_000),
  /** any stage that `stageMs` does not name */
  defaultMs: z.int().positive().default(120_000),
  stageMs: z.record(z.string(), z.int().positive()).default({}),
});

export const manifestSchema = z.strictObject({
  $schema: z.string().optional(),
  version: z.literal(MANIFEST_VERSION),
  slug: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{1,63}$/, "must be 2 to 64 of A-Z a-z 0-9 . _ -")
    .refine((slug) => !RESERVED_QUEUES.has(slug), "is a reserved name"),
  name: z.string().min(1),
  family: z.enum(["flux", "vits", "kokoro", "musicgen", "whisper", "ltx-video", "fake"]),
  status: z.enum(["standard_model", "test_model"]).default("standard_model"),
  tags: z.array(z.string()).default([]),
  tasks: z.array(z.enum(TASK_NAMES)).min(1),
  license: z.strictObject({ id: z.string().min(1), url: z.url().optional(), commercial: z.boolean() }),
  source: z.strictObject({ repository: z.string().min(1), revision: z.string().optional() }),
  parts: z.record(z.string(), part).default({}),
  /** Other files and folders by role: tokenizers, schedule, voices ... */
  files: z.record(z.string(), relativePath).default({}),
  /** `min_x` / `max_x` per parameter, `resolution_step`, `max_input_images` ... */
  limits: z.record(z.string(), z.number()).default({}),
  features: z.record(z.string(), z.boolean()).default({}),
  defaults: z.record(z.string(), z.union([z.number(), z.string(), z.boolean()])).default({}),
  /** What a speech model speaks, in the form of the API's model list; the first language and its first voice are the defaults. */
  languages: z
    .array(z.strictObject({ ...named, voices: z.array(z.strictObject({ ...named, gender: z.string().min(1) })).min(1) }))
    .min(1)
    .optional(),
  /** Bytes that a loaded runner needs at its peak, per device kind; a device with less never gets the model. */
  memoryBytes: sparse(DEVICE_KINDS, z.int().positive()),
  /**
   * Bytes that the runs of a stage take beside the weights, at the model's limits: stage -> device kind -> bytes. By default what is left
   * of `memoryBytes` without the weights of all parts.
   */
  activationBytes: z.record(z.string(), sparse(DEVICE_KINDS, z.int().nonnegative())).default({}),
  batch: z
    .strictObject({
      /** most jobs in one run */
      max: z.int().min(1).max(MAX_BATCH).default(1),
      /** parameters that must be equal within a run */
      by: z.array(z.string()).default([]),
    })
    .default({ max: 1, by: [] }),
  /** What onnxruntime is told beyond its defaults, for all parts. */
  runtime: runtimeOptionsSchema.optional(),
  /** Where its files can be had; a model without it is brought by hand. */
  pull: pullSchema.optional(),
  deadlines: deadlines.default({ loadMs: 600_000, defaultMs: 120_000, stageMs: {} }),
  /** What only the family understands. */
  options: z.record(z.string(), z.unknown()).default({}),
});

export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestPart = Manifest["parts"][string];

/** @throws AppError MANIFEST_INVALID that names the file and every wrong field. `origin` is the file's path, for the message. */
export function parseManifest(value: unknown, origin: string): Manifest {
  const parsed = manifestSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new AppError(
    "MANIFEST_INVALID",
    `${origin}: not a valid model manifest (models/schema.json describes one):\n${z.prettifyError(parsed.error)}`,
  );
}
