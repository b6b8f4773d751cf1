import { createHash, timingSafeEqual } from "node:crypto";
import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { FastifyAdapter } from "@bull-board/fastify";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { openQueueHandles } from "../queue/queue-handles.ts";
import type { GatewayContext } from "./gateway-context.ts";

const PATH = "/admin/queues";

/** bull-board over all queues, behind DRYAPI_ADMIN_KEY as the password of HTTP Basic; without that setting it does not exist. */
export async function dashboardRoutes(app: FastifyInstance, { config, redis, keys, models }: GatewayContext): Promise<void> {
  const { adminKey } = config;
  if (adminKey === null) return;
  const handles = openQueueHandles({ redis, keys, names: ["webhooks", ...models.list().map(({ slug }) => slug)] });
  const adapter = new FastifyAdapter();
  adapter.setBasePath(PATH);
  createBullBoard({ queues: handles.queues.map((queue) => new BullMQAdapter(queue, { readOnlyMode: true })), serverAdapter: adapter });
  await app.register(async (scope) => {
    scope.addHook("onRequest", async (request, reply) => requireKey(request, reply, adminKey));
    // Its page has inline scripts and styles of its own.
    scope.addHook("onSend", async (_request, reply) => void reply.removeHeader("Content-Security-Policy"));
    await scope.register(adapter.registerPlugin(), { prefix: PATH });
  });
  app.addHook("onClose", async () => handles[Symbol.asyncDispose]());
}

async function requireKey(request: FastifyRequest, reply: FastifyReply, adminKey: string): Promise<FastifyReply | undefined> {
  const [, encoded = ""] = /^Basic (\S+)$/i.exec(request.headers.authorization ?? "") ?? [];
  const [, ...password] = Buffer.from(encoded, "base64").toString().split(":");
  if (isEqual(password.join(":"), adminKey)) return undefined;
  return reply.code(401).header("WWW-Authenticate", 'Basic realm="dryapi", charset="UTF-8"').send({ message: "Unauthenticated." });
}

function isEqual(given: string, wanted: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(wanted));
}
