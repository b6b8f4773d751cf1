import { ERROR_TABLE } from "../../protocol/error.ts";
import type { Schema } from "../openapi/schema.ts";
import { code, codeBox, escapeHtml, tableBox } from "./html.ts";
import { socketsGuide } from "./sockets-guide.ts";
import { webhooksGuide } from "./webhooks-guide.ts";

export interface Guide {
  readonly id: string;
  readonly title: string;
  readonly html: string;
}

export interface GuideFacts {
  readonly publicUrl: string;
  readonly headerPrefix: string;
  readonly appKey: string;
  /** Events go to another Pusher server. */
  readonly elsewhere: boolean;
  /** Milliseconds. */
  readonly retentionMs: number;
  /** A model and a task for the examples; null: none is offered. */
  readonly example: { readonly model: string; readonly task: string; readonly body: Readonly<Record<string, unknown>> } | null;
  readonly schemas: Readonly<Record<string, Schema>>;
  readonly resolve: (schema: Schema) => Schema;
}

/** What the operations alone do not say. */
export function guides(facts: GuideFacts): readonly Guide[] {
  return [
    { id: "start", title: "Quick start", html: quickStart(facts) },
    { id: "bodies", title: "Bodies and files", html: bodies(facts) },
    { id: "states", title: "Statuses", html: states(facts) },
    { id: "errors", title: "Errors", html: errors() },
    { id: "webhooks", title: "How webhooks come", html: webhooksGuide(facts) },
    { id: "sockets", title: "How sockets work", html: socketsGuide(facts) },
  ];
}

function quickStart({ publicUrl, example, retentionMs }: GuideFacts): string {
  const { model, task, body } = example ?? { model: "a-model", task: "txt2img", body: { prompt: "a lighthouse", width: 256, height: 256 } };
  const fields = JSON.stringify({ model, ...body });
  const hours = Math.round(retentionMs / 3_600_000);
  return `<p>Every request below <code>/api/v1/client</code> needs your key in <code>Authorization: Bearer &lt;id&gt;|&lt;secret&gt;</code>. Submit a job, keep its id, and ask for its status until it ends.</p>
${codeBox(
  "Submit with curl",
  `export URL=${publicUrl} KEY='<id>|<secret>'
curl -s $URL/api/v1/client/${task} -H "Authorization: Bearer $KEY" \\
  -H 'Content-Type: application/json' -H "Idempotency-Key: $(uuidgen)" \\
  -d '${fields.replaceAll("'", "'\\''")}'`,
)}
${codeBox("Answer of a submit", `{"data":{"request_id":"7c3b4f0e-5d2a-4c1b-9a77-1f0f5f3c9d10"}}`)}
${codeBox("Status with curl", `curl -s $URL/api/v1/client/request-status/7c3b4f0e-5d2a-4c1b-9a77-1f0f5f3c9d10 -H "Authorization: Bearer $KEY"`)}
<p>When <code>status</code> is <code>done</code>, follow <code>result_url</code>: it needs no key, serves ranges, and works until the request is forgotten, ${hours} hours after its submit. Instead of asking, let us tell you: by <a href="#webhooks">webhook</a> or over a <a href="#sockets">socket</a>.</p>
<p>Clients can be generated from <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1), for example with <code>npx openapi-typescript ${escapeHtml(publicUrl)}/openapi.json</code> or <code>openapi-python-client generate --url ${escapeHtml(publicUrl)}/openapi.json</code>.</p>`;
}

