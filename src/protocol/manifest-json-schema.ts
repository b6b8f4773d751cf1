import { z } from "zod";
import { manifestSchema } from "./manifest.ts";

/** The JSON Schema of a model.json as an author writes it (defaults optional), as text. `scripts/make-schema.ts` keeps models/schema.json equal. */
export function manifestJsonSchema(): string {
  const schema = z.toJSONSchema(manifestSchema, { io: "input", target: "draft-7" });
  return `${JSON.stringify({ title: "dryapi-worker model manifest", ...schema }, null, 2)}\n`;
}
