import assert from "node:assert/strict";
import { cp, mkdir, readdir, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fakeFolder } from "../../src/pipelines/fake/fake-gate.ts";
import { MODELS } from "../support/flux-rig.ts";
import { childrenOf, gone, startSystem, type LogLine, type TestSystem, type WorkerProcess } from "../support/system.ts";

const SOURCE = new URL("tiny-flux-schnell", MODELS).pathname;
const PICTURE = { prompt: "a fox", width: 64, height: 64, steps: 1, seed: 1 };

/** Everything that a manifest must say; files as in the Optimum layout need no word. */
function bareManifest(slug: string): Record<string, unknown> {
  return {
    version: 1,
    slug,
    name: slug,
    family: "flux",
    tasks: ["txt2img", "img2img"],
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "local" },
    memoryBytes: { cpu: 1_300_000_000 },
  };
}

function fakeManifest(slug: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { ...bareManifest(slug), family: "fake", tasks: ["txt2img"], memoryBytes: { cpu: 134_217_728 }, ...more };
}

/** What is wrong with a model ends with that model: the daemon stays up and the others go on. */
describe("a worker with bad models", () => {
  let system: TestSystem;
  let worker: WorkerProcess;
  let folder: string;

  before(async () => {
    const slugs = "fake,own-export,cut-graph,odd-options,wrong-sha,wrong-size,no-json,no-family,no-schema,late,leaving";
    system = await startSystem({ DRYAPI_MODELS: slugs });
    folder = join(system.dir, "models");
    system.env["DRYAPI_MODELS_DIR"] = folder;
    await Promise.all([
      addFlux("own-export", bareManifest("own-export")),
      addFlux("cut-graph", bareManifest("cut-graph")).then(() => truncate(join(folder, "cut-graph/transformer/model.onnx"), 200_000)),
      addFlux("odd-options", { ...bareManifest("odd-options"), options: { clip_length: 77, t5_length: 1 } }),
      addFlux("wrong-sha", { ...bareManifest("wrong-sha"), parts: { transformer: pin("0".repeat(64), 450_441) } }),
      addFlux("wrong-size", { ...bareManifest("wrong-size"), parts: { transformer: pin("0".repeat(64), 450_442) } }),
      add("no-json", '{ "version": 1, '),
      add("no-family", JSON.stringify({ ...bareManifest("no-family"), family: "sdxl" })),
      add("no-schema", JSON.stringify({ ...bareManifest("no-schema"), tasks: [], colour: "red" })),
      add("leaving", JSON.stringify(fakeManifest("leaving"))),
      // Its weights are on their way.
      add("late", JSON.stringify(fakeManifest("late", { files: { weights: "weights.bin" } }))),
    ]);
    worker = await system.startWorker();
  });
  after(() => system[Symbol.asyncDispose]());

  async function add(slug: string, manifest: string): Promise<void> {
    await mkdir(join(folder, slug), { recursive: true });
    await writeFile(join(folder, slug, "model.json"), manifest);
  }

  async function addFlux(slug: string, manifest: unknown): Promise<void> {
    await cp(SOURCE, join(folder, slug), { recursive: true });
    await add(slug, JSON.stringify(manifest));
  }

  async function completes(model: string, params = {}): Promise<void> {
    const view = await system.ended(model, await system.submit({ model, params }));
    assert.equal(view.state, "completed", view.failedReason ?? "");
  }

  async function reload(seen: (line: LogLine) => boolean): Promise<void> {
    const before = worker.lines.length;
    worker.process.kill("SIGHUP");
    await worker.line((line) => line.msg === "the models on disk changed" && worker.lines.indexOf(line) >= before && seen(line));
  }

  test("serves what is whole, names what is not", async () => {
    const ready = await worker.line(({ msg }) => msg === "worker ready");
    assert.deepEqual([...(ready["models"] as string[])].toSorted(), ["fake", "leaving", "odd-options", "own-export", "wrong-sha"]);
    const notes = worker.lines.filter(({ msg }) => msg === "models").map((line) => String(line["note"]));
    const noteOf = (slug: string): string => notes.find((note) => note.includes(`/${slug}/`)) ?? "";
    assert.match(noteOf("no-json"), /models\/no-json\/model\.json is not JSON/);
    assert.match(noteOf("no-family"), /models\/no-family\/model\.json.*family/s);
    assert.match(noteOf("no-schema"), /models\/no-schema\/model\.json.*colour.*tasks/s);
    const unserved = worker.lines.filter(({ msg }) => msg === "a model is not served").map((line) => String(line["problem"]));
    assert.equal(unserved.length, 3, unserved.join("\n"));
    assert.ok(
      unserved.includes(`model late: ${join(folder, "late/weights.bin")} (weights) does not exist: fetch it from the model's source`),
      unserved.join("\n"),
    );
    assert.match(
      unserved.find((problem) => problem.includes("wrong-size")) ?? "",
      /wrong-size\/transformer\/model\.onnx .*has 450441 bytes, the manifest says 450442/,
    );
    assert.match(
      unserved.find((problem) => problem.includes("cut-graph")) ?? "",
      /cut-graph\/transformer\/model\.onnx \(transformer\) is cut off.* and it has 200000: fetch it again/,
    );
    assert.equal((await fetch(`${worker.admin}/readyz`)).status, 200);
    const metrics = await (await fetch(`${worker.admin}/metrics`)).text();
    for (const [state, count] of [
      ["available", 5],
      ["missing", 1],
      ["corrupt", 2],
      ["unsupported", 0],
      ["invalid", 3],
    ] as const)
      assert.match(metrics, new RegExp(`^dryapi_models\\{state="${state}"\\} ${count}$`, "m"));
  });

  test("an operator's own export needs only a model.json beside the Optimum layout", async () => {
    await completes("own-export", { ...PICTURE, guidance: 1 });
  });

  test("a truncated graph and wrong options: not served, or no longer, their jobs wait, the others go on", async () => {
    const cut = await system.submit({ model: "cut-graph", params: PICTURE });
    const odd = await system.submit({ model: "odd-options", params: PICTURE });
    const ofOdd = await failedLoad("odd-options");
    assert.match(ofOdd.message, /model odd-options.*t5_length/s);
    await completes("fake");
    await completes("own-export", PICTURE);
    for (const [model, id, loads] of [
      ["cut-graph", cut, 0],
      ["odd-options", odd, 1],
    ] as const) {
      assert.equal(await system.state(model, id), "waiting", "another worker may have the model whole");
      assert.equal(loadsOf(model), loads, "it is not tried again and again");
    }
    await writeFile(join(folder, "odd-options/model.json"), JSON.stringify(bareManifest("odd-options")));
    await cp(join(SOURCE, "transformer/model.onnx"), join(folder, "cut-graph/transformer/model.onnx"));
    await reload(() => true);
    assert.equal((await system.ended("cut-graph", cut)).state, "completed");
    assert.equal((await system.ended("odd-options", odd)).state, "completed");
  });

  test("a file with another digest than the pinned one is never loaded", async () => {
    const id = await system.submit({ model: "wrong-sha", params: PICTURE });
    const error = await failedLoad("wrong-sha");
    assert.equal(error.code, "MODEL_CORRUPT");
    assert.match(error.message, /wrong-sha\/transformer\/model\.onnx .*has sha256 [0-9a-f]{64}, the manifest says 0000/);
    await completes("fake");
    assert.equal(await system.state("wrong-sha", id), "waiting");
  });

  test("a model whose files come is served after SIGHUP, one that is removed is let go of", async () => {
    const late = await system.submit({ model: "late", params: { steps: 1 } });
    await completes("leaving");
    const before = await childrenOf(worker.pid);
    // As rsync does it: aside first, then in place.
    await writeFile(join(folder, "late/.weights.bin.incoming"), "weights");
    await rename(join(folder, "late/.weights.bin.incoming"), join(folder, "late/weights.bin"));
    await rm(join(folder, "leaving"), { recursive: true });
    await reload((line) => (line["changed"] as string[]).includes("late") && (line["removed"] as string[]).includes("leaving"));
    assert.equal((await system.ended("late", late)).state, "completed");
    const [removed] = before.slice(-1);
    await gone(removed ?? 0);
    const orphan = await system.submit({ model: "leaving" });
    await completes("fake");
    assert.equal(await system.state("leaving", orphan), "waiting");
    assert.equal((await fetch(`${worker.admin}/readyz`)).status, 200);
  });

  async function failedLoad(model: string): Promise<{ code: string; message: string }> {
    const line = await worker.line((each) => each.msg === "model could not be loaded" && each["model"] === model);
    return line["err"] as { code: string; message: string };
  }

  function loadsOf(model: string): number {
    return worker.lines.filter((line) => line.msg === "model could not be loaded" && line["model"] === model).length;
  }
});

