import assert from "node:assert/strict";
import { test } from "node:test";
import { baseName, grouped } from "./form-names.ts";

test("names are put together as PHP, jQuery and axios write them", () => {
  const cases: readonly [readonly (readonly [string, unknown])[], unknown][] = [
    [[["a", "1"]], { a: "1" }],
    [
      [
        ["a", "1"],
        ["a", "2"],
      ],
      { a: ["1", "2"] },
    ],
    [[["a[]", "1"]], { a: ["1"] }],
    [
      [
        ["a[]", ["1", "2"]],
        ["a[]", "3"],
      ],
      { a: ["1", "2", "3"] },
    ],
    [
      [
        ["a[1]", "y"],
        ["a[0]", "x"],
      ],
      { a: ["x", "y"] },
    ],
    [
      [
        ["loras[0][name]", "ink"],
        ["loras[0][weight]", "0.5"],
        ["loras[1][name]", "oil"],
      ],
      { loras: [{ name: "ink", weight: "0.5" }, { name: "oil" }] },
    ],
    [[["loras[0].name", "ink"]], { "loras[0].name": "ink" }],
    [[["a[b]", "1"]], { a: { b: "1" } }],
    [[["a[999999999]", "1"]], { a: { 999999999: "1" } }],
    [
      [
        ["a[b", "1"],
        ["]", "2"],
      ],
      { "a[b": "1", "]": "2" },
    ],
  ];
  for (const [entries, expected] of cases) assert.deepEqual(grouped(entries), expected, JSON.stringify(entries));
});

test("prototype names are no fields of anybody", () => {
  for (const name of ["__proto__", "constructor[prototype][x]", "a[__proto__][x]", "prototype[]"])
    assert.deepEqual(grouped([[name, "1"]]), {}, name);
  assert.equal(({} as Record<string, unknown>)["x"], undefined);
});

test("the name of a file's field is what stands before the brackets", () => {
  assert.deepEqual(["image", "images[]", "images[3]", "loras[0][name]", "[x]"].map(baseName), [
    "image",
    "images",
    "images",
    "loras",
    "[x]",
  ]);
});
