import { PRICE_FIELDS } from "../../core/task-fields.ts";
import type { Schema } from "../openapi/schema.ts";
import { describeSchema } from "./describe-schema.ts";
import { code, escapeHtml, prose, tableBox } from "./html.ts";

export interface Operation {
  readonly method: string;
  readonly path: string;
  readonly operation: Schema;
}

type Resolve = (schema: Schema) => Schema;

/** One operation for people: what it takes, what it answers. */
export function operationSection({ method, path, operation }: Operation, resolve: Resolve): string {
  const { operationId, summary, description } = operation;
  const id = String(operationId);
  return `<section class="operation" aria-labelledby="${id}">
<h3 id="${id}"><a class="anchor" href="#${id}"><span class="method ${method}">${method.toUpperCase()}</span> <code>${breakable(path)}</code></a></h3>
<p>${prose(String(summary))}.</p>
${typeof description === "string" ? `<p>${prose(description)}</p>` : ""}
${isPrice(path) ? priceBody(id) : `${parameters(operation, resolve)}${body(operation, resolve)}`}${answers(operation, resolve)}
</section>`;
}

/** Of a job, which has an operation of its own. */
export function isPrice(path: string): boolean {
  return path.endsWith("/price-calculation");
}

/** A long path may break at its slashes. */
export function breakable(path: string): string {
  return escapeHtml(path).replaceAll("/", "/<wbr>");
}

function parameters({ parameters: given, operationId }: Schema, resolve: Resolve): string {
  const rows = ((given ?? []) as readonly Schema[]).map((parameter) => [
    `${code(String(parameter["name"]))}${parameter["required"] === true ? " *" : ""}`,
    escapeHtml(String(parameter["in"])),
    prose(describeSchema({ ...(parameter["schema"] as Schema), description: parameter["description"] }, resolve)),
  ]);
  return rows.length === 0 ? "" : tableBox(`Parameters of ${String(operationId)}`, ["parameter (* required)", "in", "value"], rows);
}

/** The same fields once more would only be longer. */
function priceBody(id: string): string {
  const submit = id.replace(/Price$/, "");
  const names = PRICE_FIELDS.map(({ name }) => code(name)).join(", ");
  return `<p>Body: <code>model</code>, and as much of the <a href="#${submit}">job</a> as is known: its fields and files, or ${names} in their place.</p>`;
}

function body({ requestBody, operationId }: Schema, resolve: Resolve): string {
  const content = (requestBody as { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> } | undefined)?.content;
  const schema = content?.["application/json"]?.schema;
  if (content === undefined || schema === undefined) return "";
  const kinds = Object.keys(content).map((type) => code(type));
  return `<p>Body: ${kinds.join(", ")}.</p>${fields(schema, { label: `Fields of ${String(operationId)}`, mark: true }, resolve)}${byModel(schema, String(operationId), resolve)}`;
}

/** `mark`: what must be there, in a body, where null says that something is not. */
function fields(schema: Schema, { label, mark }: { readonly label: string; readonly mark: boolean }, resolve: Resolve): string {
  const found = resolve(schema);
  const required = (found["required"] ?? []) as readonly string[];
  const rows = Object.entries((found["properties"] ?? {}) as Readonly<Record<string, Schema>>).map(([name, property]) => [
    `${code(name)}${mark && required.includes(name) ? " *" : ""}`,
    prose(describeSchema(mark ? withoutNull(property) : property, resolve)),
  ]);
  return rows.length === 0 ? "" : tableBox(label, [mark ? "field (* required)" : "field", "value"], rows);
}

/** What single models narrow. */
function byModel(schema: Schema, id: string, resolve: Resolve): string {
  const rules = (schema["allOf"] ?? []) as readonly Schema[];
  const variants = rules.flatMap(({ anyOf }) => (anyOf ?? []) as readonly Schema[]);
  const rows = variants.flatMap(({ properties = {}, required = [] }) => {
    const { model, ...limits } = properties as Readonly<Record<string, Schema>>;
    const slug = model?.["const"];
    if (typeof slug !== "string") return [];
    const words = Object.entries(limits).map(
      ([name, limit]) => `${code(name)} ${prose(isNone(limit) ? "is not taken" : describeSchema(withoutNull(limit), resolve))}`,
    );
    const needed = (required as readonly string[]).map((name) => `${code(name)} is required`);
    return [[code(slug), [...needed, ...words].join("<br>") || "as above"]];
  });
  if (rows.length === 0) return "";
  return `<details><summary>Limits of each model</summary>${tableBox(`Limits of each model for ${id}`, ["model", "its own limits"], rows)}</details>`;
}

function withoutNull({ type, enum: values, anyOf, ...rest }: Schema): Schema {
  const some = (list: unknown, isNull: (value: unknown) => boolean): readonly unknown[] =>
    (list as readonly unknown[]).filter((value) => !isNull(value));
  return {
    ...rest,
    ...(type !== undefined && { type: Array.isArray(type) ? some(type, (value) => value === "null") : type }),
    ...(values !== undefined && { enum: some(values, (value) => value === null || value === "") }),
    ...(anyOf !== undefined && { anyOf: some(anyOf, (value) => (value as Schema)["type"] === "null") }),
  };
}

/** Only what stands for none. */
function isNone({ enum: values }: Schema): boolean {
  return Array.isArray(values) && values.every((value) => value === null || typeof value !== "string" || value === "");
}

function answers({ responses, operationId }: Schema, resolve: Resolve): string {
  const all = Object.entries(responses as Readonly<Record<string, Schema>>);
  const ok = all.find(([status]) => status.startsWith("2"))?.[1];
  const schema = (ok?.["content"] as Readonly<Record<string, { readonly schema: Schema }>> | undefined)?.["application/json"]?.schema;
  const list = all.map(([status, response]) => `<li>${code(status)} ${prose(String(resolve(response)["description"]))}</li>`);
  const inner = schema === undefined ? null : dataOf(schema, resolve);
  const told =
    inner === null
      ? ""
      : `<p>${inner.note}</p>${fields(inner.schema, { label: `Answer of ${String(operationId)}`, mark: false }, resolve)}`;
  return `<details><summary>Answers</summary>${told}<ul class="statuses">${list.join("")}</ul></details>`;
}

/** What is in the envelope: one thing, or a list of them. */
function dataOf(schema: Schema, resolve: Resolve): { readonly schema: Schema; readonly note: string } {
  const properties = (resolve(schema)["properties"] ?? {}) as Readonly<Record<string, Schema>>;
  if (properties["data"] === undefined) return { schema, note: "An object with:" };
  const inner = resolve(properties["data"]);
  const rest = Object.keys(properties).filter((name) => name !== "data");
  const beside = rest.length === 0 ? "" : `, beside ${rest.map((name) => code(name)).join(" and ")}`;
  if (inner["type"] === "array")
    return { schema: inner["items"] as Schema, note: `${code("data")} is a list of objects with the following${beside}:` };
  return { schema: inner, note: `${code("data")} is an object with the following${beside}:` };
}
