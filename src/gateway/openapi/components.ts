import { ERROR_TABLE } from "../../protocol/error.ts";
import { SIGNERS } from "../../protocol/webhook.ts";
import { TASK_NAMES, TASKS } from "../../protocol/task.ts";
import { type FAILURES, json, nullable, object, ref, time, uuid, data, type Schema } from "./schema.ts";

const count: Schema = { type: "integer", minimum: 0 };
const iso = nullable("string", { format: "date-time" });
const uri: Schema = { type: "string", format: "uri" };
const code: Schema = { type: "string", enum: [...new Set(Object.values(ERROR_TABLE).map(({ apiCode }) => apiCode))] };
const reason: Schema = {
  type: "string",
  description: "The finer reason, from the table at /docs#errors; more may come with a new version.",
};
const task: Schema = { type: "string", enum: TASK_NAMES };
const inferenceType: Schema = { type: "string", enum: [...new Set(Object.values(TASKS))] };
const orNull = (schema: Schema): Schema => ({ anyOf: [schema, { type: "null" }] });

/** Null unless the status is `error`. */
const error: Readonly<Record<string, Schema>> = {
  error_code: orNull(code),
  error_message: nullable("string", { description: "What was wrong, as a sentence." }),
  error_reason: { ...reason, type: ["string", "null"] },
  error_field: nullable("string", { description: "The field of the request that was wrong, where there is one." }),
  retryable: nullable("boolean", { description: "Whether the same request may succeed later." }),
  failed_at: iso,
  error: nullable("string", { description: "The same as error_message." }),
};
const waiting: Readonly<Record<string, Schema>> = {
  waiting_reason: nullable("string", { description: "Why no worker can take it now; null where it only waits for its turn." }),
  waiting_message: nullable("string"),
};
const status: Schema = { type: "string", enum: ["pending", "processing", "done", "error"] };
const progress: Schema = { type: "number", minimum: 0, maximum: 100 };
/** What was asked for and resolved: null where the record cannot be read. */
const asked: Readonly<Record<string, Schema>> = {
  task: orNull(task),
  model: nullable("string"),
  created_at: iso,
  params: nullable("object", {
    additionalProperties: true,
    description: "What was asked for, defaults and the seed filled in. No secrets and no files.",
  }),
  params_truncated: { type: "boolean", description: "Long texts in `params` are cut." },
};

const ms: Schema = { type: "number", minimum: 0 };
const timings = object({
  ...Object.fromEntries(["queue_ms", "load_ms", "input_ms", "run_ms", "encode_ms", "upload_ms"].map((name) => [name, ms])),
  wake_ms: { ...ms, description: "Of run_ms: opening parts of the model again that had made room for others." },
  park_ms: { ...ms, description: "Of run_ms: releasing parts of the model so that others have room." },
});

const request = object({
  request_id: uuid,
  status,
  progress,
  preview: nullable("string", { description: "The last preview while it runs, data:image/jpeg;base64,..." }),
  result_url: nullable("string", {
    format: "uri",
    description: "A signed link, valid until the retention ends; no key is needed to follow it.",
  }),
  results_alt_formats: { ...nullable("object"), additionalProperties: uri, description: "Links by format: jpg, webp, json ..." },
  result: nullable("string", { description: "The text itself, where return_result_in_response asked for it." }),
  result_omitted: nullable("boolean", { description: "True where that text is too long for `result`: it is at result_url." }),
  ...error,
  queue_position: nullable("integer", { minimum: 1, description: "1: next" }),
  eta_ms: nullable("integer", { minimum: 0, description: "An estimate, milliseconds until its end." }),
  ...waiting,
  processing_time_ms: nullable("integer", { minimum: 0 }),
  seed: nullable("integer", { minimum: 0, maximum: 2 ** 32 - 1 }),
  timings: orNull(timings),
  ...asked,
});

const entry = object({
  request_id: uuid,
  ...asked,
  inference_type: orNull(inferenceType),
  status,
  progress,
  ended_at: iso,
  ...waiting,
  ...error,
});

const listOfObjects: Schema = { type: "array", items: { type: "object", additionalProperties: true } };
const named = { name: { type: "string" }, slug: { type: "string" } };
const model = object({
  ...named,
  inference_types: { type: "array", items: inferenceType },
  tags: { type: "array", items: { type: "string" } },
  status: { type: "string", enum: ["standard_model", "test_model"] },
  info: object({
    limits: {
      type: "object",
      additionalProperties: { type: "number" },
      description: "min_ and max_ of fields, resolution_step, max_input_images",
    },
    features: { type: "object", additionalProperties: { type: "boolean" } },
    defaults: { type: "object", additionalProperties: { type: ["string", "number", "boolean"] } },
  }),
  loras: { type: "null", description: "No model here has any." },
  languages: orNull({
    type: "array",
    items: object({ ...named, voices: { type: "array", items: object({ ...named, gender: { type: "string" } }) } }),
  }),
});

const modelsPage = object({
  data: { type: "array", items: model },
  links: object({ first: uri, last: uri, prev: orNull(uri), next: orNull(uri) }),
  meta: object({
    current_page: { type: "integer", minimum: 1 },
    last_page: { type: "integer", minimum: 1 },
    per_page: { type: "integer", minimum: 1, maximum: 50 },
    total: count,
    from: nullable("integer", { minimum: 1 }),
    to: nullable("integer", { minimum: 1 }),
    path: uri,
  }),
});

