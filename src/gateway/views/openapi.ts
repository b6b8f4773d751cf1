import { choicesOf } from "../../core/plan-submit.ts";
import { TASK_ROWS, type Field, type FileKind } from "../../core/task-fields.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { TASK_NAMES, TASKS, type Task } from "../../protocol/task.ts";
import { TRANSCRIBE, TRANSCRIBE_TASKS } from "../submit/resolve-task.ts";

type Schema = Readonly<Record<string, unknown>>;

const BEARER = [{ bearer: [] }];
const id = { name: "id", in: "path", required: true, schema: { type: "string", format: "uuid" } };

/** OpenAPI 3.1 of the whole API, made from the field tables that validate and from the models that are offered. */
export function openapiOf(options: { readonly version: string; readonly publicUrl: string; readonly models: readonly Manifest[] }): Schema {
  const tasks = TASK_NAMES.map((task) => [`/api/v1/client/${task}`, { post: submitOperation(task, options.models) }]);
  tasks.push([`/api/v1/client/${TRANSCRIBE}`, { post: transcribeOperation(options.models) }]);
  return {
    openapi: "3.1.0",
    info: {
      title: "dryapi-worker",
      version: options.version,
      description:
        "Submit generation jobs and follow them by polling, by webhook or over a Pusher socket. Limits are those of the models offered here.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: options.publicUrl }],
    paths: { ...Object.fromEntries(tasks), ...readPaths() },
    components: { securitySchemes: { bearer: { type: "http", scheme: "bearer" } }, schemas: SCHEMAS, responses: RESPONSES },
  };
}

function submitOperation(task: Task, models: readonly Manifest[]): Schema {
  const able = models.filter((model) => model.tasks.includes(task));
  return operationOf({ operationId: task, summary: `Submit a ${TASKS[task]} job`, able, schema: bodyOf(task, able) });
}

/** One name for four tasks: the source decides. */
function transcribeOperation(models: readonly Manifest[]): Schema {
  const able = models.filter(({ tasks }) => TRANSCRIBE_TASKS.some((task) => tasks.includes(task)));
  const { audio: _audio, ...shared } = bodyOf("audiofile2txt", able)["properties"] as Readonly<Record<string, Schema>>;
  const source = { source_url: { type: "string", format: "uri", maxLength: 2_048 }, source_file: { type: "string", format: "binary" } };
  const schema = { type: "object", properties: { ...shared, ...source }, required: ["model", "include_ts"] };
  return operationOf({ operationId: TRANSCRIBE, summary: "Transcribe sound or film, uploaded or linked (one of the two)", able, schema });
}

function operationOf(operation: {
  readonly operationId: string;
  readonly summary: string;
  readonly able: readonly Manifest[];
  readonly schema: Schema;
}): Schema {
  const { operationId, summary, able, schema } = operation;
  return {
    operationId,
    summary,
    description: able.length === 0 ? "No model for this task is offered now: every request is answered with 422 on `model`." : undefined,
    security: BEARER,
    parameters: [{ name: "Idempotency-Key", in: "header", schema: { type: "string", maxLength: 255 } }],
    requestBody: {
      required: true,
      content: { "application/json": { schema }, "multipart/form-data": { schema }, "application/x-www-form-urlencoded": { schema } },
    },
    responses: {
      200: { description: "Accepted", content: json({ $ref: "#/components/schemas/Accepted" }) },
      ...refs({
        400: "Malformed",
        401: "Unauthenticated",
        413: "TooLarge",
        415: "UnsupportedType",
        422: "Invalid",
        429: "TooMany",
        503: "Unavailable",
      }),
    },
  };
}

/** The widest limits of all models of the task: one model's own may be tighter, and are told by its 422. */
function bodyOf(task: Task, models: readonly Manifest[]): Schema {
  const { fields, files = [] } = TASK_ROWS[task];
  const properties: Record<string, Schema> = {
    model: models.length === 0 ? { type: "string" } : { type: "string", enum: models.map(({ slug }) => slug) },
    webhook_url: { type: "string", format: "uri", maxLength: 2_048 },
    webhook_secret: { type: "string", minLength: 32, maxLength: 255 },
    ...Object.fromEntries(fields.map((field) => [field.name, fieldSchema(field, models)])),
    ...Object.fromEntries(files.map(({ name, kind }) => [name, { type: "string", format: "binary", description: FILES[kind] }])),
  };
  return { type: "object", properties, required: ["model", ...fields.filter(({ required }) => required).map(({ name }) => name)] };
}

const FILES: Readonly<Record<FileKind, string>> = {
  image: "jpg, png, gif, bmp or webp; at most 10 MB",
  audio: "mp3, wav, flac, ogg, aac or m4a; at most 20 MB",
  video: "mp4, mov, webm, mkv or avi; at most 50 MB",
};

function fieldSchema(field: Field, models: readonly Manifest[]): Schema {
  const { name, kind, min, max, fallback, maxItems, spoken, values } = field;
  const limits = (side: "min" | "max"): readonly number[] => models.flatMap((model) => model.limits[`${side}_${name}`] ?? []);
  const low = limits("min").length > 0 ? Math.min(...limits("min")) : min;
  const high = limits("max").length > 0 ? Math.max(...limits("max")) : max;
  const value = fallback ?? (models.length === 1 ? models[0]?.defaults[name] : undefined);
  const shared = value === undefined ? {} : { default: value };
  switch (kind) {
    case "text":
      if (spoken !== undefined && models.some(({ languages }) => languages !== undefined))
        return { type: "string", enum: spokenBy(models, spoken) };
      return { type: "string", ...(low !== undefined && { minLength: low }), ...(high !== undefined && { maxLength: high }), ...shared };
    case "texts":
      return { anyOf: [{ type: "string" }, { type: "array", items: { type: "string" }, maxItems }] };
    case "choice":
      return {
        type: "string",
        enum: models.length === 0 ? field.choices : [...new Set(models.flatMap((model) => choicesOf(model, field)))],
        ...shared,
      };
    case "url":
      return { type: "string", format: "uri", maxLength: high, ...shared };
    case "boolean":
      return { type: "boolean", ...shared };
    case "seed":
      return { type: "integer", minimum: -1, maximum: Number.MAX_SAFE_INTEGER, default: -1, description: "-1: random" };
    case "integer":
    case "number":
      if (values !== undefined) return { type: kind, enum: values, ...shared };
      return { type: kind, ...(low !== undefined && { minimum: low }), ...(high !== undefined && { maximum: high }), ...shared };
  }
}

function spokenBy(models: readonly Manifest[], kind: "lang" | "voice"): readonly string[] {
  const languages = models.flatMap((model) => model.languages ?? []);
  return [
    ...new Set(kind === "lang" ? languages.map(({ slug }) => slug) : languages.flatMap(({ voices }) => voices.map(({ slug }) => slug))),
  ];
}

function readPaths(): Readonly<Record<string, Schema>> {
  const status = { 200: { description: "The request", content: json({ $ref: "#/components/schemas/Status" }) } };
  const operation = (operationId: string, summary: string, rest: Schema): Schema => ({ operationId, summary, security: BEARER, ...rest });
  const own = refs({ 401: "Unauthenticated", 404: "NotFound" });
  const object = { 200: { description: "OK", content: json({ type: "object" }) } };
  const query = (name: string, schema: Schema): Schema => ({ name, in: "query", schema });
  return {
    "/api/v1/client/request-status/{id}": {
      get: operation("requestStatus", "State of a request", { parameters: [id], responses: { ...status, ...own } }),
    },
    "/api/v1/client/requests/{id}/cancel": {
      post: operation("cancelRequest", "Cancel a request", {
        parameters: [id],
        responses: { ...status, ...own, ...refs({ 409: "Conflict" }) },
      }),
    },
    "/api/v1/client/requests": {
      get: operation("listRequests", "Own requests, newest first", {
        parameters: [
          query("status", { type: "string", enum: ["pending", "processing", "done", "error"] }),
          query("limit", { type: "integer", minimum: 1, maximum: 50 }),
          query("cursor", { type: "string" }),
        ],
        responses: { ...object, ...refs({ 401: "Unauthenticated", 422: "Invalid" }) },
      }),
    },
    "/api/v1/client/models": {
      get: operation("listModels", "Models that are offered", {
        parameters: [
          query("page", { type: "integer", minimum: 1 }),
          query("limit", { type: "integer", minimum: 1, maximum: 50 }),
          query("filter[inference_types]", { type: "string" }),
        ],
        responses: { ...object, ...refs({ 401: "Unauthenticated" }) },
      }),
    },
    "/api/v1/client/balance": {
      get: operation("balance", "Nothing is charged here", { responses: { ...object, ...refs({ 401: "Unauthenticated" }) } }),
    },
    "/api/v1/client/{task}/price-calculation": {
      post: operation("price", "Price of a job", {
        parameters: [{ name: "task", in: "path", required: true, schema: { type: "string", enum: TASK_NAMES } }],
        requestBody: { content: json({ type: "object", properties: { model: { type: "string" } }, required: ["model"] }) },
        responses: { ...object, ...refs({ 401: "Unauthenticated", 404: "NotFound", 422: "Invalid" }) },
      }),
    },
    "/broadcasting/auth": {
      post: operation("channelAuth", "Signature for one's own private channel (Pusher)", {
        requestBody: {
          content: json({
            type: "object",
            properties: { socket_id: { type: "string" }, channel_name: { type: "string" } },
            required: ["socket_id", "channel_name"],
          }),
        },
        responses: { ...object, ...refs({ 401: "Unauthenticated", 403: "Forbidden", 422: "Invalid" }) },
      }),
    },
  };
}

const json = (schema: Schema): Schema => ({ "application/json": { schema } });

function refs(names: Readonly<Record<number, string>>): Schema {
  return Object.fromEntries(Object.entries(names).map(([status, name]) => [status, { $ref: `#/components/responses/${name}` }]));
}

const nullable = (...types: readonly string[]): Schema => ({ type: [...types, "null"] });

const SCHEMAS: Schema = {
  Accepted: {
    type: "object",
    required: ["data"],
    properties: { data: { type: "object", required: ["request_id"], properties: { request_id: { type: "string", format: "uuid" } } } },
  },
  Problem: {
    type: "object",
    required: ["message"],
    properties: {
      message: { type: "string" },
      errors: { type: "object", additionalProperties: { type: "array", items: { type: "string" } } },
    },
  },
  Status: {
    type: "object",
    required: ["data"],
    properties: {
      data: {
        type: "object",
        properties: {
          request_id: { type: "string", format: "uuid" },
          status: { type: "string", enum: ["pending", "processing", "done", "error"] },
          progress: { type: "number", minimum: 0, maximum: 100 },
          preview: nullable("string"),
          result_url: nullable("string"),
          results_alt_formats: nullable("object"),
          result: nullable("string"),
          /** True where a text was asked for that is too long for `result`: it is at `result_url`. */
          result_omitted: nullable("boolean"),
          error_code: nullable("string"),
          error_message: nullable("string"),
          error_reason: nullable("string"),
          retryable: nullable("boolean"),
          failed_at: nullable("string"),
          error: nullable("string"),
          queue_position: nullable("integer"),
          eta_ms: nullable("integer"),
          waiting_reason: nullable("string"),
          waiting_message: nullable("string"),
          processing_time_ms: nullable("integer"),
          seed: nullable("integer"),
          timings: nullable("object"),
        },
      },
    },
  },
};

const problem = (description: string): Schema => ({ description, content: json({ $ref: "#/components/schemas/Problem" }) });

const RESPONSES: Schema = {
  Malformed: problem("The body cannot be read"),
  Unauthenticated: problem("No key, or none that is known"),
  Forbidden: problem("Not allowed"),
  NotFound: problem("Nothing of yours is there"),
  Conflict: problem("The request has ended"),
  TooLarge: problem("The body is too large"),
  UnsupportedType: problem("The body's type is not taken"),
  Invalid: problem("Fields are wrong; `errors` names them"),
  TooMany: problem("The rate limit is reached; see Retry-After"),
  Unavailable: problem("The queue is unreachable; nothing was accepted"),
};
