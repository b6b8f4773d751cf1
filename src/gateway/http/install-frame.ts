import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { decodeForm } from "../../lib/strict-text.ts";
import { allowedMethods, noRoute } from "./allowed-methods.ts";
import { CORS_HEADERS, preflightHeaders } from "./cors.ts";
import { answerProblem, encodedBody, HttpProblem, malformed, notFound } from "./errors.ts";
import { answerExpectation } from "./raw-answers.ts";

/** Longest address (RFC 9110, 4.1, recommends at least 8,000 bytes). */
const MAX_URL_BYTES = 8_192;
/** While this process ends, another one behind the balancer takes the request. */
const RETRY_ELSEWHERE_S = 1;

/** Of the server itself, which `OPTIONS *` asks about (RFC 9110, 9.3.7). */
const ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];

export interface Frame {
  /** For fastify's own router, which answers before any hook runs. */
  readonly frameworkErrors: (error: FastifyError, request: FastifyRequest, reply: FastifyReply) => void;
  /** The first hooks of all: what every answer carries, and requests that need no route to be answered. */
  install(app: FastifyInstance): void;
  /** After authentication: nobody learns which routes there are below /api/v1/client without a key. */
  installRouting(app: FastifyInstance): void;
}

/** `headers`: those that every answer has besides CORS and the request id. */
export function createFrame(headers: Readonly<Record<string, string>>): Frame {
  const fixed = { ...headers, ...CORS_HEADERS };
  let app: FastifyInstance | null = null;
  const begin = (request: FastifyRequest, reply: FastifyReply): void => void reply.headers(fixed).header("X-Request-Id", request.id);
  return {
    frameworkErrors: (error, request, reply) => {
      begin(request, reply);
      app?.errorHandler(error, request, reply);
    },
    install: (target) => {
      app = target;
      let isEnding = false;
      target.addHook("preClose", async () => {
        isEnding = true;
      });
      target.addHook("onRequest", (request, reply, done) => {
        begin(request, reply);
        if (isEnding) {
          // A connection that a client keeps open would hold up the end.
          reply.header("Connection", "close");
          return done(
            new HttpProblem(503, { message: "The server is ending. Please try again." }, { "Retry-After": String(RETRY_ELSEWHERE_S) }),
          );
        }
        const problem = requestProblem(request);
        if (problem !== null) return done(problem);
        if (request.method !== "OPTIONS") return done();
        answerOptions(target, request, reply);
      });
      target.addHook("onSend", (_request, reply, _payload, done) => {
        if (isEnding) reply.header("Connection", "close");
        done();
      });
    },
    installRouting: (target) => {
      target.setNotFoundHandler((request, reply) => answerProblem(reply, noRoute(target, request.method, request.raw.url ?? "/")));
      target.addHook("onRequest", (request, _reply, done) => {
        // Before a body is read that nobody wants.
        if (request.is404) return done(noRoute(target, request.method, request.raw.url ?? "/"));
        const coding = request.headers["content-encoding"];
        done(coding === undefined || /^(?:identity)?$/i.test(coding.trim()) ? undefined : encodedBody(coding));
      });
      meetExpectations(target);
    },
  };
}

/** What makes a request no request, whatever it is for. */
function requestProblem(request: FastifyRequest): HttpProblem | null {
  const { rawHeaders, httpVersion, url = "" } = request.raw;
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) if (isHost(rawHeaders[index] ?? "")) hosts += 1;
  // RFC 9112, 3.2
  if (hosts > 1 || (hosts === 0 && httpVersion !== "1.0")) return malformed("The request must have exactly one Host header field.");
  if (!HOST.test(request.raw.headers.host ?? "")) return malformed("The request's Host header field is not valid.");
  if (url === "*" && request.method !== "OPTIONS") return malformed("The request has no address: `*` goes with OPTIONS alone.");
  if (url.length > MAX_URL_BYTES) return new HttpProblem(414, { message: "The request's address is too long." });
  const query = url.indexOf("?");
  if (query !== -1 && url.includes("%", query)) {
    const values = decodeForm(url.slice(query + 1));
    if (values === null || url.includes("%00", query)) return malformed("The request's query is not valid UTF-8 without NUL characters.");
  }
  return null;
}

const HOST = /^(?:[\w.~!$&'()*+,;=%-]*|\[[0-9a-fA-F:.]+\])(?::\d*)?$/;

function isHost(name: string): boolean {
  return name.length === 4 && name.toLowerCase() === "host";
}

/** Preflights are answered for every address: a page that calls a wrong one shall see its 404. */
function answerOptions(app: FastifyInstance, request: FastifyRequest, reply: FastifyReply): void {
  const { url = "/" } = request.raw;
  const preflight = preflightHeaders(request.headers);
  const allowed = url === "*" ? ALL_METHODS : allowedMethods(app, url);
  if (preflight === null && allowed.length === 0) {
    void answerProblem(reply, notFound());
    return;
  }
  if (allowed.length > 0) reply.header("Allow", allowed.join(", "));
  void reply
    .code(204)
    .headers(preflight ?? {})
    .send();
}

/** `Expect: 100-continue`: the body is asked for once key, address and type are known to be right, and not before. */
function meetExpectations(app: FastifyInstance): void {
  const waiting = new WeakSet<object>();
  app.server.on("checkContinue", (request, response) => {
    waiting.add(request);
    app.routing(request, response);
  });
  app.server.on("checkExpectation", answerExpectation);
  app.addHook("preParsing", (request, reply, payload, done) => {
    if (waiting.has(request.raw)) reply.raw.writeContinue();
    done(null, payload);
  });
}
