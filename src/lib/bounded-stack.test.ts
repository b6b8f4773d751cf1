import assert from "node:assert/strict";
import { test } from "node:test";
import { BoundedStack } from "./bounded-stack.ts";

test("what is opened is closed in reverse, and a failure to close does not hide why it ends", async () => {
  const closed: string[] = [];
  const problems: unknown[] = [];
  const why = new Error("why it ends");
  const bad = new Error("cannot close");
  await assert.rejects(async () => {
    await using stack = new BoundedStack({ ms: 120_000, onProblem: (thrown) => problems.push(thrown) });
    stack.defer(() => void closed.push("first"));
    stack.defer(() => Promise.reject(bad));
    stack.defer(() => void closed.push("last"));
    throw why;
  }, why);
  assert.deepEqual(closed, ["last", "first"]);
  assert.deepEqual(problems, [bad]);
});

test("what does not close is not waited for beyond the bound, and said", async () => {
  const problems: string[] = [];
  {
    await using stack = new BoundedStack({ ms: 1, onProblem: (thrown) => problems.push(String(thrown)) });
    stack.defer(() => new Promise<void>(() => undefined));
  }
  assert.deepEqual(problems, ["Error: not everything had closed after 1 ms"]);
});
