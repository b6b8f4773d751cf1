import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { openFfmpeg } from "../../src/pipelines/media/ffmpeg.ts";
import { addClient, ApiClient, endOf, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startReceiver, type Receiver } from "../support/https-receiver.ts";
import { openPusher, subscribeUpdates } from "../support/pusher-client.ts";
import { samplesOf } from "../support/pipeline-rig.ts";
import { startSystem, WAIT_MS, type TestSystem } from "../support/system.ts";

const MODELS = "tiny-kokoro,tiny-vits,tiny-musicgen,tiny-whisper";
const SPEECH = { text: "A red fox ran over the hill.", lang: "en-us", speed: 1, format: "mp3", sample_rate: 24_000 };

/** Speech and music from the submit to the client's file: real gateway, daemon, runners and store. */
describe("a worker with models of sound", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let key: string;
  let api: ApiClient;
  let media: Receiver;

  before(async () => {
    media = await startReceiver({ http: true });
    system = await startSystem({ DRYAPI_MODELS: MODELS, DRYAPI_EGRESS_ALLOW: "127.0.0.0/8" });
    await system.startWorker();
    gateway = await startGateway(system, { DRYAPI_ALLOW_HTTP_WEBHOOKS: "1" });
    key = await addClient(system);
    api = new ApiClient(gateway.url, key);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
    await media[Symbol.asyncDispose]();
  });

  async function result(id: string): Promise<{ readonly response: Response; readonly status: Readonly<Record<string, unknown>> }> {
    const status = await endOf(system, api, id);
    assert.equal(status["status"], "done", String(status["error_message"]));
    return { response: await fetch(String(status["result_url"]), { signal: AbortSignal.timeout(WAIT_MS) }), status };
  }

  for (const [name, task, body, type] of [
    ["Kokoro", "txt2audio", { model: "tiny-kokoro", ...SPEECH, voice: "af_sky" }, "audio/mpeg"],
    ["VITS", "txt2audio", { model: "tiny-vits", ...SPEECH, format: "ogg" }, "audio/ogg"],
    ["MusicGen", "txt2music", { model: "tiny-musicgen", caption: "drums", duration: 1, format: "flac", seed: 3 }, "audio/flac"],
  ] as const) {
    test(`${name}: a client gets a file that plays, of the right type and length`, async () => {
      const { response, status } = await result(await api.submit(task, body));
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), type);
      const path = join(system.dir, `${name}.sound`);
      await writeFile(path, Buffer.from(await response.arrayBuffer()));
      const samples = await samplesOf(path);
      assert.ok(samples.length > 8_000, `${samples.length} samples`);
      assert.ok(
        samples.some((sample) => Math.abs(sample) > 0.01),
        "it is silent",
      );
      assert.ok((status["timings"] as { run_ms: number }).run_ms > 0);
    });
  }

  test("what was spoken is written down: uploaded, under the common name, and from a URL", async () => {
    const spoken = await result(await api.submit("txt2audio", { model: "tiny-vits", ...SPEECH, format: "wav" }));
    const wav = Buffer.from(await spoken.response.arrayBuffer());
    const form = (field: string): FormData => {
      const body = new FormData();
      body.append("model", "tiny-whisper");
      body.append("include_ts", "1");
      body.append("return_result_in_response", "true");
      body.append(field, new Blob([wav]), "whatever.bin");
      return body;
    };
    media.answer = (_request, answer) => void answer.writeHead(200, { "content-type": "audio/wav" }).end(wav);
    const fromUrl = { model: "tiny-whisper", include_ts: true, return_result_in_response: true };
    const ids = [
      await api.submit("audiofile2txt", form("audio")),
      await api.submit("transcribe", form("source_file")),
      await api.submit("aud2txt", { ...fromUrl, audio_url: `${media.url}/speech.wav` }),
    ];
    const texts: string[] = [];
    for (const id of ids) {
      const { response, status } = await result(id);
      assert.equal(response.headers.get("content-type"), "text/plain; charset=utf-8");
      const text = await response.text();
      assert.equal(status["result"], text);
      const { json } = status["results_alt_formats"] as { json: string };
      const twin = (await (await fetch(json)).json()) as { segments: readonly unknown[] };
      assert.equal(twin.segments.length, text === "" ? 0 : text.split("\n").length);
      texts.push(text);
    }
    assert.deepEqual(texts, [texts[0], texts[0], texts[0]]);
    assert.match(texts[0] ?? "", /^\[00:00:/);
  });

  /** Submits, and what the status tells of the failure. */
  async function failureOf(task: string, body: unknown): Promise<Readonly<Record<string, unknown>>> {
    const status = await endOf(system, api, await api.submit(task, body));
    assert.deepEqual([status["status"], status["error_code"]], ["error", "INVALID_INPUT"], String(status["error_message"]));
    return status;
  }

  function isFailure(status: Readonly<Record<string, unknown>>, reason: string, field: string, message: string, retryable = false): void {
    const { error_reason, error_field, error_message, retryable: again } = status;
    assert.deepEqual(
      { error_reason, error_field, error_message, again },
      { error_reason: reason, error_field: field, error_message: message, again: retryable },
    );
  }

  const asked = (path: string): number => media.received.filter((request) => request.path === path).length;
  const linked = (path: string): unknown => ({ model: "tiny-whisper", include_ts: false, audio_url: media.url + path });

  test("what a URL leads to that is no sound ends with the precise reason, and is not asked for again", async () => {
    media.answer = ({ path }, answer) => {
      if (path === "/page") answer.writeHead(200, { "content-type": "text/html" }).end("<html>");
      else if (path === "/circle") answer.writeHead(302, { location: "/elsewhere" }).end();
      else if (path === "/elsewhere") answer.writeHead(302, { location: "/circle" }).end();
      else if (path === "/inside") answer.writeHead(302, { location: "http://169.254.169.254/latest/meta-data/" }).end();
      else if (path === "/private") answer.writeHead(403).end();
      else if (path === "/noise") answer.writeHead(200, { "content-type": "audio/mpeg" }).end("no sound at all, whatever it says");
      else answer.writeHead(404).end();
    };
    const noFile = "The answer of the server at the input URL is no sound or film file.";
    const refused = "The input URL may not be fetched.";
    for (const [path, reason, message] of [
      ["/page", "SOURCE_UNPROCESSABLE", `${noFile} It leads to a page, expected a sound or film file itself.`],
      ["/circle", "TOO_MANY_REDIRECTS", "The input URL redirects too often. A redirect leads back to where it came from."],
      ["/inside", "SOURCE_REFUSED", `${refused} A redirect leads elsewhere: the URL names an address that is not public.`],
      ["/private", "SOURCE_RESTRICTED", "The server at the input URL refused to give the file. The server answered 403."],
      ["/gone", "SOURCE_NOT_FOUND", "There is nothing at the input URL. The server answered 404."],
      ["/noise", "MEDIA_UNREADABLE", "The sound or film file is damaged or of an unknown format."],
    ] as const) {
      isFailure(await failureOf("aud2txt", linked(path)), reason, "audio_url", message);
      assert.equal(asked(path), 1, path);
    }
    const video = { model: "tiny-whisper", include_ts: false, video_url: `${media.url}/page` };
    assert.equal((await failureOf("vid2txt", video))["error_field"], "video_url");
  });

  test("a file behind redirects, encoded though nobody asked for it, from a server that was busy at first, is written down", async () => {
    const spoken = await result(await api.submit("txt2audio", { model: "tiny-vits", ...SPEECH, format: "wav" }));
    const wav = gzipSync(Buffer.from(await spoken.response.arrayBuffer()));
    media.answer = ({ path }, answer) => {
      if (path === "/start") answer.writeHead(302, { location: "/busy" }).end();
      else if (asked("/busy") === 1) answer.writeHead(503, { "retry-after": "0" }).end();
      else answer.writeHead(200, { "content-type": "audio/wav", "content-encoding": "gzip" }).end(wav);
    };
    const { status } = await result(await api.submit("aud2txt", linked("/start")));
    assert.deepEqual([asked("/start"), asked("/busy"), status["error_field"]], [2, 2, null]);
    const request = media.received.find(({ path }) => path === "/busy");
    assert.match(request?.headers["user-agent"] ?? "", /^dryapi-worker\/\d+\.\d+\.\d+/);
  });

  test("a server that stays away ends it as retryable", async () => {
    media.answer = (_request, answer) => void answer.writeHead(500).end();
    const message = "The input URL could not be downloaded. The server answered 500.";
    isFailure(await failureOf("aud2txt", linked("/broken")), "SOURCE_DOWNLOAD_FAILED", "audio_url", message, true);
    assert.equal(asked("/broken"), 3);
  });

  test("a file without sound, and one that is damaged, end with the precise reason", async () => {
    const mute = join(system.dir, "mute.mp4");
    await using ffmpeg = openFfmpeg({
      what: "making a film without sound",
      args: ["-f", "lavfi", "-i", "color=red:s=64x64:d=1", "-c:v", "libx264", mute],
      failure: "INTERNAL",
    });
    await ffmpeg.finish();
    const film = await readFile(mute);
    const form = (field: string, bytes: Buffer): FormData => {
      const body = new FormData();
      body.append("model", "tiny-whisper");
      body.append("include_ts", "0");
      body.append(field, new Blob([bytes]), "whatever.bin");
      return body;
    };
    isFailure(
      await failureOf("videofile2txt", form("video", film)),
      "NO_SOUND_TRACK",
      "video",
      "The file has no sound. It has no sound track.",
    );
    const damaged = "The sound or film file is damaged or of an unknown format.";
    isFailure(await failureOf("videofile2txt", form("video", film.subarray(0, 500))), "MEDIA_UNREADABLE", "video", damaged);
    const noise = Buffer.concat([Buffer.from("RIFF\x24\0\0\0WAVE"), Buffer.alloc(5_000, "no sound ")]);
    isFailure(await failureOf("audiofile2txt", form("audio", noise)), "MEDIA_UNREADABLE", "audio", damaged);
  });

  test("a sound can be read in parts, as players do", async () => {
    const { response } = await result(await api.submit("txt2audio", { model: "tiny-vits", ...SPEECH }));
    const whole = Buffer.from(await response.arrayBuffer());
    const part = await fetch(response.url, { headers: { Range: "bytes=10-19" } });
    assert.equal(part.status, 206);
    assert.deepEqual(Buffer.from(await part.arrayBuffer()), whole.subarray(10, 20));
  });

  test("what the model cannot speak is refused at the submit", async () => {
    const wrong = async (change: Readonly<Record<string, unknown>>): Promise<unknown> => {
      const answer = await api.post("txt2audio", { model: "tiny-kokoro", ...SPEECH, ...change });
      assert.equal(answer.status, 422);
      return answer.body.errors;
    };
    assert.deepEqual(await wrong({ lang: "xx" }), { lang: ["The lang field must be one of en-us, en-gb, fr-fr."] });
    assert.deepEqual(await wrong({ voice: "bf_emma" }), { voice: ["The voice field must be one of af_sky."] });
    assert.deepEqual(await wrong({ sample_rate: 24_001 }), {
      sample_rate: ["The sample_rate field must be one of 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000."],
    });
    assert.deepEqual(await wrong({ mode: "voice_clone" }), {
      mode: ["The mode field must be one of custom_voice."],
    });
    assert.deepEqual(await wrong({ text: "x".repeat(10_002) }), { text: ["The text field must not be greater than 10001 characters."] });
    const music = await api.post("txt2music", { model: "tiny-musicgen", caption: "drums", duration: 11, format: "mp3" });
    assert.deepEqual(music.body.errors, { duration: ["The duration field must not be greater than 10."] });
  });

  test("the model list tells languages and voices", async () => {
    const { body } = await api.get("/api/v1/client/models?filter[inference_types]=txt2audio");
    const models = body["data"] as unknown as { slug: string; languages: { slug: string; voices: { slug: string }[] }[] }[];
    const kokoro = models.find(({ slug }) => slug === "tiny-kokoro");
    assert.deepEqual(
      kokoro?.languages.map(({ slug, voices }) => [slug, voices.map((voice) => voice.slug)]),
      [
        ["en-us", ["af_sky"]],
        ["en-gb", ["bf_emma", "af_sky"]],
        ["fr-fr", ["bf_emma"]],
      ],
    );
  });

  test("a text without a word ends with the precise reason, told alike by status, list, socket and webhook", async () => {
    const client = openPusher({ url: gateway.url, key });
    const updates = await subscribeUpdates(client);
    media.answer = (_request, answer) => void answer.end();
    const body = { model: "tiny-kokoro", ...SPEECH, text: "... !?", webhook_url: `${media.url}/hook` };
    const status = await failureOf("txt2audio", body);
    const message = "The text has nothing that can be spoken. It has no word that language en-us can speak.";
    isFailure(status, "NOTHING_TO_SPEAK", "text", message);
    const { request_id: id, error_code, error_message, error_reason, error_field, retryable } = status;
    const told = { error_code, error_message, error_reason, error_field };
    const update = await system.until("the end over the socket", () =>
      updates.find((each) => each.request_id === id && each.status === "error"),
    );
    assert.partialDeepStrictEqual(update, told);
    client.disconnect();
    const posted = await media.request(({ path, body: text }) => path === "/hook" && text.includes("job.failed"));
    const { data } = JSON.parse(posted.body) as { readonly data: Readonly<Record<string, unknown>> };
    assert.partialDeepStrictEqual(data, { ...told, retryable });
    const { body: list } = await api.get("/api/v1/client/requests");
    const entry = (list["data"] as unknown as readonly Readonly<Record<string, unknown>>[]).find((each) => each["request_id"] === id);
    assert.partialDeepStrictEqual(entry, { ...told, retryable });
  });
});
