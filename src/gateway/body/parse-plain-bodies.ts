import type { Readable } from "node:stream";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { decodeForm, decodeUtf8, findJsonTextProblem, findTextProblem } from "../../lib/strict-text.ts";
import { malformed, type HttpProblem } from "../http/errors.ts";
import { hasBytes } from "./first-bytes.ts";
import { MAX_PLAIN_BYTES } from "./upload.ts";

type ParseJson = (request: FastifyRequest, bytes: Buffer) => Promise<unknown>;

/** JSON that was not read yet, since files may be in it. */
export interface UnreadJson {
  readonly source: Readable;
  /** What stays of it without the files. @throws HttpProblem 400 */
  readonly parse: (bytes: Buffer) => Promise<unknown>;
}

const unread = new WeakMap<FastifyRequest, UnreadJson>();

/** JSON and urlencoded forms. An empty body is no field at all, whatever type it claims: some clients always send one. */
export function parsePlainBodies(app: FastifyInstance): void {
  const parse = jsonParser(app);
  // Plain text is nothing that we take (415).
  app.removeContentTypeParser(["text/plain", "application/json"]);
  app.addContentTypeParser<Buffer>(
    "application/json",
    { parseAs: "buffer", bodyLimit: MAX_PLAIN_BYTES },
    (request: FastifyRequest, bytes: Buffer) => parse(request, bytes),
  );
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
    const { headers } = request.raw;
    // Some clients name a type, or a transfer coding, for a body that they do not send.
    const dropType = (): void => {
      delete headers["content-type"];
      delete headers["transfer-encoding"];
    };
    if (headers["transfer-encoding"] === undefined) {
      const length = headers["content-length"];
      if (length === undefined || length === "0") dropType();
      return done(null, payload);
    }
    void hasBytes(payload as Readable).then((has) => {
      if (!has) dropType();
      // oxlint-disable-next-line promise/no-callback-in-promise -- the hook is a callback, so that most requests need no promise
      done(null, payload);
    });
  });
}

/** For the routes of `scope`: JSON is left to `readTaskBody`, which takes the files out of it as it comes. */
export function leaveJson(scope: FastifyInstance): void {
  const parse = jsonParser(scope);
  scope.removeContentTypeParser("application/json");
  scope.addContentTypeParser("application/json", (request, source, done) => {
    unread.set(request, { source, parse: (bytes) => parse(request, bytes) });
    done(null, undefined);
  });
}

export function unreadJson(request: FastifyRequest): UnreadJson | undefined {
  return unread.get(request);
}

function jsonParser(app: FastifyInstance): ParseJson {
  const parseText = app.getDefaultJsonParser("error", "error");
  return async (request, bytes) => {
    const text = decodeUtf8(bytes);
    if (text === null) throw notUtf8();
    if (text.trim() === "") return {};
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    void parseText(request, text, (error, value: unknown) => (error === null ? resolve(value) : reject(error)));
    const value = await promise;
    const problem = findJsonTextProblem(text, value);
    if (problem !== null) throw badText(problem);
    return value;
  };
}

const notUtf8 = (): HttpProblem => malformed("The request body is not valid UTF-8.");
export const badText = ({ at, problem }: { readonly at: string; readonly problem: string }): HttpProblem =>
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
