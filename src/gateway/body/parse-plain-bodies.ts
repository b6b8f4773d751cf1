import type { FastifyInstance, FastifyRequest } from "fastify";
import { decodeForm, decodeUtf8, findJsonTextProblem, findTextProblem } from "../../lib/strict-text.ts";
import { malformed, type HttpProblem } from "../http/errors.ts";
import { MAX_PLAIN_BYTES } from "./read-body.ts";

/** JSON and urlencoded forms. An empty body is no field at all, whatever type it claims: some clients always send one. */
export function parsePlainBodies(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser("error", "error");
  // Plain text is nothing that we take (415).
  app.removeContentTypeParser(["text/plain", "application/json"]);
  app.addContentTypeParser<Buffer>("application/json", { parseAs: "buffer", bodyLimit: MAX_PLAIN_BYTES }, (request, bytes, done) => {
    const text = decodeUtf8(bytes);
    if (text === null) return done(notUtf8());
    if (text.trim() === "") return done(null, {});
    void parseJson(request, text, (error, value: unknown) => {
      const problem = error === null ? findJsonTextProblem(text, value) : null;
      done(problem === null ? error : badText(problem), value);
    });
  });
  app.addContentTypeParser<Buffer>(
    "application/x-www-form-urlencoded",
    { parseAs: "buffer", bodyLimit: MAX_PLAIN_BYTES },
    (_request, bytes, done) => {
      const text = decodeUtf8(bytes);
      const entries = text === null ? null : decodeForm(text);
      if (entries === null) return done(notUtf8());
      const fields = listed(entries);
      const problem = text?.includes("%00") === true ? findTextProblem(fields) : null;
      if (problem === null) done(null, fields);
      else done(badText(problem));
    },
  );
  app.addHook("preParsing", (request, _reply, payload, done) => {
    if (isEmpty(request)) delete request.raw.headers["content-type"];
    done(null, payload);
  });
}

function isEmpty({ raw: { headers } }: FastifyRequest): boolean {
  const length = headers["content-length"];
  return headers["transfer-encoding"] === undefined && (length === undefined || length === "0");
}

const notUtf8 = (): HttpProblem => malformed("The request body is not valid UTF-8.");
const badText = ({ at, problem }: { readonly at: string; readonly problem: string }): HttpProblem =>
  malformed(`The request body cannot be used: ${at === "" ? "it" : `the ${at} field`} ${problem}.`);

/** A name that comes several times has a list. */
function listed(entries: readonly (readonly [string, string])[]): Readonly<Record<string, string | readonly string[]>> {
  const fields = Object.create(null) as Record<string, string | string[]>;
  for (const [name, value] of entries) {
    const before = fields[name];
    if (before === undefined) fields[name] = value;
    else if (Array.isArray(before)) before.push(value);
    else fields[name] = [before, value];
  }
  return fields;
}
