import { RESPONSES, SCHEMAS } from "./components.ts";
import { requestPaths } from "./request-operations.ts";
import type { Schema } from "./schema.ts";
import { sitePaths } from "./site-operations.ts";
import { SOCKET_SCHEMAS, socketDescription, socketPaths } from "./socket-events.ts";
import { taskPaths, type DocumentOptions } from "./task-operations.ts";
import { EVENT_SCHEMAS, webhookEvents } from "./webhook-events.ts";
import { webhookPaths } from "./webhook-operations.ts";

export interface Described extends DocumentOptions {
  readonly headerPrefix: string;
  readonly consoleFiles: readonly string[];
  readonly appKey: string;
  /** Events go to another Pusher server. */
  readonly elsewhere: boolean;
}

const TAGS: readonly Schema[] = [
  { name: "Tasks", description: "Submit a job. The limits are those of the models that are offered here." },
  { name: "Requests", description: "Follow, list and cancel one's own requests, fetch their results." },
  { name: "Webhooks", description: "Events to a URL of yours, signed and repeated until they arrive." },
  { name: "Sockets", description: "Events over a Pusher socket." },
  { name: "Catalogue", description: "What is offered." },
  { name: "Site", description: "Health, documents, the console." },
];

/** OpenAPI 3.1 of all that this server answers and sends, from the tables that validate and from the models that are offered. */
export function openapiOf(options: Described): Schema {
  return {
    openapi: "3.1.0",
    info: {
      title: "dryapi-worker",
      version: options.version,
      description:
        "Submit generation jobs and follow them by polling, by webhook or over a Pusher socket. Limits are those of the models offered here. /docs explains webhooks, sockets, statuses and errors.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: options.publicUrl }],
    tags: TAGS,
    paths: { ...taskPaths(options), ...requestPaths(), ...webhookPaths(options), ...sitePaths(options), ...socketPaths(options) },
    webhooks: webhookEvents(options.headerPrefix),
    "x-socket": socketDescription(options),
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer", description: "A client's key, `<id>|<secret>`." } },
      schemas: { ...SCHEMAS, ...EVENT_SCHEMAS, ...SOCKET_SCHEMAS },
      responses: RESPONSES,
    },
  };
}
