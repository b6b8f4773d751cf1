import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findProgram } from "../../src/lib/find-program.ts";
import { addClient, ApiClient, startGateway } from "../support/gateway.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");
const TINY = [
  "tiny-flux-dev",
  "tiny-flux-schnell",
  "tiny-kokoro",
  "tiny-ltx-video",
  "tiny-musicgen",
  "tiny-vits",
  "tiny-whisper",
  "tiny-whisper-128",
];

/** As an operator starts them: no model is named. */
describe("which models are served", () => {
  let system: TestSystem;
  let key: string;

  before(async () => {
    system = await startSystem({ DRYAPI_MODELS: "" });
    key = await addClient(system);
  });
  after(() => system[Symbol.asyncDispose]());

  const servedBy = async (worker: WorkerProcess): Promise<readonly string[]> =>
    (await worker.line(({ msg }) => msg === "worker ready"))["models"] as string[];

  async function checksOf(worker: WorkerProcess): Promise<Readonly<Record<string, { readonly ok: boolean; readonly detail: string }>>> {
    const answer = await fetch(`${worker.admin}/readyz`);
    return ((await answer.json()) as { checks: Record<string, { ok: boolean; detail: string }> }).checks;
  }

  async function offered(env: Readonly<Record<string, string>>): Promise<readonly string[]> {
    await using gateway = await startGateway(system, env);
    const { body } = await new ApiClient(gateway.url, key).get("/api/v1/client/models");
    return (body.data as unknown as readonly { readonly slug: string }[]).map(({ slug }) => slug).toSorted();
  }

  /** Starts one that must not come up; resolves to its exit code and words. */
  async function refused(env: Readonly<Record<string, string>>): Promise<{ readonly code: number | null; readonly text: string }> {
    const { process: child } = system.spawnWorker({ ...env });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: string) => (text += chunk));
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    return { code, text };
  }

  test("no test model without a word: the worker says so and is not ready, the gateway offers none, doctor counts them", async () => {
    const worker = await system.startWorker();
    assert.deepEqual(await servedBy(worker), []);
    const { models } = await checksOf(worker);
    assert.equal(models?.ok, false);
    assert.match(models.detail, /no model that is asked for is complete on disk/);
    assert.deepEqual(await offered({}), []);
    const doctor = spawn(process.execPath, [CLI, "doctor", "--json"], { env: system.env, stdio: ["ignore", "pipe", "ignore"] });
    let text = "";
    doctor.stdout.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    await new Promise((resolve) => doctor.once("close", resolve));
    const { checks } = JSON.parse(text) as { readonly checks: readonly { readonly check: string; readonly message: string }[] };
    assert.deepEqual(
      checks.filter(({ check }) => /fake|tiny/.test(check)),
      [],
    );
    assert.match(checks.find(({ check }) => check === "test models")?.message ?? "", /^10 are here and not served/);
    await worker.stop();
  });

  test("DRYAPI_TEST_MODELS=on asks for the tiny ones, and never for those that crash on purpose", async () => {
    const worker = await system.startWorker({ DRYAPI_TEST_MODELS: "on" });
    assert.deepEqual([...(await servedBy(worker))].toSorted(), TINY);
    assert.equal((await checksOf(worker))["models"]?.ok, true);
    assert.deepEqual(await offered({ DRYAPI_TEST_MODELS: "on" }), TINY);
    // Somebody asked that worker for them.
    await announces("tiny-vits");
    assert.deepEqual(await offered({}), TINY);
    await worker.stop();
    // That a worker served them once asks for nothing.
    assert.deepEqual(await offered({}), []);
  });

  test("a misspelt name: exit 2 with the nearest one; on a folder that is not mounted yet exit 3", async () => {
    const misspelt = await refused({ DRYAPI_MODELS: "tiny-flux-shnell" });
    assert.equal(misspelt.code, 2, misspelt.text);
    assert.match(misspelt.text, /DRYAPI_MODELS names tiny-flux-shnell, .*did you mean tiny-flux-schnell\?/);
    assert.match(misspelt.text, /models here: Flux1dev, /);
    const pinned = await refused({ DRYAPI_PINNED_MODELS: "Flux1def" });
    assert.equal(pinned.code, 2, pinned.text);
    assert.match(pinned.text, /DRYAPI_PINNED_MODELS names Flux1def, .*did you mean Flux1dev\?/);
    const absent = join(system.dir, "not-mounted");
    const unmounted = await refused({ DRYAPI_MODELS: "mine", DRYAPI_MODELS_DIR: absent });
    assert.equal(unmounted.code, 3, unmounted.text);
    assert.match(unmounted.text, new RegExp(`folder ${absent} of DRYAPI_MODELS_DIR cannot be read: ENOENT`));
  });

  test("a pinned model without its files: told as an error, not ready, the others are served", async () => {
    const worker = await system.startWorker({ DRYAPI_PINNED_MODELS: "Flux1schnell,tiny-vits" });
    assert.deepEqual(await servedBy(worker), ["tiny-vits"], "a pin asks for a test model by its name");
    const { level, problem } = await worker.line(({ msg }) => msg.startsWith("a pinned model is not served"));
    assert.equal(level, "error");
    assert.match(String(problem), /model Flux1schnell: .*does not exist/);
    assert.deepEqual((await checksOf(worker))["models"], { ok: false, detail: "pinned and not served: Flux1schnell; the log says why" });
    await worker.stop();
  });

  test("a model without its program is not served and says so to those who wait; installed, it is, without a restart", async () => {
    const bin = join(system.dir, "ffmpeg");
    await mkdir(bin);
    const worker = await system.startWorker({ DRYAPI_MODELS: "fake,tiny-vits", DRYAPI_FFMPEG_DIR: bin });
    assert.deepEqual(await servedBy(worker), ["fake"]);
    const lines = await Promise.all(
      ["a setting leads nowhere", "a model is not served"].map((text) => worker.line(({ msg }) => msg === text)),
    );
    for (const { problem } of lines) assert.match(String(problem), new RegExp(`DRYAPI_FFMPEG_DIR .*${bin}.*ffmpeg`));
    const id = await system.submit({
      model: "tiny-vits",
      task: "txt2audio",
      params: { text: "Hello", lang: "en-us", voice: "default", format: "mp3" },
    });
    await announces("MODEL_UNSUPPORTED");
    assert.equal(await system.state("tiny-vits", id), "waiting");
    await writeFile(join(bin, "ffmpeg"), "#!/bin/sh\necho ' A....D flac  words'\n");
    await chmod(join(bin, "ffmpeg"), 0o755);
    await reload(worker);
    const built = await worker.line(({ msg, problem }) => msg === "a model is not served" && String(problem).includes("was built without"));
    assert.match(String(built["problem"]), /ffmpeg was built without libmp3lame, libvorbis: install a build that has it/);
    await rm(join(bin, "ffmpeg"));
    await symlink(findProgram("ffmpeg") ?? "", join(bin, "ffmpeg"));
    await reload(worker);
    const view = await system.ended("tiny-vits", id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    await worker.stop();
  });

  /** What live workers say, once one says so. */
  async function announces(text: string): Promise<void> {
    await system.until(`a worker to announce ${text}`, async () => {
      const said = Object.values(await system.client.hgetall(system.keys.workers));
      return said.some((each) => each.includes(text)) ? true : undefined;
    });
  }

  async function reload(worker: WorkerProcess): Promise<void> {
    const before = worker.lines.length;
    worker.process.kill("SIGHUP");
    await worker.line((line) => line.msg === "the models on disk changed" && worker.lines.indexOf(line) >= before);
  }
});