test("kill -9 of a runner while it loads, and a crash there: the model is loaded again, each job ends once", async () => {
  await using system = await startSystem({ DRYAPI_MODELS: "stalls,crashes" });
  system.env["DRYAPI_MODELS_DIR"] = join(system.dir, "models");
  for (const [slug, kind] of [
    ["stalls", "stall"],
    ["crashes", "segfault"],
  ] as const) {
    await mkdir(join(system.dir, "models", slug), { recursive: true });
    const options = { fault: { at: "load", kind }, fault_claims: 1 };
    await writeFile(join(system.dir, "models", slug, "model.json"), JSON.stringify(fakeManifest(slug, { options })));
  }
  const worker = await system.startWorker();
  const stalled = await system.submit({ model: "stalls", params: { steps: 1 } });
  await killWhileLoading(system, worker);
  const crashed = await system.submit({ model: "crashes", params: { steps: 1 } });
  for (const [model, id] of [
    ["stalls", stalled],
    ["crashes", crashed],
  ] as const) {
    const failed = await worker.line((line) => line.msg === "model could not be loaded" && line["model"] === model);
    assert.equal((failed["err"] as { code: string }).code, "RUNNER_CRASHED");
    const view = await system.ended(model, id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    // It was never claimed while there was no model: nothing of it is spent.
    assert.deepEqual([view.claim, view.attemptsMade], [1, 1]);
    await system.event((event) => event.id === id && event.type === "done");
    assert.equal(system.events.filter((event) => event.id === id && event.type === "done").length, 1);
  }
  await system.spoolEmpty();
});

async function killWhileLoading(system: TestSystem, worker: WorkerProcess): Promise<void> {
  // A fault is counted before it is committed. The count is the size of a file, which is there before it has one.
  await system.until("the load to be under way", async () => {
    const files = await readdir(fakeFolder(system.env["TMPDIR"]), { withFileTypes: true }).catch(() => []);
    const sizes = await Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size));
    return sizes.some((size) => size === 1) ? true : undefined;
  });
  const [runner] = await childrenOf(worker.pid);
  assert.ok(runner !== undefined);
  process.kill(runner, "SIGKILL");
}

function pin(sha256: string, sizeBytes: number): Record<string, unknown> {
  return { file: "transformer/model.onnx", sha256, sizeBytes };
}
