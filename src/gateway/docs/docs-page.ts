import type { Schema } from "../openapi/schema.ts";
import { guides, type GuideFacts } from "./guides.ts";
import { escapeHtml } from "./html.ts";
import { breakable, isPrice, operationSection, type Operation } from "./operation-section.ts";

export type DocsFacts = Omit<GuideFacts, "resolve" | "schemas">;

const METHODS = ["get", "post", "put", "delete"];

/** The whole page `/docs`, of an OpenAPI document: no scripts, one style sheet. */
export function docsPage(document: Schema, facts: DocsFacts): string {
  const components = document["components"] as { readonly schemas: Readonly<Record<string, Schema>> };
  const resolve = (schema: Schema): Schema => resolveIn(document, schema);
  const told = guides({ ...facts, resolve, schemas: components.schemas });
  const groups = (document["tags"] as readonly { readonly name: string; readonly description: string }[]).map(({ name, description }) => ({
    name,
    description,
    operations: operationsOf(document).filter(({ operation }) => (operation["tags"] as readonly string[]).includes(name)),
  }));
  const { version } = document["info"] as { readonly version: string };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>dryapi-worker API</title>
<link rel="stylesheet" href="/docs/style.css">
<link rel="icon" href="/console/icon.svg" type="image/svg+xml">
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<p class="name"><a href="/">dryapi-worker</a> <span class="version">${escapeHtml(version)}</span></p>
<p><a href="/openapi.json">openapi.json</a></p>
</header>
<div class="columns">
<nav aria-label="Contents"><details><summary>Contents</summary>
<ul>${told.map(({ id, title }) => `<li><a href="#${id}">${title}</a></li>`).join("")}</ul>
${groups
  .map(
    ({ name, operations }) =>
      `<p class="group"><a href="#${name}">${name}</a></p><ul>${operations
        .filter(({ path }) => !isPrice(path))
        .map(entry)
        .join("")}</ul>`,
  )
  .join("")}
</details></nav>
<main id="content">
<h1>dryapi-worker API</h1>
${told.map(({ id, title, html }) => `<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>${html}</section>`).join("\n")}
${groups.map(({ name, description, operations }) => `<section aria-labelledby="${name}"><h2 id="${name}">${name}</h2><p>${escapeHtml(description)}</p>${operations.map((each) => operationSection(each, resolve)).join("\n")}</section>`).join("\n")}
</main>
</div>
</body>
</html>
`;
}

function entry({ method, path, operation }: Operation): string {
  const short = path.replace(/^\/api\/v1\/client\//, "");
  return `<li><a href="#${String(operation["operationId"])}"><span class="method ${method}">${method.toUpperCase()}</span> ${breakable(short)}</a></li>`;
}

function operationsOf(document: Schema): readonly Operation[] {
  return Object.entries(document["paths"] as Readonly<Record<string, Readonly<Record<string, Schema>>>>).flatMap(([path, operations]) =>
    METHODS.flatMap((method) => (operations[method] === undefined ? [] : [{ method, path, operation: operations[method] }])),
  );
}

function resolveIn(document: Schema, schema: Schema): Schema {
  const { $ref: reference } = schema;
  if (typeof reference !== "string") return schema;
  const found = reference
    .slice(2)
    .split("/")
    .reduce<unknown>((value, name) => (value as Readonly<Record<string, unknown>>)[name], document);
  return found as Schema;
}
