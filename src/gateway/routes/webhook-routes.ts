import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { testEvent } from "../../core/webhook-event.ts";
import { sendSigned } from "../../net/send-signed.ts";
import { isUnreadable, orUnreadable } from "../../protocol/stored.ts";
import type { WebhookEventName } from "../../protocol/webhook.ts";
import { clientOf } from "../http/authenticate.ts";
import { readBody } from "../body/read-body.ts";
import { conflict, HttpProblem, notFound } from "../http/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { ownRequest } from "../views/request-view.ts";
import { readSecretWish, readSettings, readTestWish } from "../webhooks/read-webhook-settings.ts";
import { attemptView, deliveryView, settingsView, type View } from "../webhooks/webhook-view.ts";

const SETTINGS = "/api/v1/client/settings/webhook";
const DELIVERIES = "/api/v1/client/requests/:id/deliveries";
/** A test makes us connect to wherever a client says: one at a time of each. */
const BUSY_RETRY_S = 10;
/** A picture that is always there: receivers fetch the result of a test, too. */
const TEST_RESULT = "/console/icon.svg";

/** The account's webhook, and what became of single deliveries. */
export async function webhookRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  settingsRoutes(app, context);
  deliveryRoutes(app, context);
}

function settingsRoutes(app: FastifyInstance, context: GatewayContext): void {
  const { webhooks } = context;
  const view = async (client: string): Promise<View> => settingsView(await webhooks.settings(client));

  app.get(SETTINGS, async (request) => ({ data: await view(clientOf(request).id) }));

  app.put(SETTINGS, async (request, reply) => {
    const { id } = clientOf(request);
    const { fields } = await readBody(request);
    const wanted = readSettings(fields, await webhooks.settings(id), context.config.allowHttpWebhooks);
    if (wanted === null) {
      await webhooks.remove(id);
      return { data: await view(id) };
    }
    const { secret } = await webhooks.change(id, { ...wanted, at: Date.now() });
    if (secret !== null) reply.header("Cache-Control", "no-store");
    return { data: { ...(await view(id)), ...(secret !== null && { secret }) } };
  });

  app.post(`${SETTINGS}/secret`, async (request, reply) => {
    const { id } = clientOf(request);
    const { fields } = await readBody(request);
    const secret = await webhooks.createSecret(id, readSecretWish(fields));
    if (secret === null)
      throw conflict(
        "The account has a webhook secret already. Send replace: true for a new one; the present one goes on signing for overlap_hours (24).",
      );
    reply.header("Cache-Control", "no-store");
    return { data: { secret, ...(await view(id)) } };
  });

  app.delete(`${SETTINGS}/secret/previous`, async (request) => {
    const { id } = clientOf(request);
    await webhooks.endOverlap(id);
    return { data: await view(id) };
  });

  testRoute(app, context);
}

function testRoute(app: FastifyInstance, context: GatewayContext): void {
  const testing = new Set<string>();

  app.post(`${SETTINGS}/test`, async (request) => {
    const { id } = clientOf(request);
    const { fields } = await readBody(request);
    const wanted = readTestWish(fields, context.config.allowHttpWebhooks);
    const url = wanted.url ?? (await context.webhooks.settings(id)).url;
    if (url === null) throw conflict("No webhook is set: set a URL first, or send one as url.");
    if (testing.has(id)) throw new HttpProblem(429, { message: "Too Many Attempts." }, { "Retry-After": String(BUSY_RETRY_S) });
    testing.add(id);
    try {
      return { data: await sendTest(context, { client: id, url, event: wanted.event }) };
    } finally {
      testing.delete(id);
    }
  });
}

interface Test {
  readonly client: string;
  readonly url: string;
  readonly event: WebhookEventName;
}

/** One delivery, now, signed as any other of the account's, and what was answered. Its failure counts for nothing. */
async function sendTest(context: GatewayContext, { client, url, event }: Test): Promise<View> {
  const { webhooks, guardedFetch, config, log, publicUrl } = context;
  const deliveryId = randomUUID();
  const resultUrl = publicUrl() + TEST_RESULT;
  const body = JSON.stringify(testEvent({ event, deliveryId, resultUrl, now: Date.now() }));
  const post = { url, event, deliveryId, body, headerPrefix: config.webhookHeaderPrefix };
  const outcome = await sendSigned(guardedFetch, post, await webhooks.accountSecrets(client, url));
  const { status, error, refusedAddress, signedWith } = outcome;
  log.info({ client, delivery: deliveryId, status, error, ...(refusedAddress !== null && { refusedAddress }) }, "test webhook sent");
  const delivered = status !== null && status >= 200 && status < 300;
  if (delivered) {
    await webhooks.recordSuccess(client, url);
    if (signedWith !== null) webhooks.noteTaken({ client, url }, signedWith);
  }
  return { delivery_id: deliveryId, delivered, ...attemptView({ ...outcome, number: 1, signedWith: signedWith?.signer ?? null }) };
}

function deliveryRoutes(app: FastifyInstance, context: GatewayContext): void {
  const { deliveries, queues } = context;

  app.get<{ Params: { id: string } }>(DELIVERIES, async (request) => {
    const { id } = request.params;
    await ownRequest(context, clientOf(request).id, id);
    const found = await readable(deliveries.ofRequest(id));
    return { data: found.map(deliveryView) };
  });

  app.post<{ Params: { id: string; delivery: string } }>(`${DELIVERIES}/:delivery/redeliver`, async (request) => {
    const { id, delivery: deliveryId } = request.params;
    await ownRequest(context, clientOf(request).id, id);
    const known = await readable(deliveries.get(deliveryId));
    if (known === null || known.requestId !== id) throw notFound();
    const number = await deliveries.reopen(deliveryId);
    if (number === null) throw conflict("The delivery is still being attempted.");
    await queues.deliverAgain({ requestId: id, deliveryId, number });
    const reopened = await deliveries.get(deliveryId);
    if (reopened === null) throw notFound();
    return { data: deliveryView(reopened) };
  });
}

/** @throws HttpProblem 409 for what another version wrote, or what is damaged */
async function readable<T>(reading: Promise<T>): Promise<T> {
  const found = await orUnreadable(reading);
  if (isUnreadable(found)) throw conflict(`The delivery cannot be read by this version (${found.unreadable}).`);
  return found;
}
