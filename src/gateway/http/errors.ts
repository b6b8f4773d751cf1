import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { AppError, ERROR_TABLE, publicMessage } from "../../protocol/error.ts";
import type { Logger } from "../../telemetry/logger.ts";

export type FieldErrors = Readonly<Record<string, readonly string[]>>;

/** An answer that is no success, as the contract words it: `{"message": ..., "errors"?: ...}`. */
export class HttpProblem extends Error {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    body: { readonly message: string; readonly errors?: FieldErrors },
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(body.message);
    this.name = "HttpProblem";
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

export const unauthenticated = (): HttpProblem => new HttpProblem(401, { message: "Unauthenticated." });
export const forbidden = (): HttpProblem => new HttpProblem(403, { message: "This action is unauthorized." });
export const notFound = (): HttpProblem => new HttpProblem(404, { message: "Not found." });
export const conflict = (message: string): HttpProblem => new HttpProblem(409, { message });
export const tooLarge = (message: string): HttpProblem => new HttpProblem(413, { message });
export const unsupported = (message: string): HttpProblem => new HttpProblem(415, { message });
export const malformed = (message: string): HttpProblem => new HttpProblem(400, { message });

/** 422: the first text, and how many more there are. */
export function invalid(errors: FieldErrors): HttpProblem {
  const all = Object.values(errors).flat();
  const more = all.length - 1;
  const first = all[0] ?? "The given data was invalid.";
  return new HttpProblem(422, { message: more > 0 ? `${first} (and ${more} more error${more === 1 ? "" : "s"})` : first, errors });
}

const TEXT_OF: Readonly<Record<number, string>> = {
  400: "Bad Request.",
  404: "Not found.",
  405: "Method Not Allowed.",
  413: "Content Too Large.",
  415: "Unsupported Media Type.",
};

/** One place where failures become answers: nothing of ours, no stack and no path, ever reaches a client. */
export function installErrors(app: FastifyInstance, log: Logger): void {
  app.setNotFoundHandler((_request, reply) => send(reply, notFound()));
  app.setErrorHandler((thrown: FastifyError | HttpProblem | AppError, request, reply) => {
    const problem = asProblem(thrown);
    if (problem.status >= 500) tell(log, thrown, request, problem.status);
    return send(reply, problem);
  });
}

function asProblem(thrown: unknown): HttpProblem {
  if (thrown instanceof HttpProblem) return thrown;
  if (thrown instanceof AppError) {
    const { http } = ERROR_TABLE[thrown.code];
    if (http === 503) return new HttpProblem(503, { message: "Service Unavailable" }, { "Retry-After": "5" });
    if (http >= 500) return new HttpProblem(500, { message: "Server Error" });
    const message = publicMessage(thrown);
    return new HttpProblem(http, { message, ...(thrown.field !== undefined && { errors: { [thrown.field]: [message] } }) });
  }
  const status = statusOf(thrown);
  const text = TEXT_OF[status];
  if (text !== undefined) return new HttpProblem(status, { message: text });
  return status >= 400 && status < 500
    ? new HttpProblem(status, { message: "Bad Request." })
    : new HttpProblem(500, { message: "Server Error" });
}

/** Fastify's and its plugins' own errors carry one. */
function statusOf(thrown: unknown): number {
  const status = typeof thrown === "object" && thrown !== null && "statusCode" in thrown ? thrown.statusCode : undefined;
  return typeof status === "number" ? status : 500;
}

function send(reply: FastifyReply, { status, body, headers }: HttpProblem): FastifyReply {
  // Fastify would close the connection, and a client that is still sending would see that and no answer. What comes is read and dropped,
  // for as long as a request may take.
  if (status === 413) reply.removeHeader("Connection");
  return reply.code(status).headers(headers).type("application/json; charset=utf-8").send(body);
}

function tell(log: Logger, thrown: unknown, request: FastifyRequest, status: number): void {
  const where = { request: request.id, method: request.method, route: request.routeOptions.url ?? "none", status };
  if (status === 503) log.warn({ ...where, err: thrown }, "a request could not be served now");
  else log.error({ ...where, err: thrown }, "a request failed");
}
