import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TASK_NAMES, TASKS, type Task } from "../../src/protocol/task.ts";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const PNG = await readFile(new URL("init-128.png", FLUX_FIXTURES));
const WAV = Buffer.concat([Buffer.from("RIFF\x24\x08\0\0WAVEfmt ", "latin1"), Buffer.alloc(2_000)]);
const MP4 = Buffer.concat([Buffer.from("\0\0\0\x1cftypisom", "latin1"), Buffer.alloc(2_000)]);
const MODEL = "everything";
/** A model of every task, such as later pipelines will bring. */
const MANIFEST = {
  version: 1,
  slug: MODEL,
  name: "Everything",
  family: "fake",
  status: "test_model",
  tasks: TASK_NAMES,
  license: { id: "Apache-2.0", commercial: true },
  source: { repository: "test" },
  limits: { min_text: 3, max_text: 100, min_speed: 0.5, max_speed: 2, max_frames: 120, max_input_images: 2 },
  features: { supports_steps: true, supports_last_frame: true },
  defaults: { fps: 30 },
  memoryBytes: { cpu: 1 },
};

type Fields = Readonly<Record<string, unknown>>;
const VIDEO = { prompt: "a fox", width: 64, height: 64, frames: 30 };

interface Good {
  readonly fields: Fields;
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** Fields without which it is refused. */
  readonly required: readonly string[];
}

/** The least that each task takes (contract, section 2). */
const GOOD: Readonly<Record<Task, Good>> = {
  txt2img: { fields: { prompt: "a", width: 64, height: 64 }, required: ["prompt", "width", "height"] },
  img2img: { fields: { prompt: "a" }, files: { image: PNG }, required: ["prompt", "image"] },
  txt2video: { fields: VIDEO, required: ["prompt", "width", "height", "frames"] },
  img2video: {
    fields: VIDEO,
    files: { first_frame_image: PNG, last_frame_image: PNG },
    required: ["prompt", "width", "height", "frames", "first_frame_image"],
  },
  aud2video: { fields: VIDEO, files: { audio: WAV }, required: ["prompt", "width", "height", "frames", "audio"] },
  txt2audio: {
    fields: { text: "hello", lang: "en-us", speed: 1, format: "mp3", sample_rate: 24_000 },
    required: ["text", "lang", "speed", "format", "sample_rate"],
  },
  txt2music: {
    fields: { caption: "a song", duration: 10, format: "wav", timesignature: 4 },
    files: { reference_audio: WAV },
    required: ["caption", "duration", "format"],
  },
  audiofile2txt: { fields: { include_ts: true }, files: { audio: WAV }, required: ["include_ts", "audio"] },
  videofile2txt: { fields: { include_ts: "0" }, files: { video: MP4 }, required: ["include_ts", "video"] },
  aud2txt: { fields: { audio_url: "https://x.example/a.mp3", include_ts: 1 }, required: ["audio_url", "include_ts"] },
  vid2txt: { fields: { video_url: "https://x.example/a.mp4", include_ts: 1 }, required: ["video_url", "include_ts"] },
  img2txt: { fields: { format: "json" }, files: { image: PNG }, required: ["image"] },
  txt2embedding: { fields: { input: ["a", "b"] }, required: ["input"] },
  "img-rmbg": { fields: {}, files: { image: PNG }, required: ["image"] },
  "img-upscale": { fields: {}, files: { image: PNG }, required: ["image"] },
  "vid-rmbg": { fields: {}, files: { video: MP4 }, required: ["video"] },
  "vid-upscale": { fields: { scale: 2 }, files: { video: MP4 }, required: ["video"] },
};

function bodyOf(fields: Fields, files: Good["files"]): unknown {
  if (files === undefined) return { model: MODEL, ...fields };
  const form = new FormData();
  for (const [name, value] of Object.entries({ model: MODEL, ...fields }))
    form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  for (const [name, bytes] of Object.entries(files)) form.append(name, new Blob([Buffer.from(bytes)]), "file.bin");
  return form;
}

