import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { Handle } from "./handle.ts";
import type { Pointer } from "./signature.ts";

function counted(): { readonly handle: Handle<"Value">; readonly released: bigint[] } {
  const released: bigint[] = [];
  return { handle: new Handle("tensor x", 5n as Pointer<"Value">, (pointer) => released.push(pointer)), released };
}

test("a handle releases once, and is not used afterwards", () => {
  const { handle, released } = counted();
  assert.equal(handle.pointer, 5n);
  handle[Symbol.dispose]();
  handle[Symbol.dispose]();
  assert.deepEqual(released, [5n]);
  assert.ok(handle.released);
  for (const use of [() => handle.pointer, () => handle.lend()]) {
    assert.throws(
      use,
      (thrown) => thrown instanceof AppError && thrown.code === "INTERNAL" && thrown.message.startsWith("tensor x was used"),
    );
  }
});

test("what is lent is released with the last borrower, who may give it back twice", () => {
  const { handle, released } = counted();
  const [first, second] = [handle.lend(), handle.lend()];
  handle[Symbol.dispose]();
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.deepEqual(released, []);
  assert.throws(() => handle.pointer, AppError);
  second[Symbol.dispose]();
  assert.deepEqual(released, [5n]);
});

test("what was lent and given back is still there", () => {
  const { handle, released } = counted();
  handle.lend()[Symbol.dispose]();
  assert.equal(handle.pointer, 5n);
  assert.deepEqual(released, []);
});
