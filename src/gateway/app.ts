import multipart from "@fastify/multipart";
import Fastify, { type FastifyInstance } from "fastify";
import { parsePlainBodies } from "./body/parse-plain-bodies.ts";
import { MAX_PLAIN_BYTES } from "./body/upload.ts";
import { installUploadCleanup } from "./body/upload-folders.ts";
import { consoleRoutes } from "./console/console-routes.ts";
import type { GatewayContext } from "./gateway-context.ts";
import { installAuthentication } from "./http/authenticate.ts";
import { installCompression } from "./http/compress.ts";
import { installErrors } from "./http/errors.ts";
import { createFrame } from "./http/install-frame.ts";
import { installTelemetry } from "./http/install-telemetry.ts";
import { answerRaw } from "./http/raw-answers.ts";
import { securityHeaders } from "./http/security-headers.ts";
import { socketRoutes, upgrades } from "./pusher/socket-routes.ts";
import { readRoutes } from "./routes/read-routes.ts";
import { submitRoutes } from "./routes/submit-routes.ts";
import { webhookRoutes } from "./routes/webhook-routes.ts";

/** Slow senders are cut off: a whole body of 75 MB has to be here within this. */
const REQUEST_TIMEOUT_MS = 300_000;

/** The HTTP application, not listening yet. */
export async function createApp(context: GatewayContext): Promise<FastifyInstance> {
  const frame = createFrame(await securityHeaders(context.store));
  const app = Fastify({
    trustProxy: context.config.trustProxy,
    bodyLimit: MAX_PLAIN_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    requestIdHeader: false,
    genReqId: () => crypto.randomUUID(),
    // Connections that a client keeps open must not hold up a shutdown.
    forceCloseConnections: "idle",
    // What Node and fastify would answer by themselves is answered in our shape.
    return503OnClosing: false,
    http: { requireHostHeader: false, shouldUpgradeCallback: upgrades(context.config.realtime) },
    clientErrorHandler: answerRaw,
    frameworkErrors: frame.frameworkErrors,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: Number.MAX_SAFE_INTEGER },
  });
  installErrors(app, context.log);
  frame.install(app);
  parsePlainBodies(app);
  await app.register(multipart);
  installUploadCleanup(app);
  installTelemetry(app, context);
  installAuthentication(app, context.clients);
  frame.installRouting(app);
  installCompression(app);
  app.get("/healthz", async () => ({ ok: true }));
  for (const routes of [submitRoutes, readRoutes, webhookRoutes, socketRoutes, consoleRoutes]) await routes(app, context);
  return app;
}
