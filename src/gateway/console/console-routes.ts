import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import type { FastifyInstance } from "fastify";
import { dashboardRoutes } from "../dashboard.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { sendRepresentation, type Representation } from "../http/send-representation.ts";

const ASSETS = join(import.meta.dirname, "assets");
const FILES = ["index.html", "app.js", "api.js", "dom.js", "fields.js", "requests.js", "socket.js", "style.css", "icon.svg"];
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** The page at `/`: plain files, held in memory, no framework and nothing from elsewhere. And the operator's dashboard. */
export async function consoleRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  for (const name of FILES) {
    const body = await readFile(join(ASSETS, name));
    const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 20)}"`;
    const contentType = TYPES[extname(name)] ?? "application/octet-stream";
    const file: Representation = {
      etag,
      modifiedAt: null,
      sizeBytes: body.length,
      contentType,
      cacheControl: "no-cache",
      vary: "Accept-Encoding",
      content: body,
    };
    app.route({
      method: ["GET", "HEAD"],
      url: name === "index.html" ? "/" : `/console/${name}`,
      handler: (request, reply) => sendRepresentation(request, reply, file),
    });
  }
  app.get("/console/settings.json", async () => ({ app_key: context.config.appKey }));
  await dashboardRoutes(app, context);
}
