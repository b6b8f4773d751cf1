import assert from "node:assert/strict";
import { test } from "node:test";
import Fastify, { type FastifyInstance } from "fastify";
import type { ClientRecord } from "../../state/open-clients.ts";
import { createLogger } from "../../telemetry/logger.ts";
import { clientOf, installAuthentication } from "./authenticate.ts";
import { installErrors } from "./errors.ts";

const KEY = "c1|aaaaaaaaaaaaaaaaaaaaaaaa";
const CLIENT: ClientRecord = { id: "c1", name: "c1", enabled: true, ratePerMinute: null, ratePerDay: null, priority: 10, createdAt: 0 };

function appWith(): FastifyInstance {
  const app = Fastify({ routerOptions: { ignoreTrailingSlash: true } });
  installErrors(app, createLogger({ level: "fatal", format: "json" }));
  installAuthentication(app, { authenticate: async (key) => (key === KEY ? CLIENT : null) });
  app.get("/api/v1/client/balance", async (request) => ({ id: clientOf(request).id }));
  app.post("/broadcasting/auth", { config: { auth: true } }, async (request) => ({ id: clientOf(request).id }));
  app.get("/healthz", async () => ({ ok: true }));
  return app;
}

const OTHER_SPELLINGS = [
  "/api/v1/client/balance",
  "/api/v1/%63lient/balance",
  "/%61pi/v1/client/balance/",
  "/api/v1/client/%62alance",
  "http://other.example/api/v1/client/balance",
];

test("every spelling of a client's address needs a key", async () => {
  await using app = appWith();
  for (const url of OTHER_SPELLINGS) {
    const answer = await app.inject({ url });
    assert.deepEqual([url, answer.statusCode, answer.json()], [url, 401, { message: "Unauthenticated." }]);
    const known = await app.inject({ url, headers: { authorization: `Bearer ${KEY}` } });
    assert.deepEqual([url, known.statusCode, known.json()], [url, 200, { id: "c1" }]);
  }
});

test("a route may ask for a key elsewhere; others need none", async () => {
  await using app = appWith();
  assert.equal((await app.inject({ method: "POST", url: "/broadcasting/auth" })).statusCode, 401);
  assert.equal((await app.inject({ url: "/healthz" })).statusCode, 200);
  assert.equal((await app.inject({ url: "/api/v1/client/nothing" })).statusCode, 401, "nobody learns which routes there are");
});

test("what is no Bearer key is nobody's", async () => {
  await using app = appWith();
  for (const authorization of [
    undefined,
    "",
    KEY,
    `Basic ${KEY}`,
    "Bearer",
    "Bearer ",
    `Bearer ${KEY} x`,
    `Bearer ${"a".repeat(300)}`,
    `Bearer x${KEY}`,
  ]) {
    const answer = await app.inject({ url: "/api/v1/client/balance", headers: authorization === undefined ? {} : { authorization } });
    assert.equal(answer.statusCode, 401, authorization);
  }
  const lower = await app.inject({ url: "/api/v1/client/balance", headers: { authorization: `bearer ${KEY}` } });
  assert.equal(lower.statusCode, 200);
});
