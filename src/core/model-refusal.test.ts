import assert from "node:assert/strict";
import { test } from "node:test";
import type { Task } from "../protocol/task.ts";
import { modelRefusal, type ModelTasks } from "./model-refusal.ts";

const OFFERED: readonly ModelTasks[] = [
  { slug: "Flux1schnell", tasks: ["txt2img"] },
  { slug: "Flux_1_dev", tasks: ["txt2img", "img2img"] },
  { slug: "Kokoro", tasks: ["txt2audio"] },
  { slug: "Ltxv_13B_0_9_8_Distilled_FP8", tasks: ["txt2video", "img2video"] },
];
const refusal = (wanted: unknown, tasks: readonly Task[] = ["txt2img"], offered = OFFERED): string =>
  modelRefusal({ wanted, tasks, offered });

test("models that could be had are listed", () => {
  assert.equal(refusal("nothing like it"), "The selected model is invalid. Models for txt2img: Flux1schnell, Flux_1_dev.");
  assert.equal(refusal("x", ["txt2music"]), "The selected model is invalid. No model for txt2music is installed.");
  assert.equal(refusal("x", ["aud2txt", "vid2txt"]), "The selected model is invalid. No model for aud2txt, vid2txt is installed.");
});

test("a model for other tasks is known by them", () => {
  const text = "The selected model is invalid. Model Flux_1_dev is for txt2img, img2img. Models for txt2audio: Kokoro.";
  assert.equal(refusal("Flux_1_dev", ["txt2audio"]), text);
});

test("a slip of the pen is seen through, a guess is not made", () => {
  for (const [wanted, meant] of [
    ["flux1schnell", "Flux1schnell"],
    ["Flux1-schnell", "Flux1schnell"],
    ["flux-schnell", "Flux1schnell"],
    ["Flux1schnel", "Flux1schnell"],
    ["FLUX.1-dev", "Flux_1_dev"],
    ["Flux1de", "Flux_1_dev"],
    ["ltxv-13b-0.9.8-distilled-fp8", null],
    ["", null],
    ["f", null],
    ["stable-diffusion-xl", null],
    ["x".repeat(1_000_000), null],
    [["Flux1schnell"], null],
    [null, null],
  ] as const) {
    const said = refusal(wanted);
    assert.equal(/Did you mean (.*)\?/.exec(said)?.[1] ?? null, meant, String(wanted).slice(0, 40));
    assert.ok(said.length < 200);
  }
});

test("however many there are, the text is short", () => {
  const many = Array.from({ length: 500 }, (_, index) => ({ slug: `model-${index}`, tasks: ["txt2img" as const] }));
  assert.match(refusal("nothing", ["txt2img"], many), /: model-0, .*, model-9 and 490 more\.$/);
});
