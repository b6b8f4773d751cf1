import type { FastifyInstance, HTTPMethods } from "fastify";
import { HttpProblem, notFound } from "./errors.ts";

const METHODS: readonly HTTPMethods[] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/** Methods that a route serves at this address, in whatever spelling; OPTIONS goes with any. Empty where there is nothing. */
export function allowedMethods(app: FastifyInstance, url: string): readonly string[] {
  const served = METHODS.filter((method) => app.findRoute({ method, url }) !== null);
  return served.length === 0 ? [] : [...served, "OPTIONS"];
}

/** What becomes of a request that no route takes: 405 with `Allow` where another method would do (RFC 9110, 15.5.6), else 404. */
export function noRoute(app: FastifyInstance, method: string, url: string): HttpProblem {
  const allowed = allowedMethods(app, url);
  if (allowed.length === 0) return notFound();
  return new HttpProblem(
    405,
    { message: `The method ${method} is not allowed here: use ${allowed.join(", ")}.` },
    { Allow: allowed.join(", ") },
  );
}
