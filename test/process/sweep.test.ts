import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { addClient, ApiClient, endOf, startGateway } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const MODEL = "tiny-flux-schnell";

/** A picture from a picture, so that the request has inputs. */
async function imageToImage(api: ApiClient): Promise<string> {
  const image = await sharp({ create: { width: 64, height: 64, channels: 3, background: "#c04010" } })
    .png()
    .toBuffer();
  const form = new FormData();
  for (const [name, value] of Object.entries({ model: MODEL, prompt: "a fox", steps: "1", seed: "1" })) form.set(name, value);
  form.set("image", new Blob([new Uint8Array(image)], { type: "image/png" }), "in.png");
  return api.submit("img2img", form);
}

async function linkWorks(status: Readonly<Record<string, unknown>>): Promise<void> {
  assert.equal(status["status"], "done", JSON.stringify(status));
  assert.equal((await fetch(String(status["result_url"]))).status, 200);
}

function inputsGone(system: TestSystem): Promise<true> {
  return system.until("the inputs to be swept", async () => ((await system.objects("inputs")).length === 0 ? true : undefined));
}

test("a worker sweeps the inputs of ended requests away, and results stay", async () => {
  await using system = await startSystem();
  const worker = await system.startWorker({ DRYAPI_SWEEP_MS: "1s" });
  await using gateway = await startGateway(system, { DRYAPI_SWEEP_MS: "never" });
  const api = new ApiClient(gateway.url, await addClient(system));
  const status = await endOf(system, api, await imageToImage(api));
  await inputsGone(system);
  await linkWorks(status);
  const line = await worker.line(({ msg, removed }) => msg === "object store swept" && JSON.stringify(removed).includes("ended-input"));
  assert.partialDeepStrictEqual(line, { removed: { "ended-input": 1 }, finished: true });
  const metrics = await (await fetch(`${worker.admin}/metrics`)).text();
  assert.match(metrics, /^dryapi_store_swept_total\{[^}]*reason="ended-input"[^}]*\} 1$/m);
});

test("so does a gateway", async () => {
  await using system = await startSystem();
  await system.startWorker({ DRYAPI_SWEEP_MS: "never" });
  await using gateway = await startGateway(system, { DRYAPI_SWEEP_MS: "1s" });
  const api = new ApiClient(gateway.url, await addClient(system));
  const status = await endOf(system, api, await imageToImage(api));
  await inputsGone(system);
  await linkWorks(status);
});
