import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import sharp from "sharp";
import { addClient, ApiClient, endOf, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { framesOf, LTX_FIXTURES, probeVideo } from "../support/ltx-rig.ts";
import { PACED_WORKER, startSystem, WAIT_MS, type TestSystem } from "../support/system.ts";

const MODEL = "tiny-ltx-video";
const CLIP = { model: MODEL, prompt: "a red fox runs over the hill", width: 128, height: 96, frames: 17, steps: 4, seed: 7 };

interface Clip {
  readonly id: string;
  readonly path: string;
  readonly status: Readonly<Record<string, unknown>>;
  readonly response: Response;
}

/** Clips from the submit to the client's file: real gateway, daemon, runner, ffmpeg and store. */
describe("a worker with a video model", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let picture: Buffer;

  before(async () => {
    picture = await readFile(new URL("first-100x80.png", LTX_FIXTURES));
    system = await startSystem({ DRYAPI_MODELS: MODEL }, PACED_WORKER);
    await system.startWorker();
    gateway = await startGateway(system);
    api = new ApiClient(gateway.url, await addClient(system));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  function withPictures(fields: Readonly<Record<string, unknown>>, pictures: Readonly<Record<string, Buffer>>): FormData {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
    for (const [name, bytes] of Object.entries(pictures)) form.append(name, new Blob([bytes]), "whatever.bin");
    return form;
  }

  async function clip(task: string, body: unknown): Promise<Clip> {
    const id = await api.submit(task, body);
    const status = await endOf(system, api, id);
    assert.equal(status["status"], "done", String(status["error_message"]));
    const response = await fetch(String(status["result_url"]), { signal: AbortSignal.timeout(WAIT_MS) });
    assert.equal(response.status, 200);
    const path = join(system.dir, `${id}.mp4`);
    await writeFile(path, Buffer.from(await response.arrayBuffer()));
    return { id, path, status, response };
  }

  test("txt2video: a client gets a clip that plays, a poster and an animation", async () => {
    const { path, status, response } = await clip("txt2video", CLIP);
    assert.equal(response.headers.get("content-type"), "video/mp4");
    const { codec_name, pix_fmt, width, height, nb_read_frames, r_frame_rate, color_space } = await probeVideo(path);
    assert.deepEqual(
      [codec_name, pix_fmt, width, height, nb_read_frames, r_frame_rate, color_space],
      ["h264", "yuv420p", 128, 96, "17", "30/1", "bt709"],
    );
    const { jpg, webp } = status["results_alt_formats"] as Readonly<Record<"jpg" | "webp", string>>;
    const poster = await sharp(Buffer.from(await (await fetch(jpg)).arrayBuffer())).metadata();
    assert.deepEqual([poster.format, poster.width, poster.height], ["jpeg", 128, 96]);
    const animation = await sharp(Buffer.from(await (await fetch(webp)).arrayBuffer()), { pages: -1 }).metadata();
    assert.equal(animation.format, "webp");
    assert.ok((animation.pages ?? 0) > 1, `${animation.pages} pages`);
    const part = await fetch(response.url, { headers: { Range: "bytes=4-7" } });
    assert.deepEqual([part.status, await part.text()], [206, "ftyp"]);
  });

  test("its story: steps in order, previews that are pictures, then the end", async () => {
    using third = system.stage("denoise", 3);
    const id = await api.submit("txt2video", CLIP);
    await system.event((event) => event.id === id && event.stage === "denoise" && event.step === 2);
    await system.event((event) => event.id === id && event.type === "preview");
    third.open();
    await system.event((event) => event.id === id && event.type === "done");
    const events = system.events.filter((event) => event.id === id);
    assert.equal(events.at(-1)?.type, "done");
    const fractions = events.flatMap((event) => (event.type === "progress" ? [event.progress] : []));
    assert.deepEqual(
      fractions,
      fractions.toSorted((a, b) => a - b),
    );
    const previews = events.flatMap(({ preview }) => preview ?? []);
    for (const jpeg of previews) assert.equal((await sharp(Buffer.from(jpeg, "base64")).metadata()).format, "jpeg");
  });

  test("a seed gives the same clip again, another one another", async () => {
    const [one, again, other] = [
      await clip("txt2video", CLIP),
      await clip("txt2video", CLIP),
      await clip("txt2video", { ...CLIP, seed: 8 }),
    ];
    const [first, second, third] = await Promise.all([framesOf(one.path), framesOf(again.path), framesOf(other.path)]);
    assert.deepEqual(second, first);
    assert.notDeepEqual(third, first);
  });

  test("img2video: the given pictures are what the clip is made of, frames follow 8k + 1", async () => {
    const dark = await sharp({ create: { width: 64, height: 64, channels: 3, background: "#102040" } })
      .webp()
      .toBuffer();
    const fields = { ...CLIP, frames: 30 };
    const begun = await clip("img2video", withPictures(fields, { first_frame_image: picture }));
    const framed = await clip("img2video", withPictures(fields, { first_frame_image: picture, last_frame_image: dark }));
    assert.deepEqual([(await probeVideo(begun.path)).nb_read_frames, (await probeVideo(framed.path)).nb_read_frames], ["33", "33"]);
    assert.notDeepEqual(await framesOf(framed.path), await framesOf(begun.path));
  });

  test("a size between the model's steps is rounded down, and the clip has it", async () => {
    const { path } = await clip("txt2video", { ...CLIP, width: 127, height: 95 });
    const { width, height } = await probeVideo(path);
    assert.deepEqual([width, height], [96, 64]);
  });

  test("a clip that is cancelled stops at its next step, the next one runs", async () => {
    using third = system.stage("denoise", 3);
    const id = await api.submit("txt2video", CLIP);
    await system.event((event) => event.id === id && event.stage === "denoise" && event.step === 2);
    assert.equal((await api.post(`requests/${id}/cancel`)).status, 200);
    const status = await endOf(system, api, id);
    assert.deepEqual([status["status"], status["error_code"]], ["error", "CANCELLED"]);
    third.open();
    await clip("txt2video", CLIP);
    await system.spoolEmpty();
  });

  test("what the model cannot make is refused at the submit, with the reason", async () => {
    const wrong = async (task: string, body: unknown): Promise<unknown> => {
      const answer = await api.post(task, body);
      assert.equal(answer.status, 422);
      return answer.body.errors;
    };
    const video = (change: Readonly<Record<string, unknown>>): Promise<unknown> => wrong("txt2video", { ...CLIP, ...change });
    assert.deepEqual(await video({ width: 32 }), { width: ["The width field must be at least 64."] });
    assert.deepEqual(await video({ height: 1024 }), { height: ["The height field must not be greater than 512."] });
    assert.deepEqual(await video({ frames: 258 }), { frames: ["The frames field must not be greater than 257."] });
    assert.deepEqual(await video({ frames: 8.5 }), { frames: ["The frames field must be an integer."] });
    assert.deepEqual(await video({ fps: 0 }), { fps: ["The fps field must be at least 1."] });
    assert.deepEqual(await video({ steps: 51 }), { steps: ["The steps field must not be greater than 50."] });
    assert.deepEqual(await wrong("img2video", CLIP), { first_frame_image: ["The first_frame_image field is required."] });
    const kinds = { first_frame_image: ["The first_frame_image field must be a file of type: jpg, png, gif, bmp, webp."] };
    for (const bytes of ["no picture", "RIFF\x24\0\0\0WAVEfmt "]) {
      assert.deepEqual(await wrong("img2video", withPictures(CLIP, { first_frame_image: Buffer.from(bytes) })), kinds);
    }
  });

  test("a picture that breaks off ends with the precise reason", async () => {
    const cut = picture.subarray(0, Math.floor(picture.length / 2));
    const status = await endOf(system, api, await api.submit("img2video", withPictures(CLIP, { first_frame_image: cut })));
    assert.deepEqual([status["status"], status["error_code"], status["error_reason"]], ["error", "INVALID_INPUT", "IMAGE_UNREADABLE"]);
    assert.equal(status["error_message"], "The input image could not be read. It is damaged or of an unknown format.");
    assert.equal(status["error_field"], "first_frame_image");
  });
});
