import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import type { FastifyInstance } from "fastify";
import { requestForm, type RequestForm } from "../../core/request-form.ts";
import { TASK_NAMES } from "../../protocol/task.ts";
import { dashboardRoutes } from "../dashboard.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { sendRepresentation, type Representation } from "../http/send-representation.ts";

const ASSETS = join(import.meta.dirname, "assets");
/** `index.html` is the page at `/`; the others are below `/console/`. */
export const CONSOLE_FILES: readonly string[] = [
  "index.html",
  "app.js",
  "api.js",
  "cards.js",
  "dom.js",
  "drafts.js",
  "fields.js",
  "history.js",
  "hook.js",
  "job.js",
  "key.js",
  "socket.js",
  "style.css",
  "icon.svg",
];
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

interface ModelForm {
  readonly slug: string;
  readonly name: string;
  readonly form: RequestForm;
}

/** The page at `/`: plain files, held in memory, no framework and nothing from elsewhere. And the operator's dashboard. */
export async function consoleRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  for (const name of CONSOLE_FILES) {
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
  app.get("/console/settings.json", async (_request, reply) => {
    reply.header("Cache-Control", "no-store");
    return { app_key: context.config.appKey, tasks: await taskForms(context) };
  });
  await dashboardRoutes(app, context);
}

/** By task, each model that is offered with the fields that it takes: as public as `/openapi.json`. Tasks that no model does are left out. */
async function taskForms({ offered }: GatewayContext): Promise<Readonly<Record<string, readonly ModelForm[]>>> {
  const manifests = (await offered.list()).map(({ manifest }) => manifest);
  const forms = TASK_NAMES.map((task) => {
    const able = manifests.filter(({ tasks }) => tasks.includes(task));
    return [task, able.map((manifest) => ({ slug: manifest.slug, name: manifest.name, form: requestForm(manifest, task) }))] as const;
  });
  return Object.fromEntries(forms.filter(([, models]) => models.length > 0));
}
