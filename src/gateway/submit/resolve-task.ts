import { isAbsent } from "../../core/field-value.ts";
import { isTask, TASK_NAMES, type Task } from "../../protocol/task.ts";
import { mediaType } from "../../requests/media-type.ts";
import type { RequestBody } from "../body/read-body.ts";
import { readHead } from "../body/read-head.ts";
import { invalid, type FieldErrors } from "../http/errors.ts";

/** The path that stands for four tasks. */
export const TRANSCRIBE = "transcribe";
export const TRANSCRIBE_TASKS = ["audiofile2txt", "videofile2txt", "aud2txt", "vid2txt"] as const satisfies readonly Task[];

export interface ResolvedTask {
  readonly task: Task;
  readonly body: RequestBody;
  /** The client's names of fields, by the task's. */
  readonly names: Readonly<Record<string, string>>;
}

const VIDEO_PATH = /\.(mp4|m4v|mov|webm|mkv|avi)$/i;
const HEAD_BYTES = 16;

/** Names under which something is submitted. Each is a route of its own, so that other names and methods are known to be none. */
export const TASK_PATHS: readonly string[] = [...TASK_NAMES, TRANSCRIBE];

/** The task that a path and a body mean: `transcribe` is sound or film, uploaded or linked. @throws HttpProblem 422 for two sources */
export async function resolveTask(name: string, body: RequestBody): Promise<ResolvedTask> {
  if (isTask(name)) return { task: name, body, names: {} };
  const { source_url: url, ...fields } = body.fields;
  const { fileErrors } = body;
  const upload = body.uploads.find(({ field }) => field === "source_file");
  if (isAbsent(url)) {
    const isVideo = upload !== undefined && mediaType(await readHead(upload.path, HEAD_BYTES))?.kind === "video";
    const field = isVideo ? "video" : "audio";
    const uploads = body.uploads.map((each) => (each.field === "source_file" ? { ...each, field } : each));
    return { task: `${field}file2txt`, body: { fields, uploads, fileErrors }, names: { [field]: "source_file" } };
  }
  if (upload !== undefined) throw invalid({ source_url: ["The source_url field must not be sent together with source_file."] });
  const isVideo = typeof url === "string" && VIDEO_PATH.test(URL.parse(url)?.pathname ?? "");
  const field = isVideo ? "video_url" : "audio_url";
  return {
    task: isVideo ? "vid2txt" : "aud2txt",
    body: { fields: { ...fields, [field]: url }, uploads: body.uploads, fileErrors },
    names: { [field]: "source_url" },
  };
}

/** Errors in the client's names. */
export function renamed(errors: FieldErrors, names: ResolvedTask["names"]): FieldErrors {
  return Object.fromEntries(
    Object.entries(errors).map(([field, texts]) => {
      const name = names[field];
      return name === undefined ? [field, texts] : [name, texts.map((text) => text.replace(`The ${field} field`, `The ${name} field`))];
    }),
  );
}
