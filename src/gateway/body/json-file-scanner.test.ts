import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { JsonFileScanner } from "./json-file-scanner.ts";

async function scanned(
  text: string,
  cuts: readonly number[],
  maxPlainBytes: number = 1_000_000,
): Promise<{ rest: unknown; files: [string, string][] }> {
  const files: [string, string][] = [];
  const scanner = new JsonFileScanner({
    maxPlainBytes,
    tooLarge: () => new RangeError("too large"),
    open: (field) => {
      if (!field.startsWith("image")) return null;
      let whole = "";
      return { write: async (piece) => void (whole += piece), end: async () => void files.push([field, whole]) };
    },
  });
  const bytes = Buffer.from(text);
  let from = 0;
  for (const at of [...cuts, bytes.length]) {
    await scanner.write(bytes.subarray(from, at));
    from = at;
  }
  return { rest: JSON.parse(scanner.end().toString()), files };
}

const cuts = fc.array(fc.nat(400), { maxLength: 12 }).map((list) => list.toSorted((a, b) => a - b));

test("takes out what JSON.parse would give, wherever the chunks are cut", async () => {
  const uri = fc.string({ unit: fc.constantFrom("a", "b", "/", "\\", '"', "+", "=", "\n", ",", ":", "{", "}", "[", "]") });
  const value = fc.jsonValue({ maxDepth: 3 });
  await fc.assert(
    fc.asyncProperty(
      uri,
      fc.array(uri),
      value,
      fc.boolean(),
      fc.constantFrom(0, 2),
      cuts,
      async (one, many, other, slashes, indent, at) => {
        const body = {
          'a"b:': other,
          image: one,
          prompt: "image",
          nested: { image: "stays", list: [["image"]] },
          images: many,
          z: [other, { images: ["stays"] }],
        };
        const plain = JSON.stringify(body, null, indent);
        // PHP escapes slashes.
        const text = slashes ? plain.replaceAll("/", "\\/") : plain;
        const { rest, files } = await scanned(text, at);
        assert.deepEqual(files, [["image", one], ...many.map((each) => ["images", each])]);
        assert.deepEqual(rest, JSON.parse(JSON.stringify({ ...body, image: null, images: many.map(() => null) })));
      },
    ),
    { numRuns: 300 },
  );
});

test("escapes in names and values are resolved; what stays is bounded, however large the files are", async () => {
  assert.deepEqual((await scanned('{"im\\u0061ge":"\\u0064ata"}', [3, 7, 9])).files, [["image", "data"]]);
  await assert.rejects(scanned(`{"prompt":"${"x".repeat(2_000)}"}`, [], 1_000), RangeError);
  assert.equal((await scanned(`{"image":"${"x".repeat(100_000)}"}`, [50, 90_000], 1_000)).files[0]?.[1].length, 100_000);
});