function bodies({ publicUrl }: GuideFacts): string {
  return `<p>Send JSON, a form (<code>application/x-www-form-urlencoded</code>) or <code>multipart/form-data</code>. In forms numbers and booleans are written as text. A field that is left out, <code>null</code> or empty is absent and gets its default. A field that the model does not have is refused; what it takes and does not use is named in <code>ignored_fields</code> of the answer.</p>
<p>Files come in one of two ways. A form carries them as parts:</p>
${codeBox(
  "A file in a form",
  `curl -s ${publicUrl}/api/v1/client/img2img -H "Authorization: Bearer $KEY" \\
  -F model=$MODEL -F prompt='in winter' -F image=@fox.png`,
)}
<p>JSON carries them as data URIs:</p>
${codeBox("A file in JSON", `{"model": "$MODEL", "prompt": "in winter", "image": "data:image/png;base64,iVBORw0KGgo..."}`)}
<p>A file is judged by its content, not by its name or type. Links are taken only where a field is called <code>..._url</code>; redirects are followed, and only public addresses are fetched.</p>
<p><code>Idempotency-Key</code> makes a submit safe to repeat: the same key with the same fields and files within 24 hours is the same request, with others it is answered with 422.</p>`;
}

function states({ schemas, resolve }: GuideFacts): string {
  const rows: readonly (readonly [string, string])[] = [
    [
      "pending",
      "It waits in the queue. <code>queue_position</code> and <code>eta_ms</code> say how long; <code>waiting_reason</code> says why, where no worker can take it.",
    ],
    [
      "processing",
      "A worker has it. <code>progress</code> goes from 0 to 100, <code>preview</code> is the last picture of it. It stays here while a failed attempt is repeated.",
    ],
    ["done", "It has ended well: <code>result_url</code>, <code>results_alt_formats</code>, <code>seed</code>, <code>timings</code>."],
    ["error", "It has failed or was cancelled: the fields <code>error_...</code> say why. It does not change any more."],
  ];
  const known = Object.keys(resolve(schemas["Request"] ?? {})["properties"] ?? {});
  return `${tableBox(
    "Statuses of a request",
    ["status", "meaning"],
    rows.map(([status, text]) => [code(status), text]),
  )}
<p>The fields are always there; those that do not apply are <code>null</code>: ${known.map((name) => code(name)).join(", ")}.</p>`;
}

function errors(): string {
  const http: readonly (readonly [string, string])[] = [
    ["400", "The request cannot be read: broken JSON or form, no UTF-8."],
    ["401", "No key, or none that is known."],
    ["403", "A channel of somebody else, a link that has expired."],
    ["404", "Nothing of yours is there."],
    ["405", "Another method is meant: <code>Allow</code> names them."],
    ["409", "The present state does not allow it: the request has ended, a secret exists."],
    ["413", "The body is larger than 75 MB, its fields larger than 4 MB, or a file than its limit."],
    ["415", "The body's type or encoding is not taken."],
    ["422", "Fields are wrong; <code>errors</code> names each of them."],
    [
      "429",
      "A rate limit is reached: wait for <code>Retry-After</code> seconds. <code>X-RateLimit-Limit</code>, <code>-Remaining</code> and <code>-Type</code> say which.",
    ],
    ["503", "Not now, and nothing was accepted: repeat after <code>Retry-After</code> seconds."],
  ];
  const reasons = Object.entries(ERROR_TABLE).map(([reason, { apiCode, publicText, advice, retryable }]) => [
    code(reason),
    code(apiCode),
    retryable ? "yes" : "no",
    escapeHtml(publicText),
    escapeHtml(advice),
  ]);
  return `<p>A request that is not accepted is answered with JSON of one shape, whatever went wrong:</p>
${codeBox("An error", `{"message": "The prompt field is required.", "errors": {"prompt": ["The prompt field is required."]}}`)}
${tableBox(
  "HTTP statuses",
  ["HTTP status", "meaning"],
  http.map(([status, text]) => [code(status), text]),
)}
<p>What fails after it was accepted never yields an HTTP error: the status, the webhook and the socket event carry <code>error_code</code> (a short closed list), <code>error_reason</code> (finer; more may come), <code>error_message</code> (a sentence with the numbers and limits), <code>error_field</code> (the field that was wrong, or null) and <code>retryable</code>.</p>
${tableBox("Error codes and reasons", ["error_reason", "error_code", "retryable", "what it says", "what to do"], reasons)}`;
}
