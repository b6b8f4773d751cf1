import assert from "node:assert/strict";
import { glob, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { API } from "./api-table.ts";
import { openEnvironment } from "./environment.ts";
import { loadLibrary, packagedLibrary } from "./library.ts";
import { OrtFailure } from "./ort-failure.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

/** In the table for provider options, plugin providers, node placement and memory of devices; whoever uses one takes it from here. */
const AWAITED: ReadonlySet<string> = new Set([
  "GetAvailableProviders",
  "ReleaseAvailableProviders",
  "UnregisterExecutionProviderLibrary",
  "DisableMemPattern",
  "DisableCpuMemArena",
  "GetTensorMemoryInfo",
  "CreateMemoryInfo",
  "MemoryInfoGetName",
  "ReleaseMemoryInfo",
]);

const unavailable = (path: string) => (thrown: unknown) =>
  thrown instanceof AppError && thrown.code === "DEVICE_UNAVAILABLE" && thrown.message.includes(path);

test("a file that is missing, no library or another library is DEVICE_UNAVAILABLE and named", async () => {
  const koffi = createRequire(import.meta.url).resolve("koffi");
  for (const path of ["/absent/libonnxruntime.so.1", import.meta.filename, koffi]) {
    await assert.rejects(loadLibrary(path), unavailable(path));
  }
});

test("an environment that could not be opened may be opened from elsewhere, and then from nowhere else", async () => {
  await assert.rejects(openEnvironment("/absent/libonnxruntime.so.1"), unavailable("/absent/libonnxruntime.so.1"));
  const { library } = await openEnvironment();
  assert.equal(library.path, packagedLibrary());
  assert.throws(() => openEnvironment("/absent/libonnxruntime.so.1"), /cannot be loaded beside it/);
});

test("the library is the version that package.json asks for, and answers with codes and texts of its own", async () => {
  const { library, pointer } = await openEnvironment();
  const packageFile = new URL("../../../package.json", import.meta.url);
  const { dependencies } = JSON.parse(await readFile(packageFile, "utf8")) as { readonly dependencies: Readonly<Record<string, string>> };
  assert.equal(library.version, dependencies["onnxruntime-node"]);
  const options = library.call.CreateSessionOptions();
  try {
    await assert.rejects(library.callAsync.CreateSession(pointer, "/absent.onnx", options), (thrown) => {
      assert.ok(thrown instanceof OrtFailure);
      assert.equal(thrown.code, 3);
      return thrown.message.includes("/absent.onnx");
    });
  } finally {
    library.call.ReleaseSessionOptions(options);
  }
});

test("a small array stays where its address says, whatever the collector does", async () => {
  const { library } = await openEnvironment();
  const arrays = Array.from({ length: 2000 }, (_, at) => Float32Array.of(at));
  const addresses = arrays.map((array) => library.addressOf(array));
  // Survivors of the young generation are moved out of it.
  for (let round = 0; round < 50; round += 1) Array.from({ length: 20_000 }, () => ({ garbage: round }));
  for (const [at, array] of arrays.entries()) {
    assert.equal(library.addressOf(array), addresses[at]);
    assert.equal(new Float32Array(library.view(addresses[at]!, 4))[0], at);
  }
});

test("no two functions of the table share a place, and each of them is called somewhere", async () => {
  const places = Object.values(API).map(({ index }) => index);
  assert.equal(new Set(places).size, places.length);
  let source = "";
  for await (const file of glob("**/*.ts", { cwd: import.meta.dirname })) {
    if (!file.endsWith(".test.ts") && file !== "api-table.ts") source += await readFile(new URL(file, import.meta.url), "utf8");
  }
  const unused = Object.keys(API).filter((name) => !new RegExp(`\\b${name}\\b`).test(source));
  assert.deepEqual(
    unused.filter((name) => !AWAITED.has(name)),
    [],
  );
});
