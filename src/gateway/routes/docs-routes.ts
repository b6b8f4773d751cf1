import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { packageVersion } from "../../config/package-info.ts";
import { requiredFields } from "../../core/plan-submit.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { CONSOLE_FILES } from "../console/console-routes.ts";
import { docsPage, type DocsFacts } from "../docs/docs-page.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { sendRepresentation, type Representation } from "../http/send-representation.ts";
import { openapiOf } from "../openapi/document.ts";
import type { Schema } from "../openapi/schema.ts";

const STYLE = join(import.meta.dirname, "..", "docs", "assets", "style.css");

/** `/openapi.json`, and the same for people at `/docs`: one page, no scripts. */
export async function docsRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  const style = await readFile(STYLE);
  const sheet: Representation = {
    etag: `"${createHash("sha256").update(style).digest("base64url").slice(0, 20)}"`,
    modifiedAt: null,
    sizeBytes: style.length,
    contentType: "text/css; charset=utf-8",
    cacheControl: "no-cache",
    vary: "Accept-Encoding",
    content: style,
  };
  app.get("/openapi.json", async () => documentOf(context, await offered(context)));
  app.get("/docs", async (_request, reply) => {
    const models = await offered(context);
    return reply.type("text/html; charset=utf-8").send(docsPage(documentOf(context, models), factsOf(context, models)));
  });
  app.route({ method: ["GET", "HEAD"], url: "/docs/style.css", handler: (request, reply) => sendRepresentation(request, reply, sheet) });
}

/** Without Redis only the models that are here are known. */
async function offered({ offered: models, models: local }: GatewayContext): Promise<readonly Manifest[]> {
  const entries = await models.list().catch(() => local.list().filter(({ state }) => state === "available"));
  return entries.map(({ manifest }) => manifest);
}

function documentOf({ config, publicUrl }: GatewayContext, models: readonly Manifest[]): Schema {
  return openapiOf({
    version: packageVersion(),
    publicUrl: publicUrl(),
    models,
    allowHttpWebhooks: config.allowHttpWebhooks,
    headerPrefix: config.webhookHeaderPrefix,
    consoleFiles: CONSOLE_FILES.filter((name) => name !== "index.html"),
    appKey: config.appKey,
    elsewhere: config.realtime !== null,
  });
}

function factsOf({ config, publicUrl }: GatewayContext, models: readonly Manifest[]): DocsFacts {
  const { webhookHeaderPrefix: headerPrefix, appKey, retentionMs, realtime } = config;
  return { publicUrl: publicUrl(), headerPrefix, appKey, retentionMs, elsewhere: realtime !== null, example: exampleOf(models) };
}

/** A picture, else speech: with the fields that the model requires. */
function exampleOf(models: readonly Manifest[]): DocsFacts["example"] {
  const values: Readonly<Record<string, unknown>> = {
    prompt: "a lighthouse at dusk",
    text: "Good morning.",
    width: 256,
    height: 256,
    format: "mp3",
  };
  for (const task of ["txt2img", "txt2audio"] as const) {
    const manifest = models.find(({ tasks }) => tasks.includes(task));
    const required = manifest === undefined ? [] : requiredFields(manifest, task);
    if (manifest !== undefined && required.every((name) => name in values))
      return { model: manifest.slug, task, body: Object.fromEntries(required.map((name) => [name, values[name]])) };
  }
  return null;
}
