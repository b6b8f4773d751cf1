import cors from "@fastify/cors";
import formbody from "@fastify/formbody";
import multipart from "@fastify/multipart";
import Fastify, { type FastifyInstance } from "fastify";
import { installAuthentication } from "./http/authenticate.ts";
import { installUploadCleanup, MAX_PLAIN_BYTES } from "./body/read-body.ts";
import { consoleRoutes } from "./console/console-routes.ts";
import { installErrors } from "./http/errors.ts";
import type { GatewayContext } from "./gateway-context.ts";
import { installTelemetry } from "./http/install-telemetry.ts";
import { socketRoutes, upgrades } from "./pusher/socket-routes.ts";
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
    http: { shouldUpgradeCallback: upgrades(context.config.realtime) },
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
  await app.register(formbody, { bodyLimit: MAX_PLAIN_BYTES });
  await app.register(multipart);
  installUploadCleanup(app);
  installTelemetry(app, context);
  installAuthentication(app, context.clients);
  app.get("/healthz", async () => ({ ok: true }));
  for (const routes of [submitRoutes, readRoutes, webhookRoutes, socketRoutes, consoleRoutes]) await routes(app, context);
  return app;
}

/** JSON; an empty body is no field at all, whatever type it claims: some clients always send one. Plain text is nothing that we take (415). */
function parsePlainBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeContentTypeParser(["text/plain", "application/json"]);
  app.addContentTypeParser<string>("application/json", { parseAs: "string" }, (request, text, done) => {
    if (text.trim() === "") done(null, {});
    else void parse(request, text, done);
  });
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
