import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { familyOptions } from "../core/extra-params.ts";
import { filePlace, graphPlaces, layoutOf, type FileRoleOf, type PartOf } from "../core/family-layout.ts";
import type { Family } from "../core/family-fields.ts";
import { isMissing } from "../lib/errno.ts";
import { firstWhole } from "../lib/first-whole.ts";
import { AppError } from "../protocol/error.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { GraphFile } from "./graph/open-graphs.ts";

/** What a model's folder and manifest say, read the same way by every family. */

/** The family's own of the manifest's `options`, by its schema. @throws AppError MANIFEST_INVALID naming what is wrong */
export function readOptions<T extends z.ZodType>(manifest: Manifest, schema: T): z.infer<T> {
  const { slug } = manifest;
  const parsed = schema.safeParse(familyOptions(manifest));
  if (parsed.success) return parsed.data;
  throw new AppError("MANIFEST_INVALID", `model ${slug}: options of the manifest: ${z.prettifyError(parsed.error)}`);
}

/**
 * Where each graph of a family lies: as the manifest's `parts` say, else at the first of the family's own places where there is one
 * (core/family-layout.ts). A graph that is not there gets its first place, which opening it names.
 * @throws AppError MANIFEST_INVALID for a part that the family does not know
 */
export async function graphFiles<F extends Family>(
  manifest: Manifest,
  modelDir: string,
  family: F,
): Promise<ReadonlyMap<PartOf<F>, GraphFile>> {
  const { slug, parts } = manifest;
  const { graphs } = layoutOf(family);
  const odd = Object.keys(parts).find((part) => !Object.hasOwn(graphs, part));
  if (odd !== undefined) {
    const expected = Object.keys(graphs).join(", ");
    throw new AppError("MANIFEST_INVALID", `model ${slug}: part ${odd} is unknown to family ${family}, expected ${expected}`);
  }
  const found = await Promise.all(
    Object.keys(graphs).map(async (part): Promise<[PartOf<F>, GraphFile]> => {
      const places = graphPlaces(manifest, part).map((file) => ({ file }));
      const [{ file } = { file: "" }] =
        (await firstWhole(
          modelDir,
          places.map((place) => [place]),
        )) ?? places;
      const { inputs = {}, outputs = {} } = parts[part] ?? {};
      return [part as PartOf<F>, { path: join(modelDir, file), names: { inputs, outputs } }];
    }),
  );
  return new Map(found);
}

/** The path of a file or folder of a role: as the manifest's `files` say, else the family's own place (core/family-layout.ts). */
export function fileOf<F extends Family>(manifest: Manifest, modelDir: string, role: FileRoleOf<F>): string {
  return join(modelDir, filePlace(manifest, role));
}

/** A JSON file that the model cannot be without. @throws AppError MODEL_CORRUPT naming it, MODEL_UNSUPPORTED for one that is not `what` */
export async function readModelJson<T extends z.ZodType>(path: string, schema: T, what: string): Promise<z.infer<T>> {
  const value = await readOptionalJson(path);
  if (value === undefined) throw new AppError("MODEL_CORRUPT", `${path} does not exist; it comes with the exported model`);
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new AppError("MODEL_UNSUPPORTED", `${path}: not ${what}: ${z.prettifyError(parsed.error)}`);
}

/** Undefined for a file that is not there. @throws AppError MODEL_CORRUPT for one that cannot be read */
export async function readOptionalJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (thrown) {
    if (isMissing(thrown)) return undefined;
    throw new AppError("MODEL_CORRUPT", `${path} cannot be read: ${(thrown as Error).message}`, { cause: thrown });
  }
}

/** Another text once the file is another one. */
export async function fileIdentity(path: string): Promise<string> {
  const found = await stat(path).catch(() => null);
  return `${path}:${found?.size}:${found?.mtimeMs}`;
}
