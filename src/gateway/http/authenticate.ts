import type { FastifyInstance, FastifyRequest } from "fastify";
import { ShortCache } from "../../lib/short-cache.ts";
import type { Clients } from "../../state/open-clients.ts";
import { unauthenticated } from "./errors.ts";
import type { AuthenticatedClient } from "../gateway-context.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Set by the authentication hook; null on routes without one. */
    client: AuthenticatedClient | null;
  }
  interface FastifyContextConfig {
    /** The route needs a Bearer key. All below /api/v1/client do without saying so. */
    auth?: boolean;
  }
}

const CLIENT_PATHS = "/api/v1/client/";
/** A key that was rotated or disabled is accepted for at most so long. */
const KNOWN_MS = 1_000;

/** `Authorization: Bearer <id>|<secret>` on every route that needs it; 401 before anything of the body is read. */
export function installAuthentication(app: FastifyInstance, clients: Pick<Clients, "authenticate">): void {
  const known = new ShortCache<string, AuthenticatedClient>({ ttlMs: KNOWN_MS, max: 10_000 });
  app.decorateRequest("client", null);
  app.addHook("onRequest", (request, _reply, done) => {
    const { url = request.url, config } = request.routeOptions;
    // The route decides, not the text of the address: "%63lient" leads to the same route as "client".
    const needed = config.auth ?? url.startsWith(CLIENT_PATHS);
    if (!needed) return done();
    const key = bearerOf(request);
    if (key === null) return done(unauthenticated());
    request.client = known.get(key) ?? null;
    // Most requests: nothing is waited for.
    if (request.client !== null) return done();
    // An async hook would cost each request a turn of the event loop, for the few that are not known yet.
    /* oxlint-disable promise/no-callback-in-promise */
    clients.authenticate(key).then((client) => {
      if (client === null) return done(unauthenticated(true));
      request.client = client;
      known.set(key, client);
      return done();
    }, done);
    /* oxlint-enable promise/no-callback-in-promise */
  });
}

/** The client of an authenticated route. @throws Error when the route has no authentication: a bug */
export function clientOf(request: FastifyRequest): AuthenticatedClient {
  if (request.client === null) throw new Error(`route ${request.routeOptions.url} has no authentication; this is a bug`);
  return request.client;
}

function bearerOf({ headers }: FastifyRequest): string | null {
  const [, key] = /^Bearer +(\S{1,256})$/i.exec(headers.authorization ?? "") ?? [];
  return key ?? null;
}
