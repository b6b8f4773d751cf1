import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { addClient, ApiClient, startGateway, type Answer, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly fields: readonly string[];
  readonly statuses: readonly string[];
}

const CASES_PER_OPERATION = 120;

/** Every operation of the OpenAPI document, with what a client might send by mistake or on purpose. */
describe("the API under nonsense", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;

  before(async () => {
    system = await startSystem();
    gateway = await startGateway(system, { DRYAPI_RATE_PER_MINUTE: "0" });
    api = new ApiClient(gateway.url, await addClient(system));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  test("never answers 5xx, and always in the shape that the document promises", async () => {
    const operations = await readOperations();
    assert.ok(operations.length >= 20, `${operations.length} operations`);
    let cases = 0;
    for (const operation of operations) {
      await fc.assert(
        fc.asyncProperty(requestTo(operation), async ({ path, body, type, key }) => {
          cases += 1;
          const client = key === null ? api : new ApiClient(gateway.url, key);
          const answer = await client.send(operation.method, path, body, type === null ? {} : { "Content-Type": type });
          check(operation, answer);
        }),
        { numRuns: CASES_PER_OPERATION, seed: 20_261_123, endOnFailure: true },
      );
    }
    assert.ok(cases >= 2_400, `${cases} cases`);
    const alive = await api.get("/api/v1/client/balance");
    assert.equal(alive.status, 200);
    assert.deepEqual(
      gateway.lines.filter((line) => line["level"] === "error"),
      [],
    );
  });

  function check({ statuses, method, path }: Operation, { status, body, headers }: Answer): void {
    assert.ok(status < 500, `${method} ${path} answered ${status}: ${JSON.stringify(body)}`);
    assert.ok(
      statuses.includes(String(status)) || status === 400 || status === 413 || status === 415,
      `${method} ${path} answered ${status}, promised ${statuses.join()}`,
    );
    assert.match(headers.get("content-type") ?? "", /json/);
    if (status === 200) return;
    assert.equal(typeof body.message, "string");
    assert.equal("stack" in body, false);
    if (status === 422)
      for (const texts of Object.values(body.errors)) assert.ok(texts.length > 0 && texts.every((text) => typeof text === "string"));
  }

  async function readOperations(): Promise<readonly Operation[]> {
    const { body } = await api.get("/openapi.json");
    assert.equal(body["openapi"], "3.1.0");
    const paths = body["paths"] as Record<string, Record<string, Record<string, unknown>>>;
    return Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, operation]) => {
        if (!/^\/(?:api|broadcasting)\//.test(path)) return [];
        const content = (operation["requestBody"] as { content?: Record<string, { schema?: { properties?: object } }> } | undefined)
          ?.content;
        const fields = Object.keys(content?.["application/json"]?.schema?.properties ?? {});
        return [{ method: method.toUpperCase(), path, fields, statuses: Object.keys(operation["responses"] as object) }];
      }),
    );
  }
});

const scalar = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constantFrom(
    null,
    "",
    " ",
    "0",
    "-1",
    "1e999",
    "__proto__",
    "tiny-flux-schnell",
    "\u0000",
    "\uD800",
    "<script>",
    "../../etc/passwd",
    "9".repeat(400),
  ),
);
const value = fc.oneof(
  { weight: 4, arbitrary: scalar },
  fc.array(scalar, { maxLength: 4 }),
  fc.dictionary(fc.string(), scalar, { maxKeys: 3 }),
);

interface FuzzRequest {
  readonly path: string;
  readonly body: unknown;
  readonly type: string | null;
  /** Null: a good one. */
  readonly key: string | null;
}

function requestTo({ method, path, fields }: Operation): fc.Arbitrary<FuzzRequest> {
  const part = fc.oneof(
    fc.constantFrom("00000000-0000-4000-8000-000000000000", "txt2img", "%00", "..", "%2e%2e%2f"),
    fc.string({ minLength: 1, maxLength: 40 }).map(encode),
  );
  const filled = part.map((text) => path.replaceAll(/\{\w+\}/g, text));
  const query = fc.dictionary(
    fc.constantFrom("status", "limit", "cursor", "page", "filter[inference_types]", "x"),
    fc.string({ maxLength: 30 }),
    { maxKeys: 3 },
  );
  const names = fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(...fields, "model", "seed", "image") },
    fc.string({ minLength: 1, maxLength: 12 }),
  );
  const object = fc.dictionary(names, value, { maxKeys: 6 }).map((given) => Object.assign({ model: "tiny-flux-schnell" }, given));
  const body = fc.oneof(
    { weight: 6, arbitrary: object.map((fields_) => ({ body: JSON.stringify(fields_), type: "application/json" })) },
    object.map((fields_) => ({
      body: new URLSearchParams(Object.entries(fields_).map(([name, text]): [string, string] => [name, textOf(text)])),
      type: null,
    })),
    object.map((fields_) => ({ body: formOf(fields_), type: null })),
    fc
      .tuple(
        fc.string({ maxLength: 200 }),
        fc.constantFrom("application/json", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "a/b"),
      )
      .map(([text, type]) => ({ body: text, type })),
  );
  const key = fc.oneof({ weight: 9, arbitrary: fc.constant(null) }, fc.constantFrom("", "x", "tester|aaaaaaaaaaaaaaaaaaaaaaaa"));
  return fc
    .tuple(filled, query, method === "GET" ? fc.constant({ body: undefined, type: null }) : body, key)
    .map(([to, parameters, sent, with_]) => {
      const search = new URLSearchParams(parameters).toString();
      return Object.assign({ path: search === "" ? to : `${to}?${search}`, key: with_ }, sent);
    });
}

/** Dots alone would be resolved by the client itself. */
function encode(text: string): string {
  return /^\.+$/.test(text) ? "x" : encodeURIComponent(text.toWellFormed());
}

function textOf(given: unknown): string {
  return typeof given === "string" ? given : JSON.stringify(given);
}

function formOf(fields: Readonly<Record<string, unknown>>): FormData {
  const form = new FormData();
  for (const [name, text] of Object.entries(fields)) form.append(name, textOf(text));
  form.append("image", new Blob(["not a picture"]), "a.png");
  return form;
}
