import type { FastifyInstance } from "fastify";
import type { GatewayContext } from "../gateway-context.ts";

/** What a ratio of failures needs; series of other statuses are born with their first answer. */
const FIRST_STATUSES = ["200", "500", "503"] as const;

/** A request id on every answer, and a count and a time of every route. Paths are never labels: routes are. */
export function installTelemetry(app: FastifyInstance, { metrics, log }: Pick<GatewayContext, "metrics" | "log">): void {
  app.addHook("onRoute", ({ method, url }) => {
    metrics.httpSeconds.begin({ route: url });
    for (const each of [method].flat())
      for (const status of FIRST_STATUSES) metrics.httpRequests.inc({ method: each, route: url, status }, 0);
  });
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("X-Request-Id", request.id);
    done();
  });
  app.addHook("onResponse", (request, reply, done) => {
    const route = request.routeOptions.url ?? "none";
    metrics.httpRequests.inc({ method: request.method, route, status: String(reply.statusCode) });
    metrics.httpSeconds.observe({ route }, reply.elapsedTime / 1_000);
    const client = request.client?.id;
    log.debug(
      { request: request.id, method: request.method, route, status: reply.statusCode, ms: Math.round(reply.elapsedTime), client },
      "request",
    );
    done();
  });
}
