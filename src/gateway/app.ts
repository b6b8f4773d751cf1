import cors from "@fastify/cors";
import multipart from "@fastify/multipart";
import Fastify, { type FastifyInstance } from "fastify";
import { installAuthentication } from "./http/authenticate.ts";
import { parsePlainBodies } from "./body/parse-plain-bodies.ts";
import { MAX_PLAIN_BYTES } from "./body/upload.ts";
import { installUploadCleanup } from "./body/upload-folders.ts";
import { consoleRoutes } from "./console/console-routes.ts";
import { installErrors } from "./http/errors.ts";
import type { GatewayContext } from "./gateway-context.ts";
import { installTelemetry } from "./http/install-telemetry.ts";
import { socketRoutes } from "./pusher/socket-routes.ts";
import { readRoutes } from "./routes/read-routes.ts";
import { submitRoutes } from "./routes/submit-routes.ts";
import { webhookRoutes } from "./routes/webhook-routes.ts";
import { securityHeaders } from "./http/security-headers.ts";

/** Slow senders are cut off: a whole body of 75 MB has to be here within this. */
const REQUEST_TIMEOUT_MS = 300_000;

/** The HTTP application, not listening yet. */
export async function createApp(context: GatewayContext): Promise<FastifyInstance> {
  const app = Fastify({
    trustProxy: context.config.trustProxy,
    bodyLimit: MAX_PLAIN_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    requestIdHeader: false,
    genReqId: () => crypto.randomUUID(),
    // Connections that a client keeps open must not hold up a shutdown.
    forceCloseConnections: "idle",
    routerOptions: { ignoreTrailingSlash: true },
  });
  installErrors(app, context.log);
  closeConnectionsAtEnd(app);
  const secure = await securityHeaders(context.store);
  app.addHook("onRequest", (request, reply, done) => secure(request.raw, reply.raw, () => done()));
  await app.register(cors, {
    origin: "*",
    methods: ["GET", "HEAD", "POST", "PUT"],
    maxAge: 86_400,
    exposedHeaders: ["X-Request-Id", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Type"],
  });
  parsePlainBodies(app);
  await app.register(multipart);
  installUploadCleanup(app);
  installTelemetry(app, context);
  installAuthentication(app, context.clients);
  app.get("/healthz", async () => ({ ok: true }));
  for (const routes of [submitRoutes, readRoutes, webhookRoutes, socketRoutes, consoleRoutes]) await routes(app, context);
  return app;
}

/** Requests that end after the listener has closed take their connections with them: a client that kept one open would hold up the end. */
function closeConnectionsAtEnd(app: FastifyInstance): void {
  let isEnding = false;
  app.addHook("preClose", async () => {
    isEnding = true;
  });
  app.addHook("onSend", (_request, reply, _payload, done) => {
    if (isEnding) reply.header("Connection", "close");
    done();
  });
}
