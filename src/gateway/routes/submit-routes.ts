import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { acceptSubmit } from "../submit/accept-submit.ts";
import { clientOf } from "../http/authenticate.ts";
import { leaveJson } from "../body/parse-plain-bodies.ts";
import { readTaskBody } from "../body/read-body.ts";
import { HttpProblem, invalid } from "../http/errors.ts";
import type { AuthenticatedClient, GatewayContext } from "../gateway-context.ts";
import { priceOf } from "../submit/price-of.ts";
import { resolveTask, TASK_PATHS } from "../submit/resolve-task.ts";

const MAX_IDEMPOTENCY_KEY = 255;

/**
 * `POST /api/v1/client/<task>` -> `{"data":{"request_id":"<uuid>"}}`, with `ignored_fields` where the model did not use what was sent;
 * `POST .../<task>/price-calculation` -> `{"data":{"price":0}}`.
 */
export async function submitRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  await app.register(async (scope) => {
    leaveJson(scope);
    for (const task of TASK_PATHS) {
      scope.post(`/api/v1/client/${task}`, async (request, reply) => {
        const client = clientOf(request);
        const key = idempotencyKey(request);
        await limitRate(context, client, reply);
        const resolved = await resolveTask(task, await readTaskBody(request));
        const { id, ignored } = await acceptSubmit(context, { ...resolved, client, key });
        return { data: { request_id: id, ...(ignored.length > 0 && { ignored_fields: ignored }) } };
      });
      scope.post(`/api/v1/client/${task}/price-calculation`, async (request) => ({
        data: { price: await priceOf(context, task, await readTaskBody(request)) },
      }));
    }
  });
}

/** Counts the submit, and says in headers what is left. @throws HttpProblem 429 */
async function limitRate(context: GatewayContext, client: AuthenticatedClient, reply: FastifyReply): Promise<void> {
  const { config, limits, metrics } = context;
  const perMinute = client.ratePerMinute ?? config.ratePerMinute;
  const perDay = client.ratePerDay ?? config.ratePerDay;
  if (perMinute === 0 && perDay === 0) return;
  const decision = await limits.take(client.id, { perMinute, perDay });
  if (decision.limit === null) return;
  const headers = {
    "X-RateLimit-Limit": String(decision.limit),
    "X-RateLimit-Remaining": String(decision.remaining),
    "X-RateLimit-Type": decision.type,
  };
  if (decision.allowed) {
    reply.headers(headers);
    return;
  }
  metrics.rateLimited.inc({ type: decision.type });
  throw new HttpProblem(429, { message: "Too Many Attempts." }, { ...headers, "Retry-After": String(decision.retryAfterS) });
}

function idempotencyKey(request: FastifyRequest): string | null {
  const key = request.headers["idempotency-key"];
  if (key === undefined || key === "") return null;
  if (typeof key === "string" && key.length <= MAX_IDEMPOTENCY_KEY) return key;
  throw invalid({ "Idempotency-Key": [`The Idempotency-Key header must not be greater than ${MAX_IDEMPOTENCY_KEY} characters.`] });
}
