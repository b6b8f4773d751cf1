import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { sendWebhook } from "../../net/send-webhook.ts";
import type { WebhookBody } from "../../protocol/webhook.ts";
import { clientOf } from "../http/authenticate.ts";
import { readBody } from "../body/read-body.ts";
import { conflict, HttpProblem, notFound } from "../http/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { ownRequest } from "../views/request-view.ts";
import { readSettings } from "../webhooks/read-webhook-settings.ts";
import { attemptView, deliveryView, settingsView } from "../webhooks/webhook-view.ts";

const SETTINGS = "/api/v1/client/settings/webhook";
const DELIVERIES = "/api/v1/client/requests/:id/deliveries";
/** A test makes us connect to wherever a client says: one at a time of each. */
const BUSY_RETRY_S = 10;

/** The account's webhook, and what became of single deliveries. */
export async function webhookRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  settingsRoutes(app, context);
  deliveryRoutes(app, context);
}

function settingsRoutes(app: FastifyInstance, context: GatewayContext): void {
  const { webhooks } = context;
  const testing = new Set<string>();

  app.get(SETTINGS, async (request) => ({ data: settingsView(await webhooks.settings(clientOf(request).id)) }));

  app.put(SETTINGS, async (request) => {
    const { id } = clientOf(request);
    const { fields } = await readBody(request);
    const wanted = readSettings(fields, await webhooks.settings(id), context.config.allowHttpWebhooks);
    if (wanted === null) {
      await webhooks.remove(id);
      return { data: settingsView(null) };
    }
    const { secret } = await webhooks.change(id, { ...wanted, at: Date.now() });
    return { data: { ...settingsView(await webhooks.settings(id)), ...(secret !== null && { secret }) } };
  });

  app.post(`${SETTINGS}/test`, async (request) => {
    const { id } = clientOf(request);
    const settings = await webhooks.settings(id);
    if (settings === null) throw conflict("No webhook is set.");
    if (testing.has(id)) throw new HttpProblem(429, { message: "Too Many Attempts." }, { "Retry-After": String(BUSY_RETRY_S) });
    testing.add(id);
    try {
      return { data: await sendTest(context, id, settings.url) };
    } finally {
      testing.delete(id);
    }
  });
}

/** One signed delivery, now, and what was answered. Its failure counts for nothing. */
async function sendTest(context: GatewayContext, client: string, url: string): Promise<Readonly<Record<string, unknown>>> {
  const { webhooks, guardedFetch, config, log } = context;
  const deliveryId = randomUUID();
  const body: WebhookBody = {
    event: "webhook.test",
    delivery_id: deliveryId,
    timestamp: new Date().toISOString(),
    data: { message: "This is a test delivery." },
  };
  const secret = await webhooks.readSecret(webhooks.accountSecretRef(client));
  const post = { url, secret, event: body.event, deliveryId, body: JSON.stringify(body), headerPrefix: config.webhookHeaderPrefix };
  const outcome = await sendWebhook(guardedFetch, post);
  const { status, error, refusedAddress } = outcome;
  log.info({ client, delivery: deliveryId, status, error, ...(refusedAddress !== null && { refusedAddress }) }, "test webhook sent");
  const delivered = status !== null && status >= 200 && status < 300;
  if (delivered) await webhooks.recordSuccess(client, url);
  return { delivery_id: deliveryId, delivered, ...attemptView({ ...outcome, number: 1 }) };
}

function deliveryRoutes(app: FastifyInstance, context: GatewayContext): void {
  const { deliveries, queues } = context;

  app.get<{ Params: { id: string } }>(DELIVERIES, async (request) => {
    const { record } = await ownRequest(context, clientOf(request).id, request.params.id);
    const found = await deliveries.ofRequest(record.id);
    return { data: found.map(deliveryView) };
  });

  app.post<{ Params: { id: string; delivery: string } }>(`${DELIVERIES}/:delivery/redeliver`, async (request) => {
    const { record } = await ownRequest(context, clientOf(request).id, request.params.id);
    const deliveryId = request.params.delivery;
    const known = await deliveries.get(deliveryId);
    if (known === null || known.requestId !== record.id) throw notFound();
    const number = await deliveries.reopen(deliveryId);
    if (number === null) throw conflict("The delivery is still being attempted.");
    await queues.deliverAgain({ requestId: record.id, deliveryId, number });
    const reopened = await deliveries.get(deliveryId);
    if (reopened === null) throw notFound();
    return { data: deliveryView(reopened) };
  });
}
