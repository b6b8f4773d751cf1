import assert from "node:assert/strict";
import { test } from "node:test";
import { parseManifest } from "../protocol/manifest.ts";
import { budgetOf, stagedBytesOn, whyUnfit } from "./device-fit.ts";

const GIB = 1024 ** 3;
const manifest = parseManifest(
  {
    version: 1,
    slug: "some",
    name: "Some",
    family: "flux",
    tasks: ["txt2img"],
    license: { id: "x", commercial: true },
    source: { repository: "x" },
    memoryBytes: { cuda: 20 * GIB },
  },
  "test",
);
const FILES = { text_encoder: GIB, text_encoder_2: 5 * GIB, transformer: 11 * GIB, vae_decoder: GIB };
const gpu = (gib: number, id = "cuda:0") => ({ id, kind: "cuda", budgetBytes: gib * GIB }) as const;

test("a budget is bytes or a share of the device, and never more than what the reserve leaves", () => {
  assert.equal(budgetOf(100, 10, null), 90);
  assert.equal(budgetOf(100, 10, { bytes: 50 }), 50);
  assert.equal(budgetOf(100, 10, { share: 0.5 }), 50);
  assert.equal(budgetOf(100, 10, { bytes: 1_000 }), 90);
  assert.equal(budgetOf(100, 10, { share: 1 }), 90);
});

test("a model needs its largest stage by turns, where its parts are known by size", () => {
  assert.equal(stagedBytesOn(manifest, "cuda", FILES), 13 * GIB);
  assert.equal(stagedBytesOn(manifest, "cuda", { transformer: GIB }), undefined);
  assert.equal(stagedBytesOn(manifest, "cpu", FILES), undefined);
});

test("a model fits where its largest stage does, on one of the devices", () => {
  assert.equal(whyUnfit(manifest, FILES, [gpu(13)]), null);
  assert.equal(whyUnfit(manifest, FILES, [gpu(4), gpu(24, "cuda:1")]), null);
  assert.equal(whyUnfit(manifest, {}, [gpu(20)]), null);
  assert.equal(whyUnfit(manifest, FILES, []), null, "no device is another trouble");
});

test("a model that fits nowhere is told with what it needs, what there is and what to set", () => {
  const why = whyUnfit(manifest, FILES, [gpu(12), gpu(8, "cuda:1")]) ?? "";
  assert.match(why, /DRYAPI_DEVICE_BUDGET.*\. Stages: text 8\.00 GiB/);
  assert.match(why, /needs 20\.00 GiB of cuda, and 13\.00 GiB with its parts there by turns/);
  assert.match(why, /transformer 11\.00 GiB/);
  assert.match(why, /cuda:0 gives models 12\.00 GiB, cuda:1 gives models 8\.00 GiB/);
  assert.match(whyUnfit(manifest, {}, [gpu(19)]) ?? "", /needs 20\.00 GiB of cuda, but/);
  assert.match(
    whyUnfit(manifest, FILES, [{ id: "cpu:0", kind: "cpu", budgetBytes: 99 * GIB }]) ?? "",
    /is for cuda, and this worker has cpu:0/,
  );
});
