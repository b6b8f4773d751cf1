// The program of somebody who uses the API with types that openapi-typescript made of it: test/clients/openapi-typescript.test.ts.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

declare const process: { readonly argv: readonly string[] };
const [url = "", key = ""] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });
const model = "tiny-flux-schnell";

const { data: submitted } = await api.POST("/api/v1/client/txt2img", { body: { model, prompt: "a fox", width: 64, height: 64, seed: 7 } });
if (submitted === undefined) throw new Error("not submitted");
const id = submitted.data.request_id;

// Refused by types only where nobody could mean it: a blank prompt is a text.
const { error: refused } = await api.POST("/api/v1/client/txt2img", { body: { model, prompt: " " } });
// @ts-expect-error: no such model is offered
await api.POST("/api/v1/client/txt2img", { body: { model: "nothing", prompt: "a fox" } });
// @ts-expect-error: the prompt is required
await api.POST("/api/v1/client/txt2img", { body: { model } });

const { data: models } = await api.GET("/api/v1/client/models", { params: { query: { page: 1, "filter[inference_types]": "txt2img" } } });
const { data: price } = await api.POST("/api/v1/client/txt2img/price-calculation", { body: { model } });
const { data: list } = await api.GET("/api/v1/client/requests", { params: { query: { status: "pending", limit: 10 } } });
const { data: status } = await api.GET("/api/v1/client/request-status/{id}", { params: { path: { id } } });
const { data: cancelled } = await api.POST("/api/v1/client/requests/{id}/cancel", { params: { path: { id } } });

// A picture that the browser's own API could not make smaller: 64 x 64, one colour.
const { data: uploaded } = await api.POST("/api/v1/client/img2img", {
  body: { model, prompt: "a fox", image: picture(), strength: 0.5 },
  bodySerializer: (body) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(body)) form.set(name, name === "image" ? fileOf(String(value)) : String(value));
    return form;
  },
});

// What a receiver of webhooks reads.
type Event =
  | components["schemas"]["JobCompletedEvent"]
  | components["schemas"]["JobFailedEvent"]
  | components["schemas"]["JobProcessingEvent"];
const sentence = (event: Event): string => (event.event === "job.failed" ? event.data.error_message : event.data.status);

console.log(
  JSON.stringify({
    id,
    refused: refused !== undefined && "errors" in refused ? refused.errors : null,
    models: models?.data.map(({ slug }) => slug),
    price: price?.data.price,
    listed: list?.data.map(({ request_id }) => request_id),
    status: status?.data.status,
    cancelled: cancelled?.data.status,
    uploaded: uploaded?.data.request_id,
    sentence: sentence.length,
  }),
);

/** A grey BMP as a data URI. */
function picture(): string {
  const side = 64;
  const bytes = new Uint8Array(54 + side * side * 3).fill(128);
  const view = new DataView(bytes.buffer);
  bytes.fill(0, 0, 54);
  bytes.set([0x42, 0x4d]);
  view.setUint32(2, bytes.length, true);
  view.setUint32(10, 54, true);
  view.setUint32(14, 40, true);
  view.setInt32(18, side, true);
  view.setInt32(22, side, true);
  view.setUint16(26, 1, true);
  view.setUint16(28, 24, true);
  return `data:image/bmp;base64,${btoa(String.fromCharCode(...bytes))}`;
}

function fileOf(uri: string): Blob {
  const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (char) => char.charCodeAt(0));
  return new Blob([bytes], { type: "image/bmp" });
}
