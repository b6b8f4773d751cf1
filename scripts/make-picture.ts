/** Makes docs/console.webp, README's picture: the console of a real system after a few jobs of tiny models. `node scripts/make-picture.ts` */
import { join } from "node:path";
import sharp from "sharp";
import { fill, startConsole, submit } from "../test/support/console.ts";

const MODELS = "tiny-flux-dev,tiny-kokoro,tiny-ltx-video,tiny-musicgen";
const env = { DRYAPI_MODELS: MODELS, DRYAPI_TEST_MODELS: "on" };

await using rig = await startConsole({ worker: env, gateway: env });
const { page } = await rig.enter({ viewport: { width: 1280, height: 860 }, colorScheme: "light" });
const jobs: readonly (readonly [task: string, model: string, fields: Readonly<Record<string, string>>])[] = [
  ["txt2audio", "tiny-kokoro", { Text: "A lighthouse at dusk." }],
  ["txt2video", "tiny-ltx-video", { Prompt: "a lighthouse at dusk", Width: "256", Height: "192", Steps: "8" }],
  ["txt2img", "tiny-flux-dev", { Prompt: "a lighthouse at dusk", Width: "256", Height: "192", Steps: "8", Seed: "7" }],
];
for (const [i, [task, model, fields]] of jobs.entries()) {
  await page.getByLabel("Task").selectOption(task);
  await fill(page, model, fields);
  await submit(page);
  await page
    .getByText(/^Done in/)
    .nth(i)
    .waitFor();
}
await page.waitForFunction(`[...document.querySelectorAll("video")].every((each) => each.readyState >= 2)`);
await page.evaluate("scrollTo(0, 0)");
await sharp(await page.screenshot())
  .webp({ quality: 82 })
  .toFile(join(import.meta.dirname, "..", "docs", "console.webp"));