/** No worker runs: what was accepted stays in its queue. */
describe("every task of the contract", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let models: string;

  before(async () => {
    system = await startSystem();
    models = join(system.dir, "models");
    await mkdir(join(models, MODEL), { recursive: true });
    await writeFile(join(models, MODEL, "model.json"), JSON.stringify(MANIFEST));
    gateway = await startGateway(system, { DRYAPI_MODELS_DIR: models, DRYAPI_MODELS: MODEL });
    api = new ApiClient(gateway.url, await addClient(system, { ratePerMinute: 0 }));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  const errorsOf = async (task: string, body: unknown): Promise<Readonly<Record<string, readonly string[]>>> => {
    const answer = await api.post(task, body);
    assert.equal(answer.status, 422, `${task}: ${JSON.stringify(answer.body)}`);
    return answer.body.errors;
  };

  test("a good request is accepted, and its job has the resolved fields and the files", async () => {
    for (const task of TASK_NAMES) {
      const { fields, files } = GOOD[task];
      const record = await system.requests.get(await api.submit(task, bodyOf(fields, files)));
      assert.equal(record?.task, task);
      assert.deepEqual(
        record.inputs.map(({ name }) => name),
        Object.keys(files ?? {}),
        task,
      );
    }
    const music = await system.requests.get(await api.submit("txt2music", { model: MODEL, ...GOOD.txt2music.fields, seed: 5 }));
    assert.deepEqual(music?.params, { caption: "a song", duration: 10, timesignature: "4", seed: 5, format: "wav" });
    const text = await system.requests.get(await api.submit("audiofile2txt", bodyOf({ include_ts: "TRUE" }, { audio: WAV })));
    assert.deepEqual(text?.params, { include_ts: true, return_result_in_response: false });
    assert.equal(text?.inputs[0]?.contentType, "audio/wav");
    const body = new FormData();
    for (const [name, value] of Object.entries({ model: MODEL, prompt: "two" })) body.append(name, value);
    for (const name of ["a", "b"]) body.append("images[]", new Blob([PNG]), name);
    const two = await system.requests.get(await api.submit("img2img", body));
    assert.deepEqual(
      two?.inputs.map(({ name }) => name),
      ["images[0]", "images[1]"],
    );
  });

  test("what is required is named when it is missing, and nothing else", async () => {
    for (const task of TASK_NAMES) {
      const errors = await errorsOf(task, { model: MODEL });
      assert.deepEqual(Object.keys(errors).toSorted(), GOOD[task].required.toSorted(), task);
      for (const [field, texts] of Object.entries(errors)) assert.deepEqual(texts, [`The ${field} field is required.`]);
    }
  });

  test("limits are the model's; choices, addresses and lists are checked", async () => {
    const wrong = async (task: Task, change: Fields): Promise<string | undefined> => {
      const errors = await errorsOf(task, bodyOf({ ...GOOD[task].fields, ...change }, GOOD[task].files));
      assert.deepEqual(Object.keys(errors), Object.keys(change));
      return Object.values(errors)[0]?.[0];
    };
    assert.equal(await wrong("txt2audio", { text: "ab" }), "The text field must be at least 3 characters.");
    assert.equal(await wrong("txt2audio", { speed: "2.5" }), "The speed field must not be greater than 2.");
    assert.equal(await wrong("txt2audio", { format: "aiff" }), "The format field must be one of mp3, wav, flac, ogg.");
    assert.equal(await wrong("txt2audio", { mode: "sing" }), "The mode field must be one of custom_voice.");
    assert.equal(await wrong("txt2music", { timesignature: 5 }), "The timesignature field must be one of 2, 3, 4, 6.");
    assert.equal(await wrong("txt2video", { frames: 121 }), "The frames field must not be greater than 120.");
    assert.equal(await wrong("audiofile2txt", { include_ts: "maybe" }), "The include_ts field must be true or false.");
    for (const url of ["ftp://x.example/a", "/etc/passwd", "file:///etc/passwd", "x"])
      assert.match((await wrong("aud2txt", { audio_url: url })) ?? "", /^The audio_url field must be(gin with https:| a valid URL)/);
    assert.equal(
      await wrong("vid2txt", { video_url: "https://a:b@x.example/" }),
      "The video_url field must not hold a user name or password.",
    );
    assert.equal(
      await wrong("txt2embedding", { input: Array.from({ length: 2_049 }, () => "a") }),
      "The input field must not have more than 2048 items.",
    );
    assert.equal(await wrong("txt2embedding", { input: ["a", 5] }), "The input field must hold strings only, and each must be a string.");
    assert.equal(await wrong("txt2embedding", { input: 5 }), "The input field must be a string or a list of strings.");
  });

  test("sound and film are judged by their content and their size", async () => {
    const refuse = async (task: Task, name: string, bytes: Uint8Array): Promise<readonly string[] | undefined> =>
      (await errorsOf(task, bodyOf(GOOD[task].fields, { ...GOOD[task].files, [name]: bytes })))[name];
    assert.deepEqual(await refuse("audiofile2txt", "audio", MP4), [
      "The audio field must be a file of type: mp3, wav, flac, ogg, aac, m4a.",
    ]);
    assert.deepEqual(await refuse("vid-upscale", "video", WAV), ["The video field must be a file of type: mp4, mov, webm, mkv, avi."]);
    assert.deepEqual(await refuse("img-rmbg", "image", WAV), ["The image field must be a file of type: jpg, png, gif, bmp, webp."]);
    const long = Buffer.concat([WAV, Buffer.alloc(20 * 1024 * 1024)]);
    assert.deepEqual(await refuse("audiofile2txt", "audio", long), ["The audio field must not be greater than 20 MB."]);
  });

  test("transcribe is the task that its source asks for", async () => {
    const accepted = async (body: unknown): Promise<readonly unknown[]> => {
      const record = await system.requests.get(await api.submit("transcribe", body));
      return [record?.task, record?.params["audio_url"] ?? record?.params["video_url"], record?.inputs.map(({ name }) => name)];
    };
    const source = (url: string): Fields => ({ model: MODEL, include_ts: false, source_url: url });
    assert.deepEqual(await accepted(bodyOf({ include_ts: true }, { source_file: WAV })), ["audiofile2txt", undefined, ["audio"]]);
    assert.deepEqual(await accepted(bodyOf({ include_ts: true }, { source_file: MP4 })), ["videofile2txt", undefined, ["video"]]);
    assert.deepEqual(await accepted(source("https://x.example/a.mp3?b")), ["aud2txt", "https://x.example/a.mp3?b", []]);
    assert.deepEqual(await accepted(source("https://x.example/a.MP4?b=.mp3")), ["vid2txt", "https://x.example/a.MP4?b=.mp3", []]);
    assert.deepEqual(await errorsOf("transcribe", { model: MODEL, include_ts: 1 }), {
      source_file: ["The source_file field is required."],
    });
    const both = await errorsOf("transcribe", bodyOf({ include_ts: true, source_url: "https://x.example/" }, { source_file: WAV }));
    assert.deepEqual(both, { source_url: ["The source_url field must not be sent together with source_file."] });
    assert.deepEqual(Object.keys(await errorsOf("transcribe", source("nonsense"))), ["source_url"]);
    assert.deepEqual(Object.keys(await errorsOf("transcribe", bodyOf({}, { source_file: PNG }))).toSorted(), ["include_ts", "source_file"]);
    assert.equal((await api.post("transcribe/price-calculation", { model: MODEL })).body.data["price"], 0);
  });

  test("a task without a model is 422 on the model, whatever else is sent", async () => {
    await using bare = await startGateway(system, { DRYAPI_MODELS: "fake" });
    const client = new ApiClient(bare.url, await addClient(system, { id: "other", ratePerMinute: 0 }));
    for (const task of [...TASK_NAMES, "transcribe"]) {
      const answer = await client.post(task, { model: "nothing", prompt: "x" });
      assert.deepEqual([task, answer.status, Object.keys(answer.body.errors)], [task, 422, ["model"]]);
      assert.match(
        answer.body.message,
        new RegExp(`^The selected model is invalid\\. (No model|Models) for (${task === "transcribe" ? "aud" : task})`),
      );
    }
  });

  test("the document describes them all", async () => {
    const { body } = await api.get("/openapi.json");
    const paths = body["paths"] as Readonly<
      Record<
        string,
        {
          readonly post: {
            readonly requestBody: {
              readonly content: Readonly<Record<string, { schema: { properties: object; required: readonly string[] } }>>;
            };
          };
        }
      >
    >;
    for (const task of TASK_NAMES) {
      const schema = paths[`/api/v1/client/${task}`]?.post.requestBody.content["application/json"]?.schema;
      const { fields, files = {}, required } = GOOD[task];
      for (const name of [...Object.keys(fields), ...Object.keys(files)]) assert.ok(name in (schema?.properties ?? {}), `${task} ${name}`);
      for (const name of required) assert.ok(schema?.required.includes(name) === true || name in files, `${task} requires ${name}`);
    }
    assert.ok("/api/v1/client/transcribe" in paths);
    assert.equal(new Set(TASK_NAMES.map((task) => TASKS[task])).size, TASK_NAMES.length);
  });
});
