import assert from "node:assert/strict";
import { test } from "node:test";
import type { Manifest } from "../protocol/manifest.ts";
import { isAskedFor, type ModelWishes } from "./asked-for.ts";

type Described = Pick<Manifest, "slug" | "family" | "status">;
const MODELS: readonly Described[] = [
  { slug: "flux", family: "flux", status: "standard_model" },
  { slug: "tiny", family: "flux", status: "test_model" },
  { slug: "fake", family: "fake", status: "test_model" },
];
const NOTHING: ModelWishes = { models: null, pinnedModels: null, testModels: false };
const asked = (wishes: Partial<ModelWishes>): readonly string[] =>
  MODELS.filter((model) => isAskedFor(model, { ...NOTHING, ...wishes })).map(({ slug }) => slug);

test("without a word, no test model is served", () => {
  assert.deepEqual(asked({}), ["flux"]);
});

test("test models are asked for by the flag, the fake family by name alone", () => {
  assert.deepEqual(asked({ testModels: true }), ["flux", "tiny"]);
  assert.deepEqual(asked({ models: ["fake", "tiny"] }), ["tiny", "fake"]);
  assert.deepEqual(asked({ pinnedModels: ["fake"] }), ["flux", "fake"]);
  assert.deepEqual(asked({ pinnedModels: ["tiny"] }), ["flux", "tiny"]);
});

test("a list of models is all there is, whatever the flag says", () => {
  assert.deepEqual(asked({ models: ["flux"], testModels: true }), ["flux"]);
  assert.deepEqual(asked({ models: [], testModels: true }), []);
});