const settings: Readonly<Record<string, Schema>> = {
  // As it was set: not all of what is taken is a URI of RFC 3986.
  url: nullable("string"),
  enabled: { type: "boolean" },
  failure_count: { ...count, description: "Events in a row that could not be delivered to this URL." },
  disabled_at: iso,
  disabled_reason: nullable("string", { enum: ["gone", "failures", null], description: "gone: the receiver answered 410." }),
  updated_at: iso,
  has_secret: { type: "boolean" },
  secret_created_at: iso,
  previous_secret_expires_at: iso,
};
const secret: Schema = { type: "string", description: "Shown once." };

const attempt: Readonly<Record<string, Schema>> = {
  attempt: { type: "integer", minimum: 1 },
  at: time,
  duration_ms: { type: "number", minimum: 0 },
  response_status: nullable("integer"),
  response_body: nullable("string", { description: "The first 4 KiB." }),
  error: nullable("string", { description: "Why there was no answer." }),
  signed_with: nullable("string", { enum: [...SIGNERS, null], description: "Whose secret signed; null: none." }),
};

const delivery = object(
  {
    delivery_id: { type: "string" },
    event: orNull({ type: "string", enum: ["job.processing", "job.completed", "job.failed"] }),
    url: nullable("string"),
    status: { type: "string", enum: ["pending", "delivered", "failed"] },
    created_at: iso,
    next_attempt_at: iso,
    redeliveries: count,
    attempt_count: count,
    attempts: { type: "array", items: object(attempt), description: "The newest." },
    body: nullable("string", { description: "Exactly as sent." }),
    error: { type: "string", description: "There alone where this gateway cannot read the delivery's record." },
  },
  ["error"],
);

const errors: Schema = {
  type: "object",
  additionalProperties: { type: "array", items: { type: "string" }, minItems: 1 },
  description: "Texts by field.",
};

export const SCHEMAS: Readonly<Record<string, Schema>> = {
  Accepted: data(
    object(
      {
        request_id: uuid,
        ignored_fields: {
          type: "array",
          items: { type: "string" },
          description: "Fields that were taken and that the model does not use; absent where there are none.",
        },
      },
      ["ignored_fields"],
    ),
  ),
  Problem: object({ message: { type: "string" }, errors }, ["errors"]),
  InvalidProblem: object({ message: { type: "string", description: "The first text, and how many more there are." }, errors }),
  Request: request,
  RequestAnswer: data(ref("Request")),
  RequestEntry: entry,
  RequestsPage: object({
    data: { type: "array", items: ref("RequestEntry") },
    meta: object({ next_cursor: nullable("string"), per_page: { type: "integer", minimum: 1, maximum: 50 } }),
  }),
  Model: model,
  ModelsPage: { ...modelsPage, properties: { ...(modelsPage["properties"] as Schema), data: { type: "array", items: ref("Model") } } },
  Balance: data(object({ balance: { type: "number" } })),
  Price: data(object({ price: { type: "number", minimum: 0 } })),
  WebhookSettings: object({ ...settings, secret }, ["secret"]),
  WebhookSettingsAnswer: data(ref("WebhookSettings")),
  WebhookSecretAnswer: data(object({ ...settings, secret })),
  WebhookTestAnswer: data(object({ delivery_id: uuid, delivered: { type: "boolean" }, ...attempt })),
  Delivery: delivery,
  DeliveryAnswer: data(ref("Delivery")),
  DeliveriesAnswer: object({ data: { type: "array", items: ref("Delivery") } }),
  ChannelAuth: object({ auth: { type: "string", description: "<app key>:<signature>" } }),
  ConsoleSettings: object({
    app_key: { type: "string" },
    tasks: {
      type: "object",
      additionalProperties: {
        type: "array",
        items: object({ ...named, form: object({ fields: listOfObjects, files: listOfObjects }) }),
      },
      description: "By task, each model that is offered with the fields that it takes.",
    },
  }),
  ErrorCode: code,
  InferenceType: inferenceType,
};

const problem = (description: string, schema = "Problem", headers?: Schema): Schema => ({
  description,
  ...(headers !== undefined && { headers }),
  content: json(ref(schema)),
});

const retryAfter: Schema = { "Retry-After": { description: "Seconds.", schema: { type: "integer", minimum: 0 } } };
export const RATE_HEADERS: Schema = {
  "X-RateLimit-Limit": { schema: { type: "integer", minimum: 0 } },
  "X-RateLimit-Remaining": { schema: { type: "integer", minimum: 0 } },
  "X-RateLimit-Type": { schema: { type: "string", enum: ["minute", "daily"] } },
};

const TEXTS: Readonly<Record<(typeof FAILURES)[keyof typeof FAILURES], Schema>> = {
  Malformed: problem("The request cannot be read: its JSON, its form, its address or its characters."),
  Unauthenticated: problem("No key, or none that is known.", "Problem", {
    "WWW-Authenticate": { description: "The scheme: Bearer.", schema: { type: "string" } },
  }),
  Forbidden: problem("Not allowed."),
  NotFound: problem("Nothing of yours is there."),
  Conflict: problem("The present state does not allow it; the message says why."),
  TooLarge: problem("The body is too large."),
  UnsupportedType: problem("The body's type or encoding is not taken."),
  RangeNotSatisfiable: problem("The range is not within the file.", "Problem", {
    "Content-Range": { description: "`bytes */<size>`", schema: { type: "string" } },
  }),
  Invalid: problem("Fields are wrong; `errors` names them.", "InvalidProblem"),
  TooMany: problem("A rate limit is reached.", "Problem", { ...retryAfter, ...RATE_HEADERS }),
  ServerError: problem("A fault of the server."),
  Unavailable: problem("Not now; nothing was accepted.", "Problem", retryAfter),
};
export const RESPONSES: Schema = TEXTS;
