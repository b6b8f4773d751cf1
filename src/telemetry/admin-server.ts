import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { errnoOf } from "../lib/errno.ts";
import { AppError } from "../protocol/error.ts";
import { within } from "../lib/within.ts";
import type { Program } from "./metric-row.ts";
import type { Metrics } from "./metrics.ts";

export interface HealthCheck {
  readonly ok: boolean;
  /** What is wrong, or what proves that it is right, for a person at 3 a.m. */
  readonly detail?: string;
}

export interface HealthReport {
  readonly ok: boolean;
  readonly checks: Readonly<Record<string, HealthCheck>>;
}

export interface AdminServerOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly metrics: Pick<Metrics<Program>, "scrape">;
  /** Alive: the supervisor's loop alone. A false answer gets the process restarted. */
  readonly health: () => HealthReport | Promise<HealthReport>;
  /** Able to work now. */
  readonly ready: () => HealthReport | Promise<HealthReport>;
  /** A check that takes longer counts as failed. Default 5 s. */
  readonly checkTimeoutMs?: number;
  readonly onError?: (thrown: unknown) => void;
}

export interface AdminServer extends AsyncDisposable {
  /** `http://host:port` as bound. */
  readonly url: string;
  readonly port: number;
}

/**
 * `GET /metrics`, `/healthz` and `/readyz` (200, or 503 with the reasons as JSON). No authentication: bind it to a private address.
 * @throws AppError CONFIG_INVALID when the address cannot be bound
 */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const server = createServer((request, response) => {
    answer(options, request, response).catch((thrown: unknown) => {
      options.onError?.(thrown);
      if (!response.headersSent) sendJson(response, 500, { message: "Server Error: the cause is in the log" });
      else response.destroy();
    });
  });
  server.requestTimeout = 10_000;
  server.headersTimeout = 5_000;
  server.maxConnections = 64;
  await listen(server, options);
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  return {
    url: `http://${host}:${port}`,
    port,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function listen(server: Server, { host, port }: AdminServerOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      const hint =
        errnoOf(cause) === "EADDRINUSE"
          ? "another daemon uses it; set DRYAPI_ADMIN_PORT to a free port, or 0 for any"
          : "set DRYAPI_ADMIN_HOST to an address of this machine";
      reject(new AppError("CONFIG_INVALID", `the admin listener cannot bind ${host}:${port} (${cause.message}): ${hint}`, { cause }));
    });
    server.listen(port, host, resolve);
  });
}

async function answer(options: AdminServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
  const handler = HANDLERS[path];
  if (handler === undefined) {
    sendJson(response, 404, { message: `Not found: there are ${Object.keys(HANDLERS).join(", ")}.` });
    return;
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    sendJson(response, 405, { message: `The method ${request.method} is not allowed here: use GET, HEAD.` });
    return;
  }
  await handler(options, response);
}

const HANDLERS: Readonly<Record<string, (options: AdminServerOptions, response: ServerResponse) => Promise<void>>> = {
  "/metrics": async ({ metrics }, response) => {
    const { contentType, body } = await metrics.scrape();
    send(response, 200, contentType, body);
  },
  "/healthz": async (options, response) => report(response, await runCheck("healthz", options.health, options)),
  "/readyz": async (options, response) => report(response, await runCheck("readyz", options.ready, options)),
};

async function runCheck(name: string, check: AdminServerOptions["health"], options: AdminServerOptions): Promise<HealthReport> {
  const ms = options.checkTimeoutMs ?? 5_000;
  try {
    return await within((async () => check())(), { ms, late: () => new Error(`no answer within ${ms} ms`) });
  } catch (thrown) {
    options.onError?.(thrown);
    return { ok: false, checks: { [name]: { ok: false, detail: thrown instanceof Error ? thrown.message : String(thrown) } } };
  }
}

function report(response: ServerResponse, health: HealthReport): void {
  sendJson(response, health.ok ? 200 : 503, health);
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  send(response, status, "application/json; charset=utf-8", `${JSON.stringify(body)}\n`);
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  response.writeHead(status, { "content-type": contentType, "content-length": Buffer.byteLength(body), "cache-control": "no-store" });
  // node:http drops the body of a HEAD answer by itself.
  response.end(body);
}
