import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import { reachable, upLines } from "./up-lines.ts";

const MODELS = join(import.meta.dirname, "..", "..", "models");
const model = (slug: string): Manifest => parseManifest(JSON.parse(readFileSync(join(MODELS, slug, "model.json"), "utf8")), slug);
const linesOf = (...slugs: readonly string[]): readonly string[] =>
  upLines({
    base: "http://127.0.0.1:8080",
    key: "local|secret",
    client: "local",
    appKey: "app",
    served: slugs.map(model),
    stateDir: "/tmp/it's here",
    command: "dryapi",
  });

test("a model of use goes before one for tests, a task without a file before one with", () => {
  assert.match(linesOf("tiny-flux-schnell", "Flux1schnell").join("\n"), /"model":"Flux1schnell"/);
  assert.match(linesOf("tiny-whisper", "tiny-kokoro").join("\n"), /submit txt2audio model=tiny-kokoro/);
});

test("a file is asked for where the model needs one", () => {
  const lines = linesOf("tiny-whisper");
  assert.equal(lines[0], "curl, with a speech.wav of yours:");
  assert.match(lines.join("\n"), /-F 'audio=@speech\.wav'/);
  assert.match(lines.at(-1) ?? "", /submit audiofile2txt model=tiny-whisper include_ts=false audio=@speech\.wav$/);
});

test("a path is quoted for the shell", () => {
  assert.match(linesOf("tiny-flux-schnell").at(-1) ?? "", /^or {7}DRYAPI_STATE_DIR='\/tmp\/it'\\''s here' dryapi submit txt2img /);
});

test("without a model the lines say so, and what to do", () => {
  const text = linesOf().join("\n");
  assert.match(text, /^No model is served/);
  assert.doesNotMatch(text, /curl|submit/);
});

test("an address that stands for all of the machine's is written as one that is reached", () => {
  assert.equal(reachable("http://0.0.0.0:8080"), "http://127.0.0.1:8080");
  assert.equal(reachable("http://[::]:8080/"), "http://127.0.0.1:8080");
  assert.equal(reachable("https://api.example/v/"), "https://api.example/v");
});
