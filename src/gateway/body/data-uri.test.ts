import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DataUriDecoder } from "./data-uri.ts";

function decoded(text: string, pieces: readonly number[] = []): Buffer | string {
  const decoder = new DataUriDecoder();
  const out: Buffer[] = [];
  let from = 0;
  for (const at of [...pieces, text.length]) {
    out.push(decoder.write(text.slice(from, at)));
    from = at;
  }
  out.push(decoder.end());
  return decoder.problem ?? Buffer.concat(out);
}

test("is what Node's own fetch makes of it, wherever the pieces are cut", async () => {
  const form = fc.constantFrom("base64", "padless", "percent", "wrapped", "escaped");
  const cuts = fc.array(fc.nat(200), { maxLength: 8 }).map((list) => list.toSorted((a, b) => a - b));
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 120 }), form, cuts, async (bytes, kind, at) => {
      const base64 = Buffer.from(bytes).toString("base64");
      const texts: Record<string, string> = {
        base64: `data:image/png;base64,${base64}`,
        padless: `DATA:;charset=x; BASE64,${base64.replaceAll("=", "")}`,
        percent: `data:,${[...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")}`,
        wrapped: `data:a/b;base64,${base64.replaceAll(/.{20}/g, "$&\r\n")}`,
        escaped: `data:a/b;base64,${encodeURIComponent(base64)}`,
      };
      const text = texts[kind] ?? "";
      const expected = Buffer.from(await (await fetch(text)).arrayBuffer());
      assert.deepEqual(decoded(text, at), expected);
      assert.deepEqual(expected, Buffer.from(bytes));
    }),
    { numRuns: 300 },
  );
});

test("what is none says what is to be sent", () => {
  const cases: readonly [string, RegExp][] = [
    ["iVBORw0KGgoAAAANSUhEUgAA", /^must be a file: send it as multipart.*bare base64 and paths are not taken/],
    ["/home/x/fox.png", /bare base64 and paths/],
    ["d", /bare base64/],
    ["https://example.com/fox.png", /links are not fetched for it/],
    ["data:image/png;base64", /without a comma/],
    [`data:${"x".repeat(2_000)},`, /without a comma/],
    ["data:;base64,a", /base64 is damaged/],
    ["data:;base64,ab*d", /base64 is damaged/],
    ["data:;base64,ab=c", /base64 is damaged/],
    ["data:;base64,abc==", /base64 is damaged/],
    ["data:;base64,====", /base64 is damaged/],
    ["data:,\u00e9", /characters that no URI has/],
  ];
  for (const [text, problem] of cases) {
    assert.match(String(decoded(text)), problem, text);
    assert.match(
      String(
        decoded(
          text,
          [1, 2, 6, 9].filter((at) => at < text.length),
        ),
      ),
      problem,
      `${text}, in pieces`,
    );
  }
});

test("a hostile text costs no more than its length", () => {
  const started = performance.now();
  decoded(`data:;base64,${"=".repeat(4_000_000)}x`);
  const hostile = performance.now() - started;
  const again = performance.now();
  decoded(`data:;base64,${"A".repeat(4_000_000)}`);
  assert.ok(hostile < 50 * (performance.now() - again + 20), `${hostile} ms`);
});
