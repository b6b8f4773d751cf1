import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  cardOf,
  done,
  fill,
  launchBrowser,
  SCREENSHOTS,
  startConsole,
  submit,
  watched,
  enterKey,
  type ConsoleRig,
} from "../support/console.ts";
import { addClient, startGateway } from "../support/gateway.ts";
import { startReceiver, type Receiver } from "../support/https-receiver.ts";
import { paced } from "../support/pace.ts";
import { startSwift } from "../support/swift.ts";
import { startSystem } from "../support/system.ts";
import { babble, wavOf } from "../support/whisper-audio.ts";

const MODELS = "fake,tiny-flux-schnell,tiny-flux-dev,tiny-kokoro,tiny-vits,tiny-whisper,tiny-ltx-video";
const ADMIN_KEY = "an-admin-key-for-tests";

/** The film of a card is played from its start. */
const PLAY = `(async () => {
  const player = document.querySelector("article video");
  const poster = Object.assign(new Image(), { src: player.poster });
  await poster.decode();
  player.muted = true;
  await player.play();
  await new Promise((resolve) => player.addEventListener("timeupdate", () => player.currentTime > 0.2 && resolve()));
  return { width: player.videoWidth, height: player.videoHeight, seconds: player.duration, poster: poster.naturalWidth };
})()`;

