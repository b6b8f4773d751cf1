import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { loadLibrary, packagedLibrary } from "./library.ts";

test("the library stays loaded however much garbage is collected", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const { call } = await loadLibrary(packagedLibrary());
  for (let round = 0; round < 5; round += 1) {
    collect();
    // koffi's finalizers run in turns of the event loop.
    await turn();
  }
  const allocator = call.GetAllocatorWithDefaultOptions();
  assert.notEqual(allocator, 0n);
});
