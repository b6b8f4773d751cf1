import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { parseFailedReason } from "../../src/protocol/error.ts";
import { openRegistry } from "../../src/state/open-registry.ts";
import { MODELS } from "../support/flux-rig.ts";
import { addClient, ApiClient, endOf, startGateway, type Answer, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const run = promisify(execFile);
const CLI = join(import.meta.dirname, "../../src/cli.ts");
const SOURCE = new URL("tiny-flux-schnell", MODELS).pathname;
const SLUGS = ["fake", "no-file", "wrong-graph", "odd-options", "repaired", "half-good", "too-large"];
const PICTURE = { prompt: "a fox", width: 64, height: 64, steps: 1, seed: 1 };
/** No job of a test ends by its bound, and every one does. */
const NEVER = { DRYAPI_UNSERVABLE_MS: "1h" };
const AT_ONCE = { DRYAPI_UNSERVABLE_MS: "100ms" };

type Status = Readonly<Record<string, unknown>>;

/** Real workers, a real gateway, real graphs. The gateway shares the workers' folder, as on one machine. */
describe("a model that no live worker can load", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let folder: string;

  before(async () => {
    system = await startSystem({ DRYAPI_MODELS: SLUGS.join(",") });
    folder = join(system.dir, "models");
    system.env["DRYAPI_MODELS_DIR"] = folder;
    await Promise.all(SLUGS.filter((slug) => slug !== "fake").map((slug) => addModel(folder, slug)));
    await breakGraph(folder, "wrong-graph");
    await breakGraph(folder, "repaired");
    gateway = await startGateway(system);
    api = new ApiClient(gateway.url, await addClient(system));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  test("without a worker requests are accepted, and say that none is up", async () => {
    const id = await submitted("no-file");
    const status = await api.status(id);
    assert.deepEqual([status["status"], status["waiting_reason"]], ["pending", "CAPACITY_UNAVAILABLE"]);
    assert.equal(status["waiting_message"], "No worker that serves the model is up.");
    assert.match(await cliStatus(id), /^waits +No worker that serves the model is up\. \[CAPACITY_UNAVAILABLE\]$/m);
    await rm(join(folder, "no-file/transformer/model.onnx"));
    const worker = await system.startWorker(NEVER);
    await waitsFor(id, "MODEL_NOT_FOUND");
    assert.match(await cliStatus(id), /^waits .*no-file\/transformer\/model\.onnx.*does not exist.*\[MODEL_NOT_FOUND\]$/m);
    isRefused(await submit("no-file"), "MODEL_NOT_FOUND");
    await worker.stop();
    await endsWith(id, "no-file", "MODEL_NOT_FOUND", /no-file\/transformer\/model\.onnx \(transformer\) does not exist/);
  });

  test("a graph of another shape: its job waits with the reason, is refused anew, and ends after the bound", async () => {
    const worker = await system.startWorker(NEVER);
    const id = await submitted("wrong-graph");
    const status = await waitsFor(id, "MODEL_UNSUPPORTED");
    assert.equal(
      status["waiting_message"],
      "No worker can load the model: the model's files, or the programs that it needs, do not fit this worker.",
    );
    const listed = ((await api.get("/api/v1/client/requests")).body.data as unknown as readonly Status[]).find(
      (row) => row["request_id"] === id,
    );
    assert.deepEqual([listed?.["status"], listed?.["waiting_reason"]], ["pending", "MODEL_UNSUPPORTED"]);
    isRefused(await submit("wrong-graph"), "MODEL_UNSUPPORTED");
    await submitRefusedByCli("wrong-graph");
    assert.equal((await endOf(system, api, await submitted("fake")))["status"], "done", "the others go on");
    await worker.stop();
    await endsWith(id, "wrong-graph", "MODEL_UNSUPPORTED", /wrong-graph/);
  });

  test("wrong options end a job in the words of the worker", async () => {
    const options = { clip_length: 77, t5_length: 1 };
    await writeFile(join(folder, "odd-options/model.json"), JSON.stringify({ ...manifest("odd-options"), options }));
    const worker = await system.startWorker(NEVER);
    const id = await submitted("odd-options");
    await waitsFor(id, "MANIFEST_INVALID");
    isRefused(await submit("odd-options"), "MANIFEST_INVALID");
    await worker.stop();
    await endsWith(id, "odd-options", "MANIFEST_INVALID", /odd-options.*t5_length/s);
  });

  test("a model that no device can hold is refused, in the words of the worker with what it needs", async () => {
    const id = await submitted("too-large");
    const small = { DRYAPI_DEVICE_BUDGET: "1GiB", DRYAPI_MODELS: "too-large" };
    const worker = await system.startWorker({ ...NEVER, ...small });
    await waitsFor(id, "DOES_NOT_FIT");
    isRefused(await submit("too-large"), "DOES_NOT_FIT");
    await worker.stop();
    await endsWith(
      id,
      "too-large",
      "DOES_NOT_FIT",
      /needs 1\.21 GiB of cpu, but cpu:0 gives models 1\.00 GiB.*DRYAPI_DEVICE_BUDGET/,
      small,
    );
  });

  test("repairing the files lets waiting jobs go on, and new ones in", async () => {
    const worker = await system.startWorker(NEVER);
    const id = await submitted("repaired");
    await waitsFor(id, "MODEL_UNSUPPORTED");
    isRefused(await submit("repaired"), "MODEL_UNSUPPORTED");
    await cp(join(SOURCE, "transformer/model.onnx"), join(folder, "repaired/transformer/model.onnx"));
    worker.process.kill("SIGHUP");
    assert.equal((await endOf(system, api, id))["status"], "done");
    const next = await system.until("a submit to be accepted", async () => {
      const answer = await submit("repaired");
      return answer.status === 200 ? String(answer.body.data["request_id"]) : undefined;
    });
    assert.equal((await endOf(system, api, next))["status"], "done");
    await worker.stop();
  });

  test("of two workers the one with the whole files runs the jobs, and nothing is refused", async () => {
    const broken = join(system.dir, "broken-models");
    await addModel(broken, "half-good");
    await rm(join(broken, "half-good/transformer/model.onnx"));
    const bad = await system.startWorker({ ...AT_ONCE, ...own("bad"), DRYAPI_MODELS: "half-good", DRYAPI_MODELS_DIR: broken });
    const registry = openRegistry({ redis: system.client, keys: system.keys });
    await system.until("the report of the bad worker", async () =>
      (await registry.list()).some(({ unusable }) => unusable?.some(({ model }) => model === "half-good")) ? true : undefined,
    );
    const good = await system.startWorker({ ...AT_ONCE, ...own("good") });
    await system.until("the announcement of the good worker", async () =>
      (await registry.list()).some(({ models }) => models.includes("half-good")) ? true : undefined,
    );
    const first = await system.until("the gateway to know of it", async () => {
      const answer = await submit("half-good");
      return answer.status === 200 ? String(answer.body.data["request_id"]) : undefined;
    });
    const ids = [first, ...(await Promise.all([1, 2, 3].map(() => submitted("half-good"))))];
    for (const id of ids) assert.equal((await endOf(system, api, id))["status"], "done");
    await Promise.all([bad.stop(), good.stop()]);
  });

  function submit(model: string): Promise<Answer> {
    const task = model === "fake" ? { prompt: "x", width: 64, height: 64, steps: 1 } : PICTURE;
    return api.post("txt2img", { ...task, model });
  }

  async function submitted(model: string): Promise<string> {
    const answer = await submit(model);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return String(answer.body.data["request_id"]);
  }

  function waitsFor(id: string, reason: string): Promise<Status> {
    let last: Status = {};
    const look = async (): Promise<Status | undefined> => {
      last = await api.status(id);
      assert.equal(last["status"], "pending");
      return last["waiting_reason"] === reason ? last : undefined;
    };
    return system.until(`request ${id} to wait for ${reason}`, look, () => last);
  }

  function isRefused({ status, body }: Answer, reason: string): void {
    assert.equal(status, 422, JSON.stringify(body));
    assert.deepEqual(Object.keys(body.errors), ["model"]);
    assert.match(
      body.errors["model"]?.[0] ?? "",
      new RegExp(`^The selected model cannot be used now\\. No worker can load .*\\(${reason}\\)$`),
    );
    assert.equal(body.message, body.errors["model"]?.[0]);
    assert.ok(!JSON.stringify(body).includes(folder), "no path reaches a client");
  }

  /** With a worker whose bound is short. It is the one that ends the request. */
  async function endsWith(id: string, model: string, code: string, words: RegExp, env: Record<string, string> = {}): Promise<void> {
    const worker: WorkerProcess = await system.startWorker({ ...AT_ONCE, ...env });
    const status = await endOf(system, api, id);
    assert.deepEqual([status["status"], status["error_reason"], status["waiting_reason"]], ["error", code, null]);
    const view = await system.ended(model, id);
    const error = parseFailedReason(view.failedReason ?? "");
    assert.equal(error.code, code);
    assert.match(error.message, words);
    await system.event((event) => event.id === id && event.type === "error");
    await worker.stop();
  }

  async function cliStatus(id: string): Promise<string> {
    return (await run(process.execPath, [CLI, "status", id], { env: system.env })).stdout;
  }

  async function submitRefusedByCli(model: string): Promise<void> {
    const args = [CLI, "submit", "txt2img", "--json", "--model", model, "prompt=x", "width=64", "height=64"];
    const failed = await run(process.execPath, args, { env: system.env }).then(
      ({ stdout }) => assert.fail(`the submit was accepted: ${stdout}`),
      (thrown: { readonly stdout: string }) => thrown,
    );
    assert.match(failed.stdout, /MODEL_UNSUPPORTED.*no worker can load the model since/s);
  }

  function own(name: string): Record<string, string> {
    return { DRYAPI_WORKER_NAME: name, DRYAPI_STATE_DIR: join(system.dir, name) };
  }
});

function manifest(slug: string): Record<string, unknown> {
  return {
    version: 1,
    slug,
    name: slug,
    family: "flux",
    tasks: ["txt2img"],
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "local" },
    parts: { transformer: { file: "transformer/model.onnx" } },
    limits: { min_width: 64, max_width: 512, min_height: 64, max_height: 512, min_steps: 1, max_steps: 4 },
    memoryBytes: { cpu: 1_300_000_000 },
  };
}

async function addModel(folder: string, slug: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await cp(SOURCE, join(folder, slug), { recursive: true });
  await writeFile(join(folder, slug, "model.json"), JSON.stringify(manifest(slug)));
}

/** A valid graph, of another part of the model. */
async function breakGraph(folder: string, slug: string): Promise<void> {
  await cp(join(SOURCE, "vae_decoder/model.onnx"), join(folder, slug, "transformer/model.onnx"));
}
