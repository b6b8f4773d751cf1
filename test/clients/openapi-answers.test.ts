import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { addClient, ApiClient, endOf, startGateway, type Answer } from "../support/gateway.ts";
import { startReceiver } from "../support/https-receiver.ts";
import { openPusher, subscribeUpdates } from "../support/pusher-client.ts";
import { runPythonClient } from "../support/python-client.ts";
import { startSystem } from "../support/system.ts";

interface Judged {
  readonly what: string;
  /** A name of components, or a schema. */
  readonly schema: unknown;
  readonly value: unknown;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly responses: Readonly<Record<string, ResponseOf>> }>>>>;
  readonly webhooks: Readonly<Record<string, { readonly post: { readonly requestBody: { readonly content: Content } } }>>;
  readonly components: { readonly responses: Readonly<Record<string, ResponseOf>> };
}
type Content = Readonly<Record<string, { readonly schema: unknown }>>;
interface ResponseOf {
  readonly $ref?: string;
  readonly content?: Content;
}

/** The schema of an answer, as the document gives it for its operation and status. */
function schemaOf({ paths, components }: Document, method: string, path: string, status: number): unknown {
  const response = paths[path]?.[method.toLowerCase()]?.responses[String(status)];
  assert.ok(response !== undefined, `${method} ${path} is documented to answer ${status}`);
  const found = response.$ref === undefined ? response : components.responses[response.$ref.slice("#/components/responses/".length)];
  return found?.content?.["application/json"]?.schema ?? assert.fail(`${method} ${path} ${status} has JSON`);
}

