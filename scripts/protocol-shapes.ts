/**
 * What programs of different versions hand to one another, as it was when its version was made: test/fixtures/protocol/<name>.v<version>.json.
 * `node scripts/protocol-shapes.ts` notes the shapes of this checkout. It refuses a shape that changed under the same version, unless it only
 * gained optional fields: those older readers pass over, and newer ones do without. See docs/upgrades.md.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { EVENT_VERSION } from "../src/protocol/event.ts";
import { IPC_VERSION, messageSchema } from "../src/protocol/ipc.ts";
import { JOB_VERSION, jobSchema } from "../src/protocol/job.ts";
import { MANIFEST_VERSION, manifestSchema } from "../src/protocol/manifest.ts";
import { REQUEST_VERSION, requestSchema } from "../src/protocol/request.ts";
import { RESULT_VERSION, resultSchema } from "../src/protocol/result.ts";
import { deliveryJobSchema } from "../src/queue/delivery-job.ts";
import { clientSchema } from "../src/state/open-clients.ts";
import { attemptSchema, deliverySchema } from "../src/state/open-deliveries.ts";
import { entrySchema } from "../src/state/open-registry.ts";
import { settingsSchema } from "../src/state/webhook-settings.ts";
import { claimSchema, completeSchema, SPOOL_VERSION } from "../src/worker/spool/spool-record.ts";

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

export interface ProtocolShape {
  readonly name: string;
  /** 1 for good where the shape carries none: such a shape only ever gains optional fields. */
  readonly version: number;
  readonly shape: Json;
  /** Readers refuse fields that they do not know, by name, and people write it: it may gain optional ones all the same. */
  readonly closed?: true;
}

const SOURCES = join(import.meta.dirname, "..", "src");
const NOTED = join(import.meta.dirname, "..", "test", "fixtures", "protocol");
const UNVERSIONED = 1;

const schemaOf = (schema: z.ZodType): Json => z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Json;

/** The fields of an interface that has no schema, by name, as they are written. */
function declared(file: string, ...names: readonly string[]): Json {
  const source = readFileSync(join(SOURCES, file), "utf8").replaceAll(/\/\*\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const each = names.map((name): [string, Json] => {
    const body = new RegExp(`(?:interface|type) ${name}\\b[^{=]*[{=]([\\s\\S]*?)\\n(?:}|$)`).exec(source)?.[1];
    if (body === undefined) throw new Error(`protocol-shapes: ${file} declares no ${name}`);
    const fields = [...body.matchAll(/readonly (\w+)(\??): ([^;]+);/g)].map(([, field = "", optional, type = ""]): [string, string] => [
      field,
      `${optional ?? ""}${type.replaceAll(/\s+/g, " ").trim()}`,
    ]);
    const required = fields.filter(([, type]) => !type.startsWith("?")).map(([field]) => field);
    return [name, { properties: Object.fromEntries(fields), required }];
  });
  return Object.fromEntries(each);
}

export function protocolShapes(): readonly ProtocolShape[] {
  return [
    { name: "job", version: JOB_VERSION, shape: schemaOf(jobSchema) },
    { name: "request", version: REQUEST_VERSION, shape: schemaOf(requestSchema) },
    { name: "result", version: RESULT_VERSION, shape: schemaOf(resultSchema) },
    { name: "event", version: EVENT_VERSION, shape: declared("protocol/event.ts", "JobEvent", "EventResult") },
    { name: "runner-message", version: IPC_VERSION, shape: schemaOf(messageSchema) },
    { name: "runner-command", version: IPC_VERSION, shape: declared("protocol/ipc.ts", "DeviceSpec", "LoadCommand", "RunnerJob") },
    { name: "manifest", version: MANIFEST_VERSION, shape: schemaOf(manifestSchema), closed: true },
    { name: "spool-claim", version: SPOOL_VERSION, shape: schemaOf(claimSchema) },
    { name: "spool-complete", version: SPOOL_VERSION, shape: schemaOf(completeSchema) },
    { name: "delivery-job", version: UNVERSIONED, shape: schemaOf(deliveryJobSchema) },
    { name: "delivery", version: UNVERSIONED, shape: schemaOf(deliverySchema) },
    { name: "delivery-attempt", version: UNVERSIONED, shape: schemaOf(attemptSchema) },
    { name: "worker", version: UNVERSIONED, shape: schemaOf(entrySchema) },
    { name: "client", version: UNVERSIONED, shape: schemaOf(clientSchema) },
    { name: "webhook-settings", version: UNVERSIONED, shape: schemaOf(settingsSchema) },
  ];
}

export function noted({ name, version }: Pick<ProtocolShape, "name" | "version">): Json | null {
  const path = notedPath({ name, version });
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Json) : null;
}

function notedPath({ name, version }: Pick<ProtocolShape, "name" | "version">): string {
  return join(NOTED, `${name}.v${version}.json`);
}

/** Where a program that knows the one shape and a program that knows the other would not understand each other; empty = nowhere. */
export function conflicts(before: Json, after: Json, closed: boolean = false, at: string = ""): readonly string[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (!isObject(before) || !isObject(after)) return [`${at || "/"}: ${JSON.stringify(before)} became ${JSON.stringify(after)}`];
  const found: string[] = [];
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [was = null, is = null] = [before[key], after[key]];
    if (key === "properties" && isObject(was) && isObject(is)) found.push(...fieldConflicts(was, is, { closed, at, after }));
    else found.push(...conflicts(was, is, closed, `${at}/${key}`));
  }
  return found;
}

interface Place {
  readonly closed: boolean;
  readonly at: string;
  readonly after: { readonly [key: string]: Json | undefined };
}

function fieldConflicts(
  before: { readonly [key: string]: Json | undefined },
  after: { readonly [key: string]: Json | undefined },
  { closed, at, after: owner }: Place,
): readonly string[] {
  const found: string[] = [];
  for (const [field, was] of Object.entries(before)) {
    const is = after[field];
    if (is === undefined) found.push(`${at}/${field}: is gone`);
    else found.push(...conflicts(was ?? null, is, closed, `${at}/${field}`));
  }
  const isRefused = owner["additionalProperties"] === false && !closed;
  for (const field of Object.keys(after)) {
    if (!(field in before) && isRefused) found.push(`${at}/${field}: is new, and older readers refuse fields that they do not know`);
  }
  return found;
}

function isObject(value: Json): value is { readonly [key: string]: Json | undefined } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

if (import.meta.main) {
  for (const each of protocolShapes()) {
    const before = noted(each);
    const wrong = before === null ? [] : conflicts(before, each.shape, each.closed);
    if (wrong.length > 0) {
      process.stderr.write(`${each.name}: not noted, its version ${each.version} has to be raised first:\n  ${wrong.join("\n  ")}\n`);
      process.exitCode = 1;
    } else writeFileSync(notedPath(each), `${JSON.stringify(each.shape, null, 2)}\n`);
  }
}