/** Every kind of request, from the form to the result. */
describe("the console", () => {
  let rig: ConsoleRig;
  let receiver: Receiver;

  before(async () => {
    receiver = await startReceiver();
    rig = await startConsole({
      worker: { DRYAPI_MODELS: MODELS },
      gateway: {
        // The last one is on no worker.
        DRYAPI_MODELS: `${MODELS},fake-b`,
        DRYAPI_ADMIN_KEY: ADMIN_KEY,
        DRYAPI_EGRESS_ALLOW: "127.0.0.0/8",
        NODE_EXTRA_CA_CERTS: receiver.caFile,
      },
    });
  });
  after(async () => {
    await rig[Symbol.asyncDispose]();
    await receiver[Symbol.asyncDispose]();
  });

  test("a picture is asked for, watched and seen; then it is in the history", async () => {
    const { page, problems } = await rig.enter();
    await page.getByText("Live", { exact: true }).waitFor();
    await fill(page, "tiny-flux-schnell", { Prompt: "a lighthouse at dusk", Width: "256", Height: "256", Steps: "4" });
    await submit(page);
    const card = cardOf(page, "a lighthouse at dusk");
    await done(card);
    await card.getByRole("img", { name: "a lighthouse at dusk" }).waitFor();
    const width = `document.querySelector("article img").decode().then(() => document.querySelector("article img").naturalWidth)`;
    assert.equal(await page.evaluate<number>(width), 256);
    assert.deepEqual(await card.getByRole("link").allTextContents(), ["Original", "WEBP", "JPG"]);
    assert.match((await page.locator("#announcer").textContent()) ?? "", /^a lighthouse at dusk: Done in/);
    assert.equal(await page.locator("#history li").first().locator(".state").textContent(), "done");
    await page.screenshot({ path: join(SCREENSHOTS, "console-desktop.png"), fullPage: true });
    assert.deepEqual(problems, []);
  });

  test("a request that no worker can take says so", async () => {
    const { page, problems } = await rig.enter();
    await fill(page, "fake-b", { Prompt: "nobody", Width: "64", Height: "64", Steps: "1" });
    await submit(page);
    const card = cardOf(page, "nobody");
    await card.getByText("Waiting, place 1. No worker that serves the model is up.").waitFor();
    await page.locator('#history [title="No worker that serves the model is up."]').first().waitFor();
    await card.getByRole("button", { name: "Cancel" }).click();
    await card.getByText("The request was cancelled.").waitFor();
    assert.deepEqual(problems, []);
  });

  test("a running request shows previews, and is cancelled", async () => {
    const { page, problems } = await rig.enter();
    // It goes on until it is cancelled, at any pace.
    await fill(page, "fake", { Prompt: "slow", Width: "64", Height: "64", Steps: "10000", "Step ms": String(paced(200)) });
    await submit(page);
    const card = cardOf(page, "slow");
    await card.getByRole("img", { name: "Preview of slow" }).waitFor();
    await card.getByRole("progressbar").waitFor();
    // What runs is there after a reload, and wherever else the key is entered.
    await page.reload();
    await card.getByRole("img", { name: "Preview of slow" }).waitFor();
    const elsewhere = await rig.enter();
    await cardOf(elsewhere.page, "slow").getByRole("img", { name: "Preview of slow" }).waitFor();
    await card.getByRole("button", { name: "Cancel" }).click();
    await cardOf(elsewhere.page, "slow").getByText("The request was cancelled.").waitFor();
    await card.getByText("The request was cancelled.").waitFor();
    assert.deepEqual(problems, []);
  });

  test("the account's webhook is set and tested; a request's deliveries are seen and made again", async () => {
    const { page, problems } = await rig.enter();
    await page.getByLabel("URL that all results are told to").fill(`${receiver.url}/hook`);
    await page.getByLabel("Enabled").check();
    await page.getByRole("button", { name: "Save" }).click();
    const note = page.locator("#hook-note");
    await note.filter({ hasText: "Saved." }).waitFor();
    assert.match(await page.getByLabel(/It is shown this once/).inputValue(), /^whsec_/);
    await page.getByRole("button", { name: "Send a test" }).click();
    await note.filter({ hasText: "It arrived: 200." }).waitFor();
    const tested = receiver.received.length;
    assert.equal(tested, 1);
    await fill(page, "tiny-flux-schnell", { Prompt: "told", Width: "64", Height: "64", Steps: "1" });
    await submit(page);
    const card = cardOf(page, "told");
    await done(card);
    await receiver.request(({ headers }) => headers["x-dryapi-event"] === "job.completed");
    await rig.system.until("the end of the delivery", async () => {
      await card.getByRole("button", { name: "Webhooks" }).click();
      return (await card.getByText("job.completed: delivered").count()) === 1 ? true : undefined;
    });
    const before = receiver.received.length;
    const row = card.locator("li").filter({ hasText: "job.completed" });
    await row.getByRole("button", { name: "Deliver again" }).click();
    await rig.system.until("it to arrive again", () => (receiver.received.length > before ? true : undefined));
    const [first, again] = receiver.received.filter(({ headers }) => headers["x-dryapi-event"] === "job.completed");
    assert.equal(again?.body, first?.body);
    assert.deepEqual(problems, []);
  });

  test("speech is asked for in a language of the model's, and played", async () => {
    const { page, problems } = await rig.enter();
    await page.getByLabel("Task").selectOption("txt2audio");
    await page.getByLabel("Model").selectOption("tiny-kokoro");
    await page.getByLabel("Text", { exact: true }).fill("A red fox ran over the hill.");
    await page.getByLabel("Language", { exact: true }).selectOption("en-gb");
    await page.getByLabel("Voice", { exact: true }).selectOption("bf_emma");
    await page.getByLabel("Format", { exact: true }).selectOption("mp3");
    await page.getByLabel("Sample rate", { exact: true }).selectOption("24000");
    await submit(page);
    const card = cardOf(page, "A red fox ran");
    await done(card);
    // The whole length is known once the player has read the file.
    const length = `new Promise((resolve) => { const player = document.querySelector("article audio"); const tell = () => player.duration > 0 && resolve(player.duration); tell(); player.addEventListener("loadedmetadata", tell); })`;
    const seconds = await page.evaluate<number>(length);
    assert.ok(seconds > 0.5 && seconds < 20, `${seconds} s`);
    assert.deepEqual(problems, []);
  });

  test("a clip is asked for, watched as it is made, and played", async () => {
    const { page, problems } = await rig.enter();
    await page.getByLabel("Task").selectOption("img2video");
    const values = { Prompt: "a red fox runs", Width: "256", Height: "192", Frames: "17", Steps: "4", "Frames per second": "10" };
    await fill(page, "tiny-ltx-video", values);
    const picture = join(import.meta.dirname, "..", "fixtures", "ltx-video", "first-100x80.png");
    await page.getByLabel("First frame image").setInputFiles(picture);
    await page.getByLabel("Last frame image").waitFor();
    await submit(page);
    const card = cardOf(page, "a red fox runs");
    await done(card);
    assert.deepEqual(await card.getByRole("link").allTextContents(), ["Original", "JPG", "WEBP"]);
    const facts = await page.evaluate<Readonly<Record<string, number>>>(PLAY);
    assert.deepEqual(facts, { width: 256, height: 192, seconds: 1.7, poster: 256 });
    await page.screenshot({ path: join(SCREENSHOTS, "console-clip.png"), fullPage: true });
    assert.deepEqual(problems, []);
  });

  test("what was said is read in the page", async () => {
    const { page, problems } = await rig.enter();
    await page.getByLabel("Task").selectOption("audiofile2txt");
    await page.getByLabel("Model").selectOption("tiny-whisper");
    await page.getByLabel("Audio").setInputFiles({ name: "babble.wav", mimeType: "audio/wav", buffer: wavOf(babble(7, 48_000)) });
    await page.getByLabel("With timestamps").check();
    await submit(page);
    const card = cardOf(page, "audiofile2txt");
    await done(card);
    await card
      .locator("pre")
      .filter({ hasText: /^\[00:00:/ })
      .waitFor();
    assert.deepEqual(problems, []);
  });

  test("wrong input is told beside the form, and the field gets the focus", async () => {
    const { page } = await rig.enter();
    await fill(page, "tiny-flux-schnell", { Prompt: "   ", Width: "256", Height: "256" });
    await submit(page);
    await page.getByRole("alert").filter({ hasText: "Prompt is required." }).waitFor();
    assert.equal(await page.evaluate<string>("document.activeElement.id"), "field-prompt");
  });

  test("a wrong key is told", async () => {
    const { page } = await rig.open();
    await page.getByLabel(/^Key/).fill("nobody|aaaaaaaaaaaaaaaaaaaaaaaa");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("alert").filter({ hasText: "This key is not known." }).waitFor();
  });

  test("the keyboard is enough", async () => {
    const { page } = await rig.open();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate<string>("document.activeElement.textContent"), "Skip to the content");
    await page.getByLabel(/^Key/).focus();
    await page.keyboard.type(rig.key);
    await page.keyboard.press("Enter");
    await page.locator("#task:focus").waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate<string>("document.activeElement.id"), "model");
    await page.getByLabel("Prompt", { exact: true }).focus();
    await page.keyboard.type("keys alone");
    await page.getByLabel("Width", { exact: true }).fill("64");
    await page.getByLabel("Height", { exact: true }).fill("64");
    await page.keyboard.press("Enter");
    await page
      .locator("article")
      .filter({ hasText: "keys alone" })
      .getByText(/^Done in/)
      .waitFor();
  });

  test("the queue dashboard asks for the admin key", async () => {
    const path = `${rig.gateway.url}/admin/queues`;
    assert.equal((await fetch(path)).status, 401);
    const wrong = { Authorization: `Basic ${Buffer.from("admin:wrong").toString("base64")}` };
    assert.equal((await fetch(path, { headers: wrong })).status, 401);
    const { page } = await rig.open({ httpCredentials: { username: "admin", password: ADMIN_KEY } });
    await page.goto(path);
    await page.getByText("tiny-flux-schnell").first().waitFor();
  });
});

test("results of an s3: store are shown from the store", async () => {
  await using swift = await startSwift();
  await swift.makeBucket("results");
  const store = {
    DRYAPI_STORE: swift.urlOf("results"),
    AWS_ACCESS_KEY_ID: swift.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: swift.credentials.secretAccessKey,
    DRYAPI_MODELS: "tiny-ltx-video",
  };
  await using system = await startSystem(store);
  await system.startWorker();
  await using gateway = await startGateway(system);
  await using browser = await launchBrowser();
  const { page, problems } = await watched(await browser.newContext(), gateway.url);
  await enterKey(page, await addClient(system));
  await page.getByLabel("Task").selectOption("txt2video");
  for (const [label, value] of Object.entries({
    Prompt: "a fox",
    Width: "128",
    Height: "96",
    Frames: "17",
    Steps: "2",
    "Frames per second": "10",
  }))
    await page.getByLabel(label, { exact: true }).fill(value);
  await submit(page);
  await page.getByText(/^Done in/).waitFor();
  assert.deepEqual(await page.evaluate(PLAY), { width: 128, height: 96, seconds: 1.7, poster: 128 });
  assert.deepEqual(problems, []);
});
