/** A JSON Schema (2020-12), or any other object of an OpenAPI document. */
export type Schema = Readonly<Record<string, unknown>>;

export const json = (schema: Schema): Schema => ({ "application/json": { schema } });

export const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });

/** Values of the type, or null. */
export const nullable = (type: string, rest: Schema = {}): Schema => ({ type: [type, "null"], ...rest });

/** An object whose properties are always there, but for those named. What does not apply is null, never missing. */
export function object(properties: Readonly<Record<string, Schema>>, optional: readonly string[] = [], rest: Schema = {}): Schema {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: "object", properties, ...(required.length > 0 && { required }), ...rest };
}

export const uuid: Schema = { type: "string", format: "uuid" };
export const time: Schema = { type: "string", format: "date-time" };
/** The contract's envelope. */
export const data = (schema: Schema): Schema => object({ data: schema });

/** `{200: {description, content}}` with JSON of a schema. */
export function answer(description: string, schema: Schema, headers?: Schema): Schema {
  return { 200: { description, ...(headers !== undefined && { headers }), content: json(schema) } };
}

/** Responses by status, of those that many operations share. */
export function failures(...statuses: readonly (keyof typeof FAILURES)[]): Schema {
  return Object.fromEntries(statuses.map((status) => [status, { $ref: `#/components/responses/${FAILURES[status]}` }]));
}

export const FAILURES = {
  400: "Malformed",
  401: "Unauthenticated",
  403: "Forbidden",
  404: "NotFound",
  409: "Conflict",
  413: "TooLarge",
  415: "UnsupportedType",
  416: "RangeNotSatisfiable",
  422: "Invalid",
  429: "TooMany",
  500: "ServerError",
  503: "Unavailable",
} as const;

/** What every route that takes a body may answer. */
export const BODY_FAILURES = [400, 401, 413, 415, 422, 500, 503] as const;

export const BEARER: Schema = { security: [{ bearer: [] }] };
export const PUBLIC: Schema = { security: [] };

export function pathParameter(name: string, schema: Schema, description?: string): Schema {
  return { name, in: "path", required: true, schema, ...(description !== undefined && { description }) };
}

export function query(name: string, schema: Schema, rest: Schema = {}): Schema {
  return { name, in: "query", schema, ...rest };
}

/**
 * JSON; a form of either kind does as well, which stands in words alone: openapi-python-client (0.29) makes code that does not run of an
 * operation with several bodies and no optional parameter.
 */
export const jsonBody = (schema: Schema): Schema => json({ ...schema, description: "A form with the same fields does as well." });
