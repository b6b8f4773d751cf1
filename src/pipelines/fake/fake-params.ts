import { z } from "zod";
import { AppError } from "../../protocol/error.ts";
import type { JobParams } from "../../protocol/job.ts";

/**
 * What goes wrong:
 *   oom            the device is out of memory: fails the whole batch with OUT_OF_MEMORY
 *   segfault       the process dies of SIGSEGV
 *   abort          the process dies of SIGABRT (what native code does on a failed assertion)
 *   exit0          the process exits with code 0 without a word
 *   hang           the thread blocks for ever in a native wait: no message gets in or out
 *   gate           waits until the gate that `gate` names is open or the job is cancelled (fake-gate.ts)
 *   stall          waits for ever without blocking; commands get in, but it does not look at them
 *   ignore_cancel  goes on working although its cancel has arrived
 *   missing_file   reports an output that it did not write
 *   wrong_sha      reports an output under another digest
 *   throw          throws a plain Error for this job
 *   invalid_input  fails this job with INVALID_INPUT
 *   garbage        sends the daemon what is no message of the protocol
 *   stderr         writes 100 lines to stderr and goes on
 */
export const FAULT_KINDS = [
  "oom",
  "segfault",
  "abort",
  "exit0",
  "hang",
  "gate",
  "stall",
  "ignore_cancel",
  "missing_file",
  "wrong_sha",
  "throw",
  "invalid_input",
  "garbage",
  "stderr",
] as const;

export const FAULT_STAGES = ["load", "text", "denoise", "decode", "encode"] as const;
export type FaultStage = (typeof FAULT_STAGES)[number];

const faultSchema = z.strictObject({
  at: z.enum(FAULT_STAGES).default("denoise"),
  /** 1-based step of `denoise`. */
  step: z.int().positive().default(1),
  kind: z.enum(FAULT_KINDS),
  /** A name and no path: a client must not learn which files there are. */
  gate: z
    .string()
    .regex(/^[\w-]{1,64}$/)
    .default("gate"),
});
export type Fault = z.infer<typeof faultSchema>;

/** Forms and the command line send texts: the kind alone (`segfault`), or the object as JSON. */
const faultField = z.preprocess((value) => {
  if (typeof value !== "string") return value;
  if (!value.startsWith("{")) return { kind: value };
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}, faultSchema);

const whole = z.int().nonnegative();

const paramsSchema = z.object({
  /** 0 = no-op: no stages, no progress, one small file. */
  steps: whole.max(10_000).default(0),
  /** Waits so long in each step, with the event loop free. */
  step_ms: whole.max(3_600_000).default(0),
  /** Blocks the thread so long in each step, as a native call of this thread does. */
  busy_ms: whole.max(3_600_000).default(0),
  /** Writes so many bytes as `output.bin` instead of the PNG. */
  output_bytes: whole.max(1024 ** 3).optional(),
  seed: whole.optional(),
  /** Gives a text of so many Cyrillic letters beside its file. */
  text_chars: whole.max(1024 ** 2).optional(),
  fault: faultField.optional(),
  /** The fault happens on the first so many runs of this job only (remembered over processes); absent = always. */
  fault_claims: z.int().positive().optional(),
});
export type FakeParams = z.infer<typeof paramsSchema>;

/** @throws AppError INVALID_INPUT naming the parameter */
export function parseFakeParams(params: JobParams): FakeParams {
  const parsed = paramsSchema.safeParse(params);
  if (parsed.success) return parsed.data;
  throw new AppError("INVALID_INPUT", `parameters of the fake model are invalid: ${z.prettifyError(parsed.error)}`);
}

const optionsSchema = z.object({
  load_ms: whole.default(0),
  load_busy_ms: whole.default(0),
  fault: faultSchema.optional(),
  fault_claims: z.int().positive().optional(),
});
export type FakeOptions = z.infer<typeof optionsSchema>;

/** The manifest's `options`. @throws AppError MANIFEST_INVALID */
export function parseFakeOptions(options: unknown, slug: string): FakeOptions {
  const parsed = optionsSchema.safeParse(options);
  if (parsed.success) return parsed.data;
  throw new AppError("MANIFEST_INVALID", `model ${slug}: options of the fake family are invalid: ${z.prettifyError(parsed.error)}`);
}
