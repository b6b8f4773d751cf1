import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { addClient, ApiClient, endOf, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startReceiver, type Receiver } from "../support/https-receiver.ts";
import { samplesOf } from "../support/pipeline-rig.ts";
import { startSystem, WAIT_MS, type TestSystem } from "../support/system.ts";

const MODELS = "tiny-kokoro,tiny-vits,tiny-musicgen,tiny-whisper";
const SPEECH = { text: "A red fox ran over the hill.", lang: "en-us", speed: 1, format: "mp3", sample_rate: 24_000 };

/** Speech and music from the submit to the client's file: real gateway, daemon, runners and store. */
describe("a worker with models of sound", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let media: Receiver;

  before(async () => {
    media = await startReceiver({ http: true });
    system = await startSystem({ DRYAPI_MODELS: MODELS, DRYAPI_EGRESS_ALLOW: "127.0.0.0/8" });
    await system.startWorker();
    gateway = await startGateway(system);
    api = new ApiClient(gateway.url, await addClient(system));
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
    const linked = { model: "tiny-whisper", include_ts: true, return_result_in_response: true };
    const ids = [
      await api.submit("audiofile2txt", form("audio")),
      await api.submit("transcribe", form("source_file")),
      await api.submit("aud2txt", { ...linked, audio_url: `${media.url}/speech.wav` }),
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

  test("a URL that leads to a page ends with the precise reason", async () => {
    media.answer = (_request, answer) => void answer.writeHead(200, { "content-type": "text/html" }).end("<html>");
    const id = await api.submit("vid2txt", { model: "tiny-whisper", include_ts: false, video_url: `${media.url}/watch` });
    const status = await endOf(system, api, id);
    assert.deepEqual([status["error_code"], status["error_reason"]], ["INVALID_INPUT", "INVALID_INPUT"]);
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
    assert.deepEqual(await wrong({ mode: "voice_clone" }), { mode: ["The mode field must be one of custom_voice."] });
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

  test("a text without a word ends with the precise reason", async () => {
    const id = await api.submit("txt2audio", { model: "tiny-kokoro", ...SPEECH, text: "... !?" });
    const status = await endOf(system, api, id);
    assert.deepEqual([status["error_code"], status["error_reason"]], ["INVALID_INPUT", "INVALID_INPUT"]);
  });
});
