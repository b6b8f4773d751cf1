import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import helmet from "helmet";
import type { ObjectStore } from "../../storage/object-store.ts";

/** Any life will do: the link is looked at and never followed. */
const PROBE_MS = 60_000;

/** Helmet's headers for every answer, the same for all: put together once. Results of an `s3:` store are shown by the console from the store itself, so its origin is allowed. */
export async function securityHeaders(store: ObjectStore): Promise<Readonly<Record<string, string>>> {
  const results = await originOf(store);
  const secure = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'", "data:", "blob:", ...results],
        mediaSrc: ["'self'", "blob:", ...results],
        connectSrc: ["'self'", ...results],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
        baseUri: ["'none'"],
      },
    },
    // Results are fetched by pages of others.
    crossOriginResourcePolicy: { policy: "cross-origin" },
    // TLS is the proxy's: it knows whether there is any.
    strictTransportSecurity: false,
  });
  const probe = new ServerResponse(new IncomingMessage(new Socket()));
  secure(probe.req, probe, () => undefined);
  return Object.fromEntries(Object.entries(probe.getHeaders()).map(([name, value]) => [name, String(value)]));
}

/** Where redirects of result links lead to; none for a `file:` store. Without credentials yet, the console shows links instead of players. */
async function originOf(store: ObjectStore): Promise<readonly string[]> {
  const link = await store.presign("probe", { expiresInMs: PROBE_MS }).catch(() => null);
  return link === null ? [] : [new URL(link).origin];
}
