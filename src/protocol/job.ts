import { z } from "zod";
import { AppError } from "./error.ts";
import { TASK_NAMES, type Task } from "./task.ts";

/** Version of `JobData`. A worker refuses a newer one by passing the job on (JOB_VERSION_UNSUPPORTED). */
export const JOB_VERSION = 1;

/** An input that was uploaded before the job was added: bytes are in the object store, never in Redis. */
export interface JobInput {
  /** Field it came in, e.g. `image` or `images[1]`. */
  readonly name: string;
  /** Object key, `inputs/<request id>/<file>`. */
  readonly key: string;
  readonly contentType: string;
  readonly sizeBytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

export type ParamValue = string | number | boolean | null | readonly ParamValue[] | { readonly [key: string]: ParamValue };
export type JobParams = Readonly<Record<string, ParamValue>>;

/** What a BullMQ job carries (small JSON). `id` is the request id and the BullMQ job id. */
export interface JobData {
  readonly v: number;
  readonly id: string;
  readonly task: Task;
  /** Model slug; the job is in that model's queue. */
  readonly model: string;
  /** Client that owns it: the channel its events are published on. */
  readonly client: string;
  /** Validated parameters, `seed` resolved to 0..2^32-1. */
  readonly params: JobParams;
  readonly inputs: readonly JobInput[];
  /** Longest run from the first dispatch on, milliseconds. */
  readonly timeoutMs: number;
  /** Unix milliseconds of the submit. */
  readonly submittedAt: number;
  /** Somebody is to be told by webhook of its start; absent = nobody. */
  readonly webhook?: true;
}

const paramValue: z.ZodType<ParamValue> = z.lazy(() =>
  z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(paramValue), z.record(z.string(), paramValue)]),
);

export const inputSchema: z.ZodType<JobInput> = z.object({
  name: z.string(),
  key: z.string(),
  contentType: z.string(),
  sizeBytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

/** Ids become path segments and Redis keys: only what is safe in both. */
export const REQUEST_ID: RegExp = /^[A-Za-z0-9][A-Za-z0-9_-]{7,63}$/;

export const jobSchema: z.ZodType<JobData> = z.object({
  v: z.literal(JOB_VERSION),
  id: z.string().regex(REQUEST_ID),
  task: z.enum(TASK_NAMES),
  model: z.string().min(1),
  client: z.string().min(1),
  params: z.record(z.string(), paramValue),
  inputs: z.array(inputSchema),
  timeoutMs: z.number().int().positive(),
  submittedAt: z.number().int().positive(),
  webhook: z.literal(true).exactOptional(),
});

/** Reads job data from Redis. @throws AppError JOB_VERSION_UNSUPPORTED for a newer version, JOB_DAMAGED for anything else wrong. */
export function parseJobData(value: unknown): JobData {
  const version = typeof value === "object" && value !== null && "v" in value ? value.v : undefined;
  if (typeof version === "number" && version > JOB_VERSION) {
    throw new AppError(
      "JOB_VERSION_UNSUPPORTED",
      `job data has version ${version}, this worker reads up to ${JOB_VERSION}: upgrade this worker`,
    );
  }
  const parsed = jobSchema.safeParse(value);
  if (!parsed.success) throw new AppError("JOB_DAMAGED", `job data is invalid: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** Parameters that every pipeline may rely on, as a typed look-up. @throws AppError INVALID_INPUT naming the parameter. */
export function numberParam(params: JobParams, name: string): number {
  const value = params[name];
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw invalidParam(name, asText(value), "a number");
}

export function stringParam(params: JobParams, name: string): string {
  const value = params[name];
  if (typeof value === "string") return value;
  throw invalidParam(name, asText(value), "a text");
}

const MAX_SHOWN_CHARS = 80;

/** A parameter that cannot be used, to be thrown: the client learns which, its value, and what was expected. */
export function invalidParam(name: string, value: number | string, expected: string): AppError {
  const shown = String(value).slice(0, MAX_SHOWN_CHARS);
  const detail = `The ${name} field is ${shown}, expected ${expected}.`;
  return new AppError("INVALID_INPUT", `parameter ${name} is ${shown}, expected ${expected}`, { field: name, detail });
}

function asText(value: ParamValue | undefined): string {
  return value === undefined ? "missing" : JSON.stringify(value);
}
