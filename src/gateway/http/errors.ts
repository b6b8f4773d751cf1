import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { AppError, ERROR_TABLE, publicMessage } from "../../protocol/error.ts";
import type { Logger } from "../../telemetry/logger.ts";
import { notNow } from "./not-now.ts";
import { openTroubleLog, type TroubleLog } from "./trouble-log.ts";

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

const REALM = 'Bearer realm="dryapi"';

/** 401 (RFC 6750, 3): without a word about the key when none was sent. */
export const unauthenticated = (hadKey = false): HttpProblem =>
  new HttpProblem(
    401,
    { message: "Unauthenticated." },
    {
      "WWW-Authenticate": hadKey
        ? `${REALM}, error="invalid_token", error_description="The key is unknown, was replaced or is switched off"`
        : REALM,
    },
  );
export const forbidden = (): HttpProblem => new HttpProblem(403, { message: "This action is unauthorized." });
export const notFound = (): HttpProblem => new HttpProblem(404, { message: "Not found." });
export const conflict = (message: string): HttpProblem => new HttpProblem(409, { message });
export const tooLarge = (message: string): HttpProblem => new HttpProblem(413, { message });
export const malformed = (message: string): HttpProblem => new HttpProblem(400, { message });

/** What every endpoint that takes a body reads. */
const BODY_TYPES = "application/json, application/x-www-form-urlencoded, multipart/form-data";

/** 415 that says what would be taken (RFC 9110, 15.5.16). */
export const unsupported = (message: string): HttpProblem =>
  new HttpProblem(415, { message }, { Accept: BODY_TYPES, "Accept-Post": BODY_TYPES });

/** 415 for a body that comes compressed: an upload is media, which compress to nothing. */
export const encodedBody = (coding: string): HttpProblem =>
  new HttpProblem(
    415,
    { message: `The request body must not be encoded: send it without Content-Encoding (${coding.slice(0, 40)}).` },
    { "Accept-Encoding": "identity" },
  );

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
  408: "The request did not come in time.",
  413: "Content Too Large.",
  414: "The request's address is too long.",
  431: "The request's header fields are too large.",
};

/** Fastify's own errors of which its code says more than its status. */
const TEXT_OF_CODE: Readonly<Record<string, string>> = {
  FST_ERR_CTP_INVALID_JSON_BODY: "The request body is not valid JSON.",
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "The request body is not as long as its Content-Length says.",
  FST_ERR_BAD_URL: "The request's address is not valid: what stands behind a % must be two hex digits, and UTF-8.",
};

/** One place where failures become answers: nothing of ours, no stack and no path, ever reaches a client. */
export function installErrors(app: FastifyInstance, log: Logger): void {
  const troubles = openTroubleLog(log);
  app.setErrorHandler((thrown: FastifyError | HttpProblem | AppError, request, reply) => {
    const problem = asProblem(thrown, request);
    if (problem.status >= 500) tell({ log, troubles }, thrown, request, problem.status);
    return answerProblem(reply, problem);
  });
}

function asProblem(thrown: unknown, request: FastifyRequest): HttpProblem {
  if (thrown instanceof HttpProblem) return thrown;
  const trouble = notNow(thrown);
  if (trouble !== null) return new HttpProblem(503, { message: trouble.message }, { "Retry-After": String(trouble.retryAfterS) });
  if (thrown instanceof AppError) {
    const { http } = ERROR_TABLE[thrown.code];
    if (http >= 500) return new HttpProblem(500, { message: "Server Error" });
    const message = publicMessage(thrown);
    return new HttpProblem(http, { message, ...(thrown.field !== undefined && { errors: { [thrown.field]: [message] } }) });
  }
  const { statusCode: status = 500, code = "" } = thrown as { readonly statusCode?: number; readonly code?: string };
  if (status === 415) return unsupportedType(request);
  const text = TEXT_OF_CODE[code] ?? TEXT_OF[status];
  if (text !== undefined) return new HttpProblem(status, { message: text });
  return status >= 400 && status < 500
    ? new HttpProblem(status, { message: "Bad Request." })
    : new HttpProblem(500, { message: "Server Error" });
}

function unsupportedType({ headers }: FastifyRequest): HttpProblem {
  const type = headers["content-type"];
  const what = type === undefined ? "The request body has no Content-Type" : "The request body's Content-Type is not supported";
  return unsupported(`${what}: send ${BODY_TYPES.replace(/, (?=[^,]*$)/, " or ")}.`);
}

export function answerProblem(reply: FastifyReply, { status, body, headers }: HttpProblem): FastifyReply {
  // Fastify would close the connection, and a client that is still sending would see that and no answer. What comes is read and dropped,
  // for as long as a request may take; whoever read the body so far may have stopped in the middle of it.
  if (status === 413) reply.removeHeader("Connection");
  const { raw } = reply.request;
  if (!raw.readableEnded) raw.unpipe().resume();
  // What was said of a result does not hold for an answer that is none.
  for (const name of ["Content-Length", "Content-Disposition", "Cache-Control", "ETag", "Last-Modified"]) reply.removeHeader(name);
  return reply.code(status).headers(headers).type("application/json; charset=utf-8").send(body);
}

function tell(
  { log, troubles }: { readonly log: Logger; readonly troubles: TroubleLog },
  thrown: unknown,
  request: FastifyRequest,
  status: number,
): void {
  const where = { request: request.id, method: request.method, route: request.routeOptions.url ?? "none", status };
  const trouble = notNow(thrown);
  if (trouble === null) log.error({ ...where, err: thrown }, "a request failed");
  else troubles.tell(trouble.kind, { ...where, err: thrown });
}
