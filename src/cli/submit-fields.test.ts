import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSubmitFields } from "./submit-fields.ts";

test("parameters are split at the first =, and the model is taken out", () => {
  const parsed = parseSubmitFields(["model=tiny", "prompt=a = b", "steps=4", "empty="], null);
  assert.deepEqual(parsed, { model: "tiny", fields: { prompt: "a = b", steps: "4", empty: "" }, files: [] });
});

test("image=@path is a file, several images are numbered, and a prompt may begin with @", () => {
  const parsed = parseSubmitFields(["prompt=@home", "image=@a.png", "images=@b.png", "images[]=@c=d.png"], "tiny");
  assert.deepEqual(parsed.fields, { prompt: "@home" });
  assert.deepEqual(parsed.files, [
    { name: "image", path: "a.png" },
    { name: "images[0]", path: "b.png" },
    { name: "images[1]", path: "c=d.png" },
  ]);
});

test("what is wrong is named", () => {
  const refused = (parameters: string[], message: RegExp, model: string | null = null): void => {
    assert.throws(() => parseSubmitFields(parameters, model), message);
  };
  refused(["steps"], /"steps": expected key=value/);
  refused(["=4"], /expected key=value/);
  refused(["image=cat.png"], /image is "cat\.png", expected @ and the path/);
  refused(["steps=1", "steps=2"], /steps is given twice: 1 and 2/);
  refused(["model=b"], /named twice: a and b/, "a");
});
