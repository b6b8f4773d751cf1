import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import axe from "axe-core";
import type { Page } from "playwright-core";
import {
  assertFits,
  cardOf,
  done,
  enterKey,
  fill,
  SCREENSHOTS,
  startConsole,
  submit,
  watched,
  WIDTHS,
  type ConsoleRig,
} from "../support/console.ts";
import { addClient, ApiClient, startGateway } from "../support/gateway.ts";
import { startTlsProxy } from "../support/tls-proxy.ts";
import { openClients } from "../../src/state/open-clients.ts";

const MODELS = "tiny-flux-schnell,tiny-flux-dev,tiny-kokoro,tiny-ltx-video,tiny-musicgen";
/** What an engine that nobody here wrote finds wrong with the page as it is now: the rule and the element of each fault. */
async function faultsOf(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe.source);
  return page.evaluate<readonly string[]>(
    `axe.run().then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => id + ": " + html.slice(0, 120))))`,
  );
}

const PICTURE_WIDTH = `(async () => {
  const picture = document.querySelector("article img:not(.preview)");
  await picture.decode();
  return picture.naturalWidth;
})()`;
const focused = (page: Page): Promise<string> => page.evaluate<string>("document.activeElement.id");

/** How the page treats who uses it, at a desk and on a phone. */
describe("the console's page", () => {
  let rig: ConsoleRig;

  before(async () => {
    rig = await startConsole({ worker: { DRYAPI_MODELS: MODELS }, gateway: { DRYAPI_MODELS: MODELS } });
  });
  after(async () => rig[Symbol.asyncDispose]());

  for (const [width, options] of Object.entries(WIDTHS)) {
    test(`${width}: what was typed stays over models, tasks and a reload, and so do the cards`, async () => {
      const { page, problems } = await rig.enter(options);
      const value = (label: string): Promise<string> => page.getByLabel(label, { exact: true }).inputValue();
      await fill(page, "tiny-flux-dev", { Prompt: `kept on a ${width}`, Steps: "20", Seed: "7", Width: "192" });
      await page.getByLabel("Model").selectOption("tiny-flux-schnell");
      assert.deepEqual([await value("Prompt"), await value("Seed"), await value("Width")], [`kept on a ${width}`, "7", "192"]);
      assert.equal(await value("Steps"), "4", "20 are too many for this model: its own default");
      await page.getByLabel("Task").selectOption("txt2audio");
      await page.getByLabel("Text", { exact: true }).fill("spoken");
      await page.getByLabel("Task").selectOption("img2img");
      await page.getByLabel("Image", { exact: true }).setInputFiles({ name: "a.png", mimeType: "image/png", buffer: Buffer.from("png") });
      await page.getByLabel("Model").selectOption("tiny-flux-dev");
      assert.match(await value("Image"), /a\.png$/);
      await page.getByLabel("Task").selectOption("txt2img");
      assert.equal(await page.getByLabel("Model").inputValue(), "tiny-flux-schnell");
      await page.getByLabel("Model").selectOption("tiny-flux-dev");
      assert.deepEqual([await value("Prompt"), await value("Steps")], [`kept on a ${width}`, "20"]);
      await fill(page, "tiny-flux-dev", { Steps: "2" });
      await submit(page);
      await done(cardOf(page, `kept on a ${width}`));

      await page.reload();
      const card = cardOf(page, `kept on a ${width}`);
      await done(card);
      assert.equal(await page.evaluate<number>(PICTURE_WIDTH), 192);
      assert.equal(await page.getByLabel("Model").inputValue(), "tiny-flux-dev");
      assert.deepEqual([await value("Prompt"), await value("Steps")], [`kept on a ${width}`, "2"]);
      await page.getByLabel("Task").selectOption("txt2audio");
      assert.equal(await value("Text"), "spoken");
      await card.getByRole("button", { name: "Hide" }).click();
      await page.reload();
      await page.locator("#history li").first().waitFor();
      assert.equal(await card.count(), 0);
      assert.deepEqual(problems, []);
    });

    test(`${width}: a card says what was asked, the history has the prompt, and the API gives both`, async () => {
      const { page, problems } = await rig.enter(options);
      await fill(page, "tiny-flux-schnell", { Prompt: `facts on a ${width}`, Width: "128", Height: "64", Steps: "1", Seed: "4294967295" });
      await submit(page);
      const card = cardOf(page, `facts on a ${width}`);
      await done(card);
      const facts = Object.fromEntries(
        await page.evaluate<readonly [string, string][]>(
          `[...document.querySelectorAll("article .facts > div")].map((pair) => [...pair.children].map(({ textContent }) => textContent))`,
        ),
      );
      const { Asked: asked, ...others } = facts;
      assert.deepEqual(others, { Model: "tiny-flux-schnell", Task: "txt2img", Size: "128 × 64", Steps: "1", Seed: "4294967295" });
      assert.match(asked ?? "", /\d/);
      await page.locator("#history li").first().getByText(`facts on a ${width}`).waitFor();
      const { body } = await new ApiClient(rig.gateway.url, rig.key).get("/api/v1/client/requests?limit=1");
      const [row] = body["data"] as unknown as readonly Readonly<Record<string, unknown>>[];
      const params = { prompt: `facts on a ${width}`, width: 128, height: 64, steps: 1, seed: 4_294_967_295 };
      assert.deepEqual([row?.["model"], row?.["task"], row?.["params"]], ["tiny-flux-schnell", "txt2img", params]);
      assert.deepEqual(problems, []);
    });

    test(`${width}: a long text is read out and not printed over the page`, async () => {
      const { page, problems } = await rig.enter(options);
      const prompt = "words and words ".repeat(624) + "x".repeat(16);
      assert.equal(prompt.length, 10_000);
      await fill(page, "tiny-flux-schnell", { Prompt: prompt, Width: "64", Height: "64", Steps: "1" });
      await submit(page);
      const card = cardOf(page, "words and words");
      await done(card);
      const announcer = page.locator("#announcer");
      assert.match((await announcer.textContent()) ?? "", /^words and words .*: Done in [\d.]+ s$/);
      const box = await announcer.boundingBox();
      assert.deepEqual([box?.width, box?.height], [1, 1]);
      await card.getByText("Whole text").click();
      assert.equal(await card.locator(".texts dd").textContent(), prompt);
      await assertFits(page);
      assert.deepEqual(problems, []);
    });

    test(`${width}: after Submit it is seen that something happens`, async () => {
      const { page } = await rig.enter(options);
      await page.locator("#history li").first().waitFor();
      await fill(page, "tiny-flux-schnell", { Prompt: `seen on a ${width}` });
      await submit(page);
      const card = cardOf(page, `seen on a ${width}`);
      await page.locator("#job-note").getByText(`seen on a ${width}`).waitFor();
      const heading = card.getByRole("heading");
      const place = await heading.boundingBox();
      assert.ok(place !== null && place.y >= 0 && place.y + place.height <= options.viewport.height, JSON.stringify(place));
      // In one column the keyboard goes along; beside the form it stays, for the next one.
      assert.equal(await focused(page), width === "phone" ? await heading.getAttribute("id") : "submit");
      await done(card);
    });

    test(`${width}: the form has the fields of the model, with its defaults, and sends no others`, async () => {
      const { page, problems } = await rig.enter(options);
      const names = (): Promise<readonly string[]> =>
        page.evaluate<readonly string[]>(`[...document.querySelectorAll("#fields [name]")].map(({ name }) => name).toSorted()`);
      const shown = async (task: string, model: string): Promise<readonly string[]> => {
        await page.getByLabel("Task").selectOption(task);
        await page.getByLabel("Model").selectOption(model);
        return names();
      };
      assert.deepEqual(await shown("txt2img", "tiny-flux-schnell"), ["height", "prompt", "seed", "steps", "width"]);
      assert.ok((await shown("txt2img", "tiny-flux-dev")).includes("guidance"));
      assert.deepEqual(await shown("txt2music", "tiny-musicgen"), ["caption", "duration", "format", "guidance_scale", "seed"]);
      const film = ["fps", "frames", "guidance", "height", "negative_prompt", "prompt", "seed", "steps", "width"];
      assert.deepEqual(await shown("txt2video", "tiny-ltx-video"), film);
      assert.deepEqual(await shown("img2video", "tiny-ltx-video"), [...film, "first_frame_image", "last_frame_image"].toSorted());
      assert.deepEqual(await shown("txt2audio", "tiny-kokoro"), ["format", "lang", "sample_rate", "speed", "text", "voice"]);
      const voices = async (language: string): Promise<readonly string[]> => {
        await page.getByLabel("Language", { exact: true }).selectOption(language);
        return page.getByLabel("Voice", { exact: true }).locator("option").allTextContents();
      };
      assert.deepEqual(await voices("fr-fr"), ["Default", "bf_emma"]);
      assert.deepEqual(await voices("en-gb"), ["Default", "bf_emma", "af_sky"]);
      await page.getByLabel("Text", { exact: true }).fill("Good evening.");
      const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/txt2audio"));
      await submit(page);
      const body = (await sent).postDataBuffer()?.toString() ?? "";
      const fields = [...body.matchAll(/name="([^"]+)"/g)].map(([, name]) => name);
      assert.deepEqual(fields.toSorted(), ["format", "lang", "model", "sample_rate", "speed", "text"]);
      await done(cardOf(page, "Good evening."));
      assert.deepEqual(problems, []);
    });

    test(`${width}: a secret is made without a URL, replaced only when that is confirmed, and shown once`, async () => {
      const key = await addClient(rig.system, { id: `signer-${width}` });
      const { page, problems } = await rig.open(options);
      await enterKey(page, key);
      const value = page.getByLabel(/It is shown this once/);
      await page.getByText("There is none yet").waitFor();
      await page.getByRole("button", { name: "Create a secret" }).click();
      await page.getByText("There is a secret").waitFor();
      const first = await value.inputValue();
      assert.match(first, /^whsec_/);
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      await page.getByRole("button", { name: "Copy" }).click();
      await page.getByText("Copied.").waitFor();
      assert.equal(await page.evaluate<string>("navigator.clipboard.readText()"), first);

      const replace = page.getByRole("button", { name: "Replace the secret" });
      const dialog = page.getByRole("dialog", { name: "Replace the secret?" });
      for (const refuse of [() => page.keyboard.press("Escape"), () => dialog.getByRole("button", { name: "Cancel" }).click()]) {
        await replace.click();
        await dialog.getByText("For 24 hours both sign").waitFor();
        await refuse();
        await dialog.waitFor({ state: "hidden" });
        assert.equal(await focused(page), "secret-new");
      }
      assert.equal(await value.inputValue(), first);
      await replace.click();
      await assertFits(page);
      assert.deepEqual(await faultsOf(page), []);
      await dialog.getByRole("button", { name: "Replace" }).click();
      await page.getByText("The previous secret signs, too, until").waitFor();
      assert.notEqual(await value.inputValue(), first);
      await page.getByRole("button", { name: "Stop signing with the previous one" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Stop" }).click();
      await page.getByText("The previous secret signs no more.").waitFor();

      await page.reload();
      await page.getByText("There is a secret").waitFor();
      assert.equal(await value.count(), 0);
      assert.deepEqual(problems, []);
    });

    test(`${width}: a key is remembered where that is wished for, until it is forgotten`, async () => {
      const first = await rig.open(options);
      // One's own machine: remembering is what is offered.
      assert.equal(await first.page.getByLabel("Remember on this device").isChecked(), true);
      await enterKey(first.page, rig.key);
      const second = await watched(first.page.context(), rig.gateway.url);
      await second.page.getByRole("heading", { name: "New request" }).waitFor();
      await second.page.getByLabel("Prompt", { exact: true }).fill("not for others");
      await second.page.getByRole("button", { name: "Forget this key" }).click();
      for (const { page } of [first, second]) await page.getByLabel(/^Key/).waitFor();
      assert.equal(await second.page.evaluate("JSON.stringify([localStorage.length, sessionStorage.length])"), "[0,0]");

      await first.page.getByLabel("Remember on this device").uncheck();
      await enterKey(first.page, rig.key);
      await first.page.reload();
      await first.page.getByRole("heading", { name: "New request" }).waitFor();
      const third = await watched(first.page.context(), rig.gateway.url);
      await third.page.getByLabel(/^Key/).waitFor();

      const elsewhere = await rig.open(options, rig.gateway.url.replace("127.0.0.1", "studio.test"));
      assert.equal(await elsewhere.page.getByLabel("Remember on this device").isChecked(), false);
      for (const { problems } of [first, second, third]) assert.deepEqual(problems, []);
    });

    test(`${width}: the form for the key is shown once the page's script works it`, async () => {
      const { page, problems } = await rig.open(options);
      const gate = Promise.withResolvers<void>();
      await page.route("**/app.js", (route) => gate.promise.then(() => route.continue()));
      await page.reload({ waitUntil: "commit" });
      await page.getByRole("link", { name: "API" }).waitFor();
      assert.equal(await page.getByLabel(/^Key/).isVisible(), false);
      gate.resolve();
      await page.getByLabel(/^Key/).waitFor();
      assert.deepEqual(problems, []);
    });

    test(`${width}: an engine for accessibility finds no fault, in light and in dark`, async () => {
      for (const colorScheme of ["light", "dark"] as const) {
        const { page } = await rig.open({ ...options, colorScheme, reducedMotion: "reduce" });
        assert.deepEqual(await faultsOf(page), []);
        await enterKey(page, rig.key);
        await fill(page, "tiny-flux-schnell", { Prompt: "   ", Width: "128" });
        await submit(page);
        await page.getByRole("alert").filter({ hasText: "Prompt is required." }).waitFor();
        assert.deepEqual(await faultsOf(page), []);
        await fill(page, "tiny-flux-schnell", { Prompt: `a ${colorScheme} ${width}` });
        await submit(page);
        await done(cardOf(page, `a ${colorScheme} ${width}`));
        assert.deepEqual(await faultsOf(page), []);
        await assertFits(page);
        const headings = `[...document.querySelectorAll("main h2, main h3")].filter((each) => each.checkVisibility()).map(({ tagName, textContent }) => tagName + " " + textContent)`;
        const order = ["H2 New request", "H2 Now", `H3 a ${colorScheme} ${width}`, "H2 History", "H2 Webhook", "H3 Signing secret"];
        assert.deepEqual(await page.evaluate(headings), order);
        if (width === "phone") assert.deepEqual(await page.evaluate(SMALL_TARGETS), []);
        await page.screenshot({ path: join(SCREENSHOTS, `console-${width}-${colorScheme}.png`), fullPage: true });
      }
    });
  }

  test("a narrower phone scrolls nothing sideways", async () => {
    const { page } = await rig.enter({ viewport: { width: 320, height: 700 }, isMobile: true, hasTouch: true });
    await page.locator("#history li").first().waitFor();
    await assertFits(page);
  });

  test("results are shown wherever the page is opened, whatever the public address", async () => {
    await using gateway = await startGateway(rig.system, { DRYAPI_MODELS: MODELS, DRYAPI_PUBLIC_URL: "http://api.example.test:1" });
    await using proxy = await startTlsProxy(gateway.url, "/studio");
    const at = (host: string): string => gateway.url.replace("127.0.0.1", host);
    for (const url of [at("127.0.0.1"), at("localhost"), at("studio.test"), proxy.url]) {
      const { page, problems } = await rig.enter({ ...WIDTHS.desk, ignoreHTTPSErrors: true }, url);
      await page.getByText("Live", { exact: true }).waitFor();
      await fill(page, "tiny-flux-schnell", { Prompt: `from ${url}`, Width: "96", Height: "64", Steps: "1" });
      await submit(page);
      await done(cardOf(page, `from ${url}`));
      assert.equal(await page.evaluate<number>(PICTURE_WIDTH), 96, url);
      await page.setViewportSize(WIDTHS.phone.viewport);
      await page.reload();
      await done(cardOf(page, `from ${url}`));
      assert.equal(await page.evaluate<number>(PICTURE_WIDTH), 96, url);
      const original = await page.getByRole("link", { name: "Original" }).getAttribute("href");
      assert.ok(original?.startsWith(new URL("r/", url.endsWith("/") ? url : `${url}/`).href), original ?? "");
      // Chromium's word on every page over plain http that is not on this machine.
      assert.deepEqual(
        problems.filter((each) => !each.startsWith("The Cross-Origin-Opener-Policy header has been ignored")),
        [],
        url,
      );
    }
  });

  test("a key that is refused is told of; a server that does not answer is waited for", async () => {
    const key = await addClient(rig.system, { id: "rotated" });
    const { page } = await rig.open();
    await enterKey(page, key);
    await page.route("**/api/**", (route) => route.abort());
    await page.reload();
    await page.getByText("The server does not answer. Trying again.").waitFor();
    await page.unroute("**/api/**");
    await page.getByRole("heading", { name: "New request" }).waitFor();
    await openClients({ redis: rig.system.client, keys: rig.system.keys }).rotate("rotated");
    await rig.system.until("the key to be refused", async () => {
      const { status } = await new ApiClient(rig.gateway.url, key).get("/api/v1/client/balance");
      return status === 401 ? true : undefined;
    });
    await page.getByRole("button", { name: "Send a test" }).click();
    await page.getByRole("alert").filter({ hasText: "The key is not accepted any more." }).waitFor();
    await page.getByLabel(/^Key/).waitFor();
  });
});

/** Controls that a finger misses: below 44 CSS pixels either way. A box is as large as the label around it. */
const SMALL_TARGETS = `[...document.querySelectorAll("button, input, select, textarea, summary, a[href]:not(.skip)")]
  .filter((each) => each.checkVisibility())
  .map((each) => ({ each, box: (each.type === "checkbox" ? each.closest("label") : each).getBoundingClientRect() }))
  .filter(({ box }) => box.width < 44 || box.height < 44)
  .map(({ each, box }) => each.outerHTML.slice(0, 80) + " " + box.width + " x " + box.height)`;
