import assert from "node:assert/strict";
import { test } from "node:test";
import { modelAvailability, waitReason, type AnnouncedModels, type UnusableModel } from "./model-availability.ts";

const CUT: UnusableModel = { model: "flux", code: "MODEL_CORRUPT", message: "/m/flux/model.onnx is empty", since: 2_000 };

function worker(name: string, more: Partial<AnnouncedModels> = {}): AnnouncedModels {
  return { worker: name, models: [], draining: false, unusable: [], ...more };
}

const kindOf = (...workers: readonly AnnouncedModels[]): string => modelAvailability("flux", workers).kind;

test("one live worker that serves a model makes it usable, whatever others report", () => {
  assert.equal(kindOf(worker("a", { models: ["flux"] }), worker("b", { unusable: [CUT] })), "usable");
});

test("a model that no live worker has is away", () => {
  assert.equal(kindOf(), "away");
  assert.equal(kindOf(worker("a", { models: ["other"] })), "away");
});

test("a model is unusable when every live worker that has it says so, in the words of the first", () => {
  const later = { ...CUT, code: "MODEL_UNSUPPORTED" as const, message: "wrong graph", since: 5_000 };
  assert.deepEqual(
    modelAvailability("flux", [worker("a", { unusable: [CUT] }), worker("b", { unusable: [later] }), worker("c", { models: ["other"] })]),
    { kind: "unusable", code: "MODEL_CORRUPT", message: "worker a (and 1 more worker): /m/flux/model.onnx is empty", since: 5_000 },
  );
});

test("a worker that drains makes nothing usable, and its good model is away, not unusable", () => {
  assert.equal(kindOf(worker("a", { models: ["flux"], draining: true })), "away");
  assert.equal(kindOf(worker("a", { models: ["flux"], draining: true }), worker("b", { unusable: [CUT] })), "away");
  assert.equal(kindOf(worker("a", { unusable: [CUT], draining: true })), "away");
});

test("announcements of older workers and damaged reports count as none", () => {
  const { unusable: _, ...old } = worker("old", { models: ["other"] });
  assert.equal(kindOf(old), "away");
  for (const damaged of ["flux", { flux: CUT }, [null], [{ ...CUT, code: "NO_SUCH_CODE" }], [{ model: 7 }]]) {
    assert.equal(kindOf({ ...old, unusable: damaged as never }), "away", JSON.stringify(damaged));
  }
});

test("a client reads what is wrong without the worker's paths, an operator reads them", () => {
  const reason = waitReason(modelAvailability("flux", [worker("a", { unusable: [CUT] })]));
  assert.equal(reason?.code, "MODEL_CORRUPT");
  assert.equal(reason.publicText, "No worker can load the model: the model's files are damaged on the worker.");
  assert.match(reason.message, /1970-01-01T00:00:02.*worker a: \/m\/flux\/model\.onnx is empty/);
  assert.equal(waitReason({ kind: "away" })?.code, "CAPACITY_UNAVAILABLE");
  assert.equal(waitReason({ kind: "usable" }), null);
});
