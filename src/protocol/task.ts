/** Task (path segment of the API) -> inference type (what `job_type` and the model list call it). Both are names of the API. */
export const TASKS = {
  txt2img: "txt2img",
  img2img: "img2img",
  txt2video: "txt2video",
  img2video: "img2video",
  aud2video: "audio2video",
  txt2audio: "txt2audio",
  txt2music: "txt2music",
  audiofile2txt: "audio_file2text",
  videofile2txt: "video_file2text",
  aud2txt: "audio2text",
  vid2txt: "video2text",
  img2txt: "img2txt",
  txt2embedding: "txt2embedding",
  "img-rmbg": "img-rmbg",
  "img-upscale": "img-upscale",
  "vid-rmbg": "vid-rmbg",
  "vid-upscale": "vid-upscale",
} as const satisfies Record<string, string>;

export type Task = keyof typeof TASKS;

export const TASK_NAMES: readonly [Task, ...Task[]] = Object.keys(TASKS) as [Task, ...Task[]];

export function isTask(value: unknown): value is Task {
  return typeof value === "string" && Object.hasOwn(TASKS, value);
}
