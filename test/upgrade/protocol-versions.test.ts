import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { conflicts, noted, protocolShapes } from "../../scripts/protocol-shapes.ts";

const NOTED = join(import.meta.dirname, "..", "fixtures", "protocol");

test("what programs hand to one another is as it was when its version was made", async (t) => {
  for (const each of protocolShapes()) {
    const { name, version, shape, closed } = each;
    await t.test(`${name}, version ${version}`, () => {
      const before = noted(each);
      assert.ok(before !== null, `${name} version ${version} is not noted: node scripts/protocol-shapes.ts`);
      assert.deepEqual(conflicts(before, shape, closed), [], `older programs would not understand it: raise the version of ${name}`);
      assert.deepEqual(shape, before, `${name} has new optional fields: note them by node scripts/protocol-shapes.ts`);
    });
  }
});

test("every noted shape is one that there is, of its version or an older one", async () => {
  const versions = new Map(protocolShapes().map(({ name, version }) => [name, version]));
  for (const file of await readdir(NOTED)) {
    const [, name = "", version = ""] = /^(.+)\.v(\d+)\.json$/.exec(file) ?? [];
    assert.ok(Number(version) <= (versions.get(name) ?? 0), `${file} is no shape of this checkout`);
  }
});

test("only optional fields may come without a new version", () => {
  const object = (properties: Record<string, string>, required: readonly string[], closed = false): Parameters<typeof conflicts>[0] => ({
    type: "object",
    properties: Object.fromEntries(Object.entries(properties).map(([name, type]) => [name, { type }])),
    required,
    ...(closed && { additionalProperties: false }),
  });
  const before = object({ id: "string", at: "number" }, ["id"]);
  const same = [object({ at: "number", id: "string" }, ["id"]), object({ id: "string", at: "number", more: "string" }, ["id"])];
  for (const after of same) assert.deepEqual(conflicts(before, after), []);
  const different = [
    object({ id: "string", at: "number", more: "string" }, ["id", "more"]),
    object({ id: "string", at: "number" }, ["id", "at"]),
    object({ id: "string", at: "number" }, []),
    object({ id: "number", at: "number" }, ["id"]),
    object({ id: "string" }, ["id"]),
  ];
  for (const after of different) assert.notDeepEqual(conflicts(before, after), [], JSON.stringify(after));
  assert.notDeepEqual(conflicts({ enum: ["a"] }, { enum: ["a", "b"] }), [], "a reader knows no further name");
  const [closed, grown] = [object({ id: "string" }, ["id"], true), object({ id: "string", more: "string" }, ["id"], true)];
  assert.notDeepEqual(conflicts(closed, grown), []);
  assert.deepEqual(conflicts(closed, grown, true), []);
});
