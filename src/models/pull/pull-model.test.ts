import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startHub, type HubServer } from "../../../test/support/hub-server.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import { parseManifest } from "../../protocol/manifest.ts";
import { pullModel, type PullNews, type PullOptions } from "./pull-model.ts";

const REPO = "someone/some-model";
const FILES = {
  "onnx/model.onnx": randomBytes(700_000),
  "onnx/model_fp16.onnx": randomBytes(350_000),
  "config.json": Buffer.from('{"a":1}'),
  "empty.txt": Buffer.alloc(0),
};
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const MANIFEST = parseManifest(
  {
    version: 1,
    slug: "some-model",
    name: "Some model",
    family: "fake",
    tasks: ["txt2img"],
    license: { id: "MIT", commercial: true },
    source: { repository: REPO },
    memoryBytes: { cpu: 1 },
    pull: {
      default: "float32",
      variants: {
        float32: { source: `hf:${REPO}@main`, files: [{ from: "onnx/model.onnx" }, { from: "config.json" }, { from: "empty.txt" }] },
        float16: { source: `hf:${REPO}@main`, files: [{ from: "onnx/model_fp16.onnx", to: "onnx/model.onnx" }, { from: "config.json" }] },
      },
    },
  },
  "test",
);

describe("a pull from a server that behaves as the hub does", () => {
  let hub: HubServer;
  let root: string;
  before(async () => {
    hub = await startHub({ repo: REPO, files: FILES });
  });
  after(async () => {
    await hub[Symbol.asyncDispose]();
  });

  async function pull(change: Partial<PullOptions> = {}, news: PullNews[] = []): Promise<Awaited<ReturnType<typeof pullModel>>> {
    return pullModel({
      manifest: MANIFEST,
      root,
      source: { hub: { endpoint: hub.url, token: null } },
      acceptLicense: false,
      fetch: { lanes: 3, pieceBytes: 100_000, stallMs: 60_000, tries: 4, sleep: async () => undefined },
      onNews: (each) => news.push(each),
      ...change,
    });
  }

  /** A fresh folder, and a server without mischief or memory. */
  async function fresh(mischief: HubServer["mischief"] = {}): Promise<AsyncDisposable> {
    root = await mkdtemp(join(tmpdir(), "pull-"));
    Object.assign(hub, { mischief, sentBytes: 0 });
    hub.requests.length = 0;
    return { [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
  }

  const made = (file: string): Promise<Buffer> => readFile(join(root, "some-model", file));
  const leftOvers = async (): Promise<readonly string[]> =>
    (await readdir(root, { recursive: true })).filter((name) => name.includes(".part") || name.includes(".lock") || name.includes(".new"));

  async function refused(code: ErrorCode, ...texts: readonly RegExp[]): Promise<void> {
    await assert.rejects(pull(), (thrown) => {
      assert.ok(thrown instanceof AppError, String(thrown));
      assert.equal(thrown.code, code, thrown.message);
      for (const text of texts) assert.match(thrown.message, text);
      return true;
    });
    // Nothing that is not whole is seen by anybody.
    await assert.rejects(stat(join(root, "some-model")), { code: "ENOENT" });
  }

  test("all files come, with their digests, the commit, and the model under its slug", async () => {
    await using _ = await fresh();
    const news: PullNews[] = [];
    const record = await pull({}, news);
    assert.equal(record.source, `hf:${REPO}@${hub.commit}`);
    assert.deepEqual(
      record.files.map(({ file, sha256: digest, sizeBytes }) => [file, digest, sizeBytes]),
      (["onnx/model.onnx", "config.json", "empty.txt"] as const).map((file) => [file, sha256(FILES[file]), FILES[file].length]),
    );
    assert.deepEqual(await made("onnx/model.onnx"), FILES["onnx/model.onnx"]);
    assert.equal((await made("empty.txt")).length, 0);
    assert.deepEqual(await leftOvers(), []);
    // In pieces, beside each other.
    assert.equal(
      hub.requests.filter(({ path, range }) => path.includes("model.onnx") && range !== "bytes=0-0" && range !== null).length,
      14,
    );
    assert.deepEqual(
      news.find(({ type }) => type === "planned"),
      {
        type: "planned",
        source: record.source,
        files: 3,
        totalBytes: 700_007,
        presentBytes: 0,
      },
    );
    assert.ok(news.some((each) => each.type === "bytes" && each.file === "onnx/model.onnx" && each.done === each.size));
  });

  test("what is there is not fetched again; another variant takes its place in one step", async () => {
    await using _ = await fresh();
    await pull();
    hub.sentBytes = 0;
    await pull();
    assert.equal(hub.sentBytes, 0);
    await pull({ variant: "float16" });
    assert.deepEqual(await made("onnx/model.onnx"), FILES["onnx/model_fp16.onnx"]);
    assert.equal(await readlink(join(root, "some-model")), ".pulled/some-model/float16");
  });

  test("connections that are cut again and again are taken up where they ended", async () => {
    await using _ = await fresh({ cutAfter: 30_000 });
    await pull();
    assert.deepEqual(await made("onnx/model.onnx"), FILES["onnx/model.onnx"]);
    // No byte twice, but for the first one, which is asked for by itself.
    assert.ok(hub.sentBytes <= 700_007 + 2, `${hub.sentBytes} bytes were sent`);
  });

  test("a pull that failed goes on where it ended", async () => {
    await using _ = await fresh({ cutAfter: 30_000 });
    await assert.rejects(
      pull({
        fetch: { lanes: 1, pieceBytes: 100_000, stallMs: 60_000, tries: 4, sleep: () => Promise.reject(new Error("the power failed")) },
      }),
      /the power failed/,
    );
    await assert.rejects(stat(join(root, "some-model")), { code: "ENOENT" });
    const before = hub.sentBytes;
    assert.ok(before >= 30_000);
    hub.mischief = {};
    await pull();
    assert.deepEqual(await made("onnx/model.onnx"), FILES["onnx/model.onnx"]);
    assert.ok(hub.sentBytes <= 700_007 + 4, `${hub.sentBytes} bytes were sent`);
  });

  test("servers that say later are asked later, as they ask for it", async () => {
    const waits: number[] = [];
    await using _ = await fresh({ statuses: { status: 429, times: 2, retryAfter: "7" } });
    hub.mischief = { statuses: { status: 429, times: 2, retryAfter: "7" } };
    await pull({
      fetch: { lanes: 1, pieceBytes: 100_000, stallMs: 60_000, tries: 4, sleep: async (ms) => void waits.push(ms) },
    });
    assert.deepEqual(waits, [7_000, 7_000]);
  });

  test("a server without ranges serves as well", async () => {
    await using _ = await fresh({ noRanges: true });
    await pull();
    assert.deepEqual(await made("onnx/model.onnx"), FILES["onnx/model.onnx"]);
  });

  test("bytes that are damaged on the way are fetched twice, then refused with both digests", async () => {
    await using _ = await fresh({ corrupt: true });
    await refused("MODEL_CORRUPT", /model\.onnx/, new RegExp(sha256(FILES["onnx/model.onnx"])), /fetched twice/);
    assert.deepEqual(await leftOvers(), []);
  });

  test("a server that says another size than the hub, or hangs, is refused by what it did", async () => {
    {
      await using _ = await fresh({ longer: 5 });
      await refused("MODEL_CORRUPT", /700005 bytes, expected 700000/);
    }
    await using _ = await fresh({ hang: true });
    await assert.rejects(
      pull({ fetch: { lanes: 1, pieceBytes: 100_000, stallMs: 50, tries: 2, sleep: async () => undefined } }),
      (thrown) => thrown instanceof AppError && thrown.code === "STORAGE_UNAVAILABLE" && /no byte for 50 ms/.test(thrown.message),
    );
  });

  test("what the hub refuses is said with what to do", async () => {
    await using _ = await fresh();
    await using gated = await startHub({ repo: REPO, files: FILES, token: "hf_right" });
    const source = (token: string | null) => ({ hub: { endpoint: gated.url, token } });
    await assert.rejects(pull({ source: source(null) }), /401: set HF_TOKEN .* accept its terms at http/);
    await assert.rejects(pull({ source: source("hf_wrong") }), /the account of HF_TOKEN may not read it/);
    await pull({ source: source("hf_right") });
    assert.deepEqual(await made("onnx/model.onnx"), FILES["onnx/model.onnx"]);
    // A token is for the hub alone.
    assert.ok(gated.requests.some(({ host, authorization }) => host === "hub" && authorization === "Bearer hf_right"));
    assert.deepEqual(
      [...new Set(gated.requests.filter(({ host }) => host === "content").map(({ authorization }) => authorization))],
      [null],
    );

    const absent = {
      ...MANIFEST,
      pull: { default: "a", variants: { a: { source: `hf:${REPO}@main`, files: [{ from: "absent.onnx" }] } } },
    };
    await assert.rejects(pull({ manifest: absent }), /has no file absent\.onnx at main/);
    const nowhere = { ...MANIFEST, pull: { default: "a", variants: { a: { source: "hf:no/where", files: [{ from: "x" }] } } } };
    await assert.rejects(pull({ manifest: nowhere }), /does not exist \(404\), or is private: then set HF_TOKEN/);
    await assert.rejects(pull({ source: { hub: { endpoint: "http://127.0.0.1:1", token: null } } }), { code: "STORAGE_UNAVAILABLE" });
  });

  test("a licence that binds is accepted once", async () => {
    await using _ = await fresh();
    const manifest = { ...MANIFEST, license: { id: "NC-1", commercial: false } };
    await assert.rejects(pull({ manifest }), /NC-1, which does not allow commercial use: .*--accept-license/);
    await pull({ manifest, acceptLicense: true });
    await pull({ manifest });
  });

  test("folders of others, wrong variants and manifests without sources are refused", async () => {
    await using _ = await fresh();
    await assert.rejects(pull({ variant: "int1" }), /no variant int1, expected one of float32, float16/);
    const { pull: _pull, ...without } = MANIFEST;
    await assert.rejects(pull({ manifest: without }), /does not say where its files can be had/);
    await mkdir(join(root, "some-model"));
    await assert.rejects(pull(), /is there already, and no pull has put it there/);
  });

  test("two pulls at a time follow each other, and the second one finds all there", async () => {
    await using _ = await fresh();
    const news: PullNews[] = [];
    const [first, second] = await Promise.all([pull(), pull({}, news)]);
    assert.deepEqual(first.files, second.files);
    assert.deepEqual(
      hub.requests.filter(({ path, range }) => path.includes("model.onnx") && range === "bytes=0-0").length % 2,
      // Once through the hub and once at the content's server.
      0,
    );
    assert.ok(hub.sentBytes <= 700_007 + 2, `${hub.sentBytes} bytes were sent`);
  });

  test("a journal that a power cut emptied costs what it counted, and nothing else", async () => {
    await using _ = await fresh();
    const dir = join(root, ".pulled", "some-model", "float32", "onnx");
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, "model.onnx.part"), "x");
    await writeFile(join(dir, "model.onnx.part.json"), "");
    await pull();
    assert.deepEqual(await made("onnx/model.onnx"), FILES["onnx/model.onnx"]);
  });

  test("another repository's files are never seen beside those of a whole pull, and what was pinned holds after it", async () => {
    await using _ = await fresh();
    await using next = await startHub({
      repo: "next/one",
      files: { ...FILES, "onnx/model.onnx": randomBytes(9_000), "config.json": Buffer.from("{}") },
    });
    const from = (source: string): Partial<PullOptions> => ({
      manifest: {
        ...MANIFEST,
        pull: { default: "a", variants: { a: { source, files: [{ from: "onnx/model.onnx" }, { from: "config.json" }] } } },
      },
    });
    await pull(from(`hf:${REPO}`));
    const seen: string[] = [];
    const second = await pull({
      ...from("hf:next/one"),
      source: { hub: { endpoint: next.url, token: null } },
      onNews: ({ type }) => type === "file" && seen.push(sha256(readFileSync(join(root, "some-model", "onnx/model.onnx")))),
    });
    assert.deepEqual(seen, [sha256(FILES["onnx/model.onnx"]), sha256(FILES["onnx/model.onnx"])]);
    assert.deepEqual([second.source, await made("config.json")], [`hf:next/one@${next.commit}`, Buffer.from("{}")]);
    const sent = hub.sentBytes;
    assert.equal((await pull(from(`hf:${REPO}`))).source, `hf:${REPO}@${hub.commit}`);
    assert.ok(hub.sentBytes - sent <= 2, "what is whole is not fetched again");
    assert.deepEqual(await made("config.json"), FILES["config.json"]);
  });

  test("a commit that the manifest names is what is asked for, whatever was pinned", async () => {
    await using _ = await fresh();
    const from = (revision: string): Partial<PullOptions> => ({
      manifest: {
        ...MANIFEST,
        pull: { default: "a", variants: { a: { source: `hf:${REPO}@${revision}`, files: [{ from: "config.json" }] } } },
      },
    });
    await pull(from("main"));
    await pull(from(hub.commit));
    await assert.rejects(pull(from("f".repeat(40))), /f{40}/);
  });

  test("a local folder is copied and pinned", async () => {
    await using _ = await fresh();
    const dir = join(root, "source");
    await mkdir(dir);
    await writeFile(join(dir, "w.onnx"), FILES["onnx/model.onnx"]);
    const manifest = {
      ...MANIFEST,
      pull: { default: "a", variants: { a: { source: dir, files: [{ from: "w.onnx", to: "onnx/w.onnx" }] } } },
    };
    await pull({ manifest });
    assert.deepEqual(await made("onnx/w.onnx"), FILES["onnx/model.onnx"]);
    const wrong = {
      ...manifest,
      slug: "other",
      pull: { default: "a", variants: { a: { source: dir, files: [{ from: "w.onnx", sha256: "0".repeat(64) }] } } },
    };
    await assert.rejects(pull({ manifest: wrong }), /has the sha256 [0-9a-f]{64}, expected 0{64}/);
  });
});
