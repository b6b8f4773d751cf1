import type { FastifyInstance } from "fastify";
import { packageVersion } from "../../config/package-info.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { CONSOLE_FILES } from "../console/console-routes.ts";
import { openapiOf } from "../openapi/document.ts";

type Json = Readonly<Record<string, unknown>>;

/** `/openapi.json`, and the same for people at `/docs`: one page, no scripts. */
export async function docsRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  const document = async (): Promise<Json> => {
    // Without Redis only the models that are here are known.
    const entries = await context.offered.list().catch(() => context.models.list().filter(({ state }) => state === "available"));
    const { allowHttpWebhooks, webhookHeaderPrefix: headerPrefix, appKey, realtime } = context.config;
    const consoleFiles = CONSOLE_FILES.filter((name) => name !== "index.html");
    const models = entries.map(({ manifest }) => manifest);
    const shared = { version: packageVersion(), publicUrl: context.publicUrl(), consoleFiles };
    return openapiOf({ ...shared, models, allowHttpWebhooks, headerPrefix, appKey, elsewhere: realtime !== null });
  };
  app.get("/openapi.json", document);
  app.get("/docs/style.css", async (_request, reply) => reply.type("text/css; charset=utf-8").send(""));
  app.get("/docs", async (_request, reply) => reply.type("text/html; charset=utf-8").send(pageOf(await document())));
}

function pageOf(document: Json): string {
  const paths = Object.entries(document["paths"] as Record<string, Json>);
  const sections = paths.flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => sectionOf(method, path, operation as Json)),
  );
  const { description } = document["info"] as Json;
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>dryapi-worker API</title></head>
<body>
<main>
<h1>dryapi-worker API</h1>
<p>${escape(String(description))}</p>
<p>Every request needs <code>Authorization: Bearer &lt;key&gt;</code>. For programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
${sections.join("\n")}
</main>
</body>
</html>
`;
}

function sectionOf(method: string, path: string, operation: Json): string {
  const body = operation["requestBody"] as { content?: Record<string, { schema?: Json }> } | undefined;
  const schema = body?.content?.["application/json"]?.schema;
  const properties = Object.entries((schema?.["properties"] ?? {}) as Record<string, Json>);
  const required = (schema?.["required"] ?? []) as readonly string[];
  const rows = properties.map(
    ([name, property]) =>
      `<tr><td><code>${escape(name)}</code>${required.includes(name) ? " *" : ""}</td><td>${escape(describe(property))}</td></tr>`,
  );
  const fields =
    rows.length === 0
      ? ""
      : `<table><thead><tr><th>field (* required)</th><th>value</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  const { description } = operation;
  const note = typeof description === "string" ? `<p>${escape(description)}</p>` : "";
  return `<h2><code>${method.toUpperCase()} ${escape(path)}</code></h2>\n<p>${escape(String(operation["summary"]))}</p>\n${note}${fields}`;
}

function describe(property: Json): string {
  const parts = [String(property["type"])];
  if (Array.isArray(property["enum"])) parts.push(`one of ${(property["enum"] as readonly string[]).join(", ")}`);
  for (const [key, word] of [
    ["minimum", "from"],
    ["maximum", "to"],
    ["minLength", "at least characters:"],
    ["maxLength", "at most characters:"],
    ["default", "default"],
  ] as const) {
    const limit = property[key];
    if (typeof limit === "string" || typeof limit === "number" || typeof limit === "boolean") parts.push(`${word} ${limit}`);
  }
  if (typeof property["description"] === "string") parts.push(property["description"]);
  return parts.join(", ");
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