test("what a gateway answers and sends, from submit to end, is what its document describes, and nothing beyond it", async () => {
  await using system = await startSystem({ DRYAPI_MODELS: "tiny-flux-schnell,tiny-whisper,tiny-kokoro" });
  await using receiver = await startReceiver();
  await using gateway = await startGateway(system, { NODE_EXTRA_CA_CERTS: receiver.caFile, DRYAPI_EGRESS_ALLOW: "127.0.0.0/8" });
  const key = await addClient(system);
  const api = new ApiClient(gateway.url, key);
  const document = (await api.get("/openapi.json")).body as unknown as Document;
  const judged: Judged[] = [];

  async function ask(
    method: string,
    template: string,
    status: number,
    options: { readonly path?: string; readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> } = {},
  ): Promise<Answer> {
    const answer = await api.send(method, options.path ?? template, options.body, options.headers);
    assert.equal(answer.status, status, `${method} ${template}: ${JSON.stringify(answer.body)}`);
    const [path = ""] = template.split("?");
    judged.push({ what: `${method} ${template} ${status}`, schema: schemaOf(document, method, path, status), value: answer.body });
    return answer;
  }
  const CLIENT = "/api/v1/client";
  const STATUS = `${CLIENT}/request-status/{id}`;
  const SETTINGS = `${CLIENT}/settings/webhook`;
  const DELIVERIES = `${CLIENT}/requests/{id}/deliveries`;
  const submit = async (body: unknown): Promise<string> =>
    String((await ask("POST", `${CLIENT}/txt2img`, 200, { body })).body.data["request_id"]);
  const of = (template: string, id: string): { readonly path: string } => ({ path: template.replace("{id}", id) });

  const pusher = openPusher({ url: gateway.url, key });
  const updates = await subscribeUpdates(pusher);
  await ask("GET", SETTINGS, 200);
  await ask("PUT", SETTINGS, 200, { body: { url: `${receiver.url}/hook` } });
  await ask("POST", `${SETTINGS}/secret`, 409, { body: {} });
  await ask("POST", `${SETTINGS}/secret`, 200, { body: { replace: true } });
  await ask("DELETE", `${SETTINGS}/secret/previous`, 200);
  await ask("POST", `${SETTINGS}/test`, 200);

  const job = { model: "tiny-flux-schnell", prompt: "a fox", width: 64, height: 64, steps: 2, guidance: 3 };
  const cancelled = await submit(job);
  await ask("GET", STATUS, 200, of(STATUS, cancelled));
  const CANCEL = `${CLIENT}/requests/{id}/cancel`;
  await ask("POST", CANCEL, 200, of(CANCEL, cancelled));
  await ask("POST", CANCEL, 409, of(CANCEL, cancelled));
  const done = await submit(job);
  const worker = await system.startWorker();
  assert.equal((await endOf(system, api, done))["status"], "done", JSON.stringify(worker.lines.slice(-3)));
  await ask("GET", STATUS, 200, of(STATUS, done));
  await ask("GET", `${CLIENT}/requests?limit=5`, 200);
  const events = await system.until("the webhooks of all ends", () => {
    const bodies = receiver.received.map(
      ({ body }) => JSON.parse(body) as { readonly event: string; readonly data: { readonly job_request_id: string } },
    );
    const ends = bodies.filter(({ event, data }) => event !== "job.processing" && [done, cancelled].includes(data.job_request_id));
    return ends.length === 2 ? bodies : undefined;
  });
  for (const event of events)
    judged.push({
      what: event.event,
      schema: document.webhooks[event.event]?.post.requestBody.content["application/json"]?.schema,
      value: event,
    });
  assert.deepEqual([...new Set(events.map(({ event }) => event))].toSorted(), [
    "job.completed",
    "job.failed",
    "job.processing",
    "webhook.test",
  ]);
  const [delivery] = (await ask("GET", DELIVERIES, 200, of(DELIVERIES, cancelled))).body.data as unknown as readonly {
    readonly delivery_id: string;
  }[];
  const REDELIVER = `${DELIVERIES}/{delivery}/redeliver`;
  await ask("POST", REDELIVER, 200, { path: REDELIVER.replace("{id}", cancelled).replace("{delivery}", delivery?.delivery_id ?? "") });
  await system.until("the end on the socket", () => updates.find(({ request_id: id, status }) => id === done && status === "done"));
  for (const update of updates) judged.push({ what: `socket ${update.status}`, schema: "RequestStatusUpdated", value: update });
  pusher.disconnect();

  await ask("GET", `${CLIENT}/models`, 200);
  await ask("GET", `${CLIENT}/models?page=0`, 422);
  await ask("GET", `${CLIENT}/balance`, 200);
  await ask("POST", `${CLIENT}/txt2img/price-calculation`, 200, { body: { model: "tiny-flux-schnell" } });
  await ask("POST", `${CLIENT}/txt2img`, 422, { body: {} });
  await ask("POST", `${CLIENT}/txt2img`, 400, { body: "{", headers: { "Content-Type": "application/json" } });
  await ask("POST", "/broadcasting/auth", 200, { body: { socket_id: "1.2", channel_name: "private-client.tester" } });
  await ask("POST", "/broadcasting/auth", 403, { body: { socket_id: "1.2", channel_name: "private-client.other" } });
  await ask("GET", STATUS, 404, of(STATUS, "7c3b4f0e-5d2a-4c1b-9a77-1f0f5f3c9d10"));
  await ask("GET", "/r/{id}/{file}", 403, { path: `/r/${done}/image.png?exp=1&sig=x` });
  await ask("GET", "/console/settings.json", 200);
  await ask("GET", "/healthz", 200);
  const stranger = await new ApiClient(gateway.url, null).get(`${CLIENT}/balance`);
  judged.push({ what: "401", schema: schemaOf(document, "GET", `${CLIENT}/balance`, 401), value: stranger.body });

  assert.deepEqual(await problemsOf(system.dir, document, judged), []);
  // The judge finds what is not described.
  const [wrong] = await problemsOf(system.dir, document, [
    { what: "x", schema: "Accepted", value: { data: { request_id: done, more: 1 } } },
  ]);
  assert.match(wrong ?? "", /more/);
});

/** By jsonschema-rs, a validator that nobody here wrote. */
async function problemsOf(dir: string, document: Document, judged: readonly Judged[]): Promise<readonly string[]> {
  const files = [join(dir, "document.json"), join(dir, "answers.json")] as const;
  await writeFile(files[0], JSON.stringify(document));
  await writeFile(files[1], JSON.stringify(judged));
  return JSON.parse(await runPythonClient("python", [join(import.meta.dirname, "judge_answers.py"), ...files])) as readonly string[];
}
