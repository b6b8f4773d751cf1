import assert from "node:assert/strict";
import { test } from "node:test";
import { parseManifest } from "../../protocol/manifest.ts";
import type { ModelEntry } from "../../models/scan-models.ts";
import { checkModels } from "./check-models.ts";

function entry(slug: string, more: Partial<ModelEntry> = {}, described: object = {}): ModelEntry {
  const manifest = parseManifest(
    {
      version: 1,
      slug,
      name: slug,
      family: "vits",
      tasks: ["txt2audio"],
      license: { id: "Apache-2.0", commercial: true },
      source: { repository: "local" },
      memoryBytes: { cpu: 1 },
      ...described,
    },
    slug,
  );
  return {
    slug,
    state: "available",
    manifest,
    manifestPath: "",
    dir: `/models/${slug}`,
    shipped: true,
    problems: [],
    partBytes: {},
    ...more,
  };
}

const ABSENT = entry("Big", {
  state: "missing",
  problems: ["vocab.json", "config.json", "model.onnx"].map((file) => ({ file, kind: "missing", message: `${file} does not exist` })),
});
const TINY = entry("tiny", {}, { status: "test_model" });
const NOTHING = { models: null, pinnedModels: null, testModels: false };

function check(
  models: readonly ModelEntry[],
  wishes: Partial<typeof NOTHING | { models: readonly string[] }> = {},
  idle: [string, string][] = [],
) {
  const known = {
    list: () => models,
    get: (slug: string) => models.find((model) => model.slug === slug),
    invalid: () => [],
    idleDirs: () => new Map(idle),
  };
  return checkModels(known, { ...NOTHING, ...wishes }).map(({ level, check: name, message }) => `${level} ${name}: ${message}`);
}

test("test models that nobody asked for are counted and not listed; without another one a worker would serve nothing", () => {
  const said = check([ABSENT, TINY]);
  assert.equal(said.length, 3);
  assert.match(said[0] ?? "", /^ok model Big: not on this machine/);
  assert.match(said[1] ?? "", /^ok test models: 1 are here and not served: DRYAPI_TEST_MODELS=on/);
  assert.match(said[2] ?? "", /^warn models: none that is asked for can be used/);
  assert.deepEqual(check([TINY], { models: ["tiny"] }), ["ok model tiny: txt2audio from /models/tiny"]);
});

test("a model without its helper program fails with what to install", () => {
  const message = "ffmpeg was not found in the PATH: install it (Debian: apt-get install ffmpeg)";
  const said = check([
    entry("Mms", { state: "unequipped", problems: [{ file: "ffmpeg", kind: "program", message }] }),
    TINY,
    entry("Other"),
  ]);
  assert.equal(said[0], `fail model Mms: unequipped: ${message}`);
});

test("a model that no device can hold fails with what it needs, and its advice is not to install something", () => {
  const message = "model Big needs 46.00 GiB of cuda, but cuda:0 gives models 23.00 GiB: raise DRYAPI_DEVICE_BUDGET";
  const [found] = checkModels(
    {
      list: () => [entry("Big", { state: "unequipped", problems: [{ file: "memory", kind: "memory", message, code: "DOES_NOT_FIT" }] })],
      get: () => undefined,
      invalid: () => [],
      idleDirs: () => new Map(),
    },
    NOTHING,
  );
  assert.deepEqual(
    [found?.level, found?.message, found?.fix],
    ["fail", `unequipped: ${message}`, "as it says, or leave the model out of DRYAPI_MODELS"],
  );
});

test("a misspelt name fails with the nearest one, a named model without its files with each file", () => {
  const said = check([ABSENT, entry("Other")], { models: ["big", "bigg", "Big", "Other"] });
  assert.ok(said.includes("fail model Big: missing: vocab.json does not exist; config.json does not exist; and 1 more"), said.join("\n"));
  assert.ok(
    said.includes("fail model bigg: DRYAPI_MODELS names bigg, of which there is no manifest here; did you mean Big?"),
    said.join("\n"),
  );
});

test("a folder that gives no model is named", () => {
  assert.match(
    check([entry("Other")], {}, [["/srv/models", "cannot be read: ENOENT"]])[0] ?? "",
    /^warn model folder: \/srv\/models cannot be read/,
  );
});
