import assert from "node:assert/strict";
import { test } from "node:test";
import { packagedOrt } from "../../lib/ort-files.ts";
import { runnerEnv, usedOrtDir } from "./runner-env.ts";

test("a runner gets the onnxruntime of DRYAPI_ORT_DIR on every device, and how to call it", () => {
  const given = { DRYAPI_ORT_DIR: "/opt/ort", DRYAPI_RUNTIME: "node", LD_LIBRARY_PATH: "/usr/lib", REDIS_URL: "redis://secret" };
  for (const kind of ["cpu", "webgpu", "cuda"]) {
    const env = runnerEnv(given, { kind });
    assert.deepEqual(
      [env["DRYAPI_ORT_DIR"], env["DRYAPI_RUNTIME"], env["LD_LIBRARY_PATH"], env["REDIS_URL"]],
      ["/opt/ort", "node", "/opt/ort:/usr/lib", undefined],
      kind,
    );
  }
});

test("without it a runner keeps the npm package's own, and an empty setting is none", () => {
  for (const kind of ["cpu", "webgpu"]) {
    assert.equal(usedOrtDir({ DRYAPI_ORT_DIR: "" }, kind), null);
    assert.deepEqual(
      Object.keys(runnerEnv({}, { kind })).filter((name) => /ORT_DIR|LIBRARY_PATH/.test(name)),
      [],
    );
  }
  // A folder that was named is passed on whatever it holds: the runner says what is wrong with it.
  assert.equal(usedOrtDir({ DRYAPI_ORT_DIR: packagedOrt().dir }, "cuda"), packagedOrt().dir);
});
