import type { FileField, FileKind } from "../../core/task-fields.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { BodyKind } from "./field-schema.ts";
import type { Schema } from "./schema.ts";

const FILES: Readonly<Record<FileKind, string>> = {
  image: "jpg, png, gif, bmp or webp; at most 10 MB and 64 to 5,000 pixels a side",
  audio: "mp3, wav, flac, ogg, aac or m4a; at most 20 MB",
  video: "mp4, mov, webm, mkv or avi; at most 50 MB",
};
const EXAMPLES: Readonly<Record<FileKind, string>> = { image: "image/png", audio: "audio/mpeg", video: "video/mp4" };

/** A file: a part of a form, or in JSON a data URI. It is judged by its content alone. */
export function fileSchema(kind: FileKind, body: BodyKind): Schema {
  if (body === "form") return { type: "string", format: "binary", description: `${FILES[kind]}.` };
  return {
    type: "string",
    pattern: "^data:[^,]*;base64,[A-Za-z0-9+/]+={0,2}$",
    description: `A data URI, \`data:${EXAMPLES[kind]};base64,...\`: ${FILES[kind]}. Send what is large as multipart/form-data.`,
  };
}

/** The second name of a file field, under which several come. */
export function fileListSchema({ kind }: FileField, manifest: Manifest, body: BodyKind): Schema {
  return { type: "array", items: fileSchema(kind, body), maxItems: mostFiles(manifest) };
}

function mostFiles({ limits }: Manifest): number {
  return limits["max_input_images"] ?? 1;
}

/** That a file is there under either of its names, and that both together are not more than the model takes. */
export function fileRules(
  { name, list }: FileField,
  manifest: Manifest,
  { kind, needed }: { readonly kind: BodyKind; readonly needed: boolean },
): readonly Schema[] {
  if (list === undefined) return [];
  const none = { enum: kind === "json" ? [null, ""] : [""] };
  const few = mostFiles(manifest) - 1;
  const given = { type: "string", ...(kind === "json" && { minLength: 1 }) };
  const one = { required: [name], properties: { [name]: given, [list]: few > 0 ? { maxItems: few } : none } };
  const several = { required: [list], properties: { [name]: none, [list]: { type: "array", minItems: 1 } } };
  return [{ anyOf: [one, several, ...(needed ? [] : [{ properties: { [name]: none, [list]: none } }])] }];
}
