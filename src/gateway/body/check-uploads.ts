import { taskFiles } from "../../core/task-files.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { Task } from "../../protocol/task.ts";
import type { SubmitFile } from "../../requests/submit-job.ts";
import type { FieldErrors } from "../http/errors.ts";
import { checkImage } from "./check-image.ts";
import { checkMedia } from "./check-media.ts";
import type { Upload } from "./upload.ts";

export interface CheckedUploads {
  /** All that came, those with errors and those that the task does not take too: each stands for itself where files are counted. */
  readonly files: readonly SubmitFile[];
  readonly errors: FieldErrors;
  /** Field and digest of the files, in their order. */
  readonly digests: readonly string[];
}

/** The uploads, judged by their content where the task takes them with the model. */
export async function checkUploads(manifest: Manifest, task: Task, uploads: readonly Upload[]): Promise<CheckedUploads> {
  const errors: Record<string, string[]> = {};
  const named = numbered(uploads);
  const taken = taskFiles(manifest, task, named);
  const others = named.filter(({ name }) => !taken.some((each) => each.name === name));
  const files = await Promise.all(
    taken.map(async ({ name, kind, upload }): Promise<SubmitFile> => {
      const { path } = upload;
      const found = kind === "image" ? await checkImage(upload) : await checkMedia(upload, kind);
      if (found === null) return { name, path };
      if (typeof found === "object" && found.ok) return { name, path, width: found.width, height: found.height };
      // As Laravel calls a member of a list.
      const field = name.replace(/\[(\d+)\]$/, ".$1");
      errors[field] = [`The ${field} field ${typeof found === "string" ? found : found.problem}`];
      return { name, path };
    }),
  );
  // One image may come as `image` or as the only one of `images[]`.
  const digests = taken.map(({ name, upload }) => `${name.replace(/^images\[\d*\]$/, "image")}:${upload.sha256}`);
  return { files: [...files, ...others.map(({ name, upload }) => ({ name, path: upload.path }))], errors, digests };
}

/** `images` that came as a list are told apart by their place in it. */
function numbered(uploads: readonly Upload[]): readonly { readonly name: string; readonly upload: Upload }[] {
  let next = 0;
  return uploads.map((upload) => ({ name: upload.field === "images" ? `images[${next++}]` : upload.field, upload }));
}
