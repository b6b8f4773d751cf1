import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import type { FastifyInstance, RouteOptions } from "fastify";
import { readConfig } from "../../src/config/config.ts";
import { createApp } from "../../src/gateway/app.ts";
import { openGateway } from "../../src/gateway/open-gateway.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { startRedisRig } from "../support/redis-rig.ts";

type Parameters = readonly { readonly name: string; readonly in: string; readonly schema: { readonly enum?: readonly string[] } }[];
type Paths = Readonly<Record<string, Readonly<Record<string, { readonly operationId: string; readonly parameters?: Parameters }>>>>;

/** `GET /console/{file}` stands for each file that it names. */
function documented(paths: Paths): readonly string[] {
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).flatMap(([method, { parameters = [] }]) => {
      const listed = parameters.find((parameter) => parameter.in === "path" && parameter.schema.enum !== undefined);
      const values = listed?.schema.enum?.map((value) => path.replace(`{${listed.name}}`, value)) ?? [path];
      return values.map((each) => `${method.toUpperCase()} ${each}`);
    }),
  );
}

test("the document has the routes that the gateway serves, all of them and no others", async () => {
  await using stack = new AsyncDisposableStack();
  const rig = stack.use(await startRedisRig());
  const dir = await mkdtemp(join(tmpdir(), "dryapi-routes-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const config = readConfig({
    REDIS_URL: rig.server.url,
    DRYAPI_STATE_DIR: join(dir, "state"),
    DRYAPI_STORE: pathToFileURL(join(dir, "objects")).href,
    DRYAPI_MODELS: "fake",
  });
  const metrics = stack.use(createMetrics({ programs: ["gateway"], version: "0", name: "w", onError: () => undefined }));
  const log = createLogger({ level: "fatal", format: "json" });
  const context = await openGateway({ config, log, metrics, publicUrl: () => "http://gateway", stack });

  const served = new Set<string>();
  const note = ({ method, url }: Pick<RouteOptions, "method" | "url">): void => {
    for (const each of [method].flat()) {
      if (each !== "HEAD" && each !== "OPTIONS") served.add(`${each} ${url.replaceAll(/:(\w+)/g, "{$1}")}`);
    }
  };
  // Fastify tells of each instance before it has a route.
  const watch = (message: unknown): void => void (message as { readonly fastify: FastifyInstance }).fastify.addHook("onRoute", note);
  subscribe("fastify.initialization", watch);
  const app = await createApp(context);
  unsubscribe("fastify.initialization", watch);
  stack.defer(() => app.close());

  const document = (await app.inject({ url: "/openapi.json" })).json<{ readonly paths: Paths }>();
  assert.ok(served.size > 50, "the routes were seen");
  assert.deepEqual([...served].toSorted(), [...new Set(documented(document.paths))].toSorted());
  const ids = Object.values(document.paths).flatMap((operations) => Object.values(operations).map(({ operationId }) => operationId));
  assert.equal(new Set(ids).size, ids.length, "each operation has a name of its own");
});
