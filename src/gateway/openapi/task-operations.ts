import { TASK_ROWS } from "../../core/task-fields.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { TASK_NAMES, TASKS } from "../../protocol/task.ts";
import { TRANSCRIBE, TRANSCRIBE_TASKS } from "../submit/resolve-task.ts";
import { RATE_HEADERS } from "./components.ts";
import { optional, type BodyKind } from "./field-schema.ts";
import { fileSchema } from "./file-schema.ts";
import { answer, BEARER, BODY_FAILURES, failures, ref, type Schema } from "./schema.ts";
import { urlSchema } from "./shared-fields.ts";
import { taskBody, type BodyOptions } from "./task-body.ts";

export interface DocumentOptions {
  readonly version: string;
  readonly publicUrl: string;
  /** Those that are offered now. */
  readonly models: readonly Manifest[];
  readonly allowHttpWebhooks: boolean;
}

const CLIENT = "/api/v1/client";
const IDEMPOTENCY_KEY: Schema = {
  name: "Idempotency-Key",
  in: "header",
  schema: { type: "string", maxLength: 255 },
  description: "A repetition within 24 hours with the same fields and files is the same request; with others it is answered with 422.",
};

/** Submit and price of every task. */
export function taskPaths(options: DocumentOptions): Readonly<Record<string, Schema>> {
  const paths = TASK_NAMES.flatMap((task) => {
    const models = options.models.filter((model) => model.tasks.includes(task));
    const hasFiles = (TASK_ROWS[task].files ?? []).length > 0;
    const body = (kind: BodyKind, priceOnly: boolean): Schema => taskBody(task, { ...options, kind, models, priceOnly });
    const summary = `Submit a ${TASKS[task]} job`;
    return operationsOf(task, { operationId: operationId(task), summary, models, body, hasFiles });
  });
  const models = options.models.filter(({ tasks }) => TRANSCRIBE_TASKS.some((task) => tasks.includes(task)));
  const summary = "Transcribe sound or film, uploaded or linked: exactly one of source_file and source_url";
  const body = (kind: BodyKind, priceOnly: boolean): Schema => transcribeBody({ ...options, kind, models, priceOnly });
  paths.push(...operationsOf(TRANSCRIBE, { operationId: TRANSCRIBE, summary, models, body, hasFiles: true }));
  return Object.fromEntries(paths);
}

/** `img-rmbg` -> `imgRmbg` */
function operationId(task: string): string {
  return task.replaceAll(/-(\w)/g, (_all, letter: string) => letter.toUpperCase());
}

interface TaskOperation {
  readonly operationId: string;
  readonly summary: string;
  readonly models: readonly Manifest[];
  readonly body: (kind: BodyKind, priceOnly: boolean) => Schema;
  readonly hasFiles: boolean;
}

function operationsOf(path: string, operation: TaskOperation): readonly (readonly [string, Schema])[] {
  const { operationId: id, summary, models, body, hasFiles } = operation;
  const none = "No model for this task is offered now: every request is answered with 422 on `model`.";
  const description = models.length === 0 ? { description: none } : {};
  const submit = {
    tags: ["Tasks"],
    operationId: id,
    summary,
    ...description,
    ...BEARER,
    parameters: [IDEMPOTENCY_KEY],
    requestBody: { required: true, content: contentOf((kind) => body(kind, false), hasFiles) },
    responses: {
      ...answer("Accepted; follow it by its id.", ref("Accepted"), RATE_HEADERS),
      ...failures(...BODY_FAILURES, 429),
    },
  };
  const price = {
    tags: ["Tasks"],
    operationId: `${id}Price`,
    summary: `Price of a ${path} job; 0 unless the operator has set prices`,
    ...description,
    ...BEARER,
    // It also keeps openapi-python-client from code that does not run: see jsonBody.
    parameters: [
      {
        ...IDEMPOTENCY_KEY,
        schema: { type: "string" },
        description: "Taken, and of no effect: a price may be asked as often as one likes.",
      },
    ],
    requestBody: { required: true, content: contentOf((kind) => body(kind, true), hasFiles) },
    responses: { ...answer("The price.", ref("Price")), ...failures(...BODY_FAILURES) },
  };
  return [
    [`${CLIENT}/${path}`, { post: submit }],
    [`${CLIENT}/${path}/price-calculation`, { post: price }],
  ];
}

/** Files come as data URIs in JSON or as parts of a form, never urlencoded. */
function contentOf(body: (kind: BodyKind) => Schema, hasFiles: boolean): Schema {
  const form = { schema: body("form") };
  return {
    "application/json": { schema: body("json") },
    "multipart/form-data": form,
    ...(!hasFiles && { "application/x-www-form-urlencoded": form }),
  };
}

/** One name for four tasks: the source decides. */
function transcribeBody(options: BodyOptions): Schema {
  const { kind, priceOnly = false } = options;
  const shared = taskBody("aud2txt", options);
  const { audio_url: _url, ...properties } = shared["properties"] as Readonly<Record<string, Schema>>;
  const source = {
    source_url: optional(urlSchema(true, "A link to the file itself, fetched when the job runs; or source_file."), kind),
    source_file: optional(
      { ...fileSchema("video", kind), description: "Sound of at most 20 MB or film of at most 50 MB; or source_url." },
      kind,
    ),
  };
  const none: Schema = { enum: [null, ""] };
  const linked = { required: ["source_url"], properties: { source_url: { type: "string", minLength: 1 }, source_file: none } };
  const uploaded = {
    required: ["source_file"],
    properties: { source_file: { type: "string", ...(kind === "json" && { minLength: 1 }) }, source_url: none },
  };
  const neither = { properties: { source_url: none, source_file: none } };
  return {
    ...shared,
    properties: { ...properties, ...source },
    required: (shared["required"] as readonly string[]).filter((name) => name !== "audio_url"),
    allOf: [...(shared["allOf"] as readonly Schema[]), { anyOf: [linked, uploaded, ...(priceOnly ? [neither] : [])] }],
  };
}
