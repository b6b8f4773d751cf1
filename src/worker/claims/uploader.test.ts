import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import { openObjectStore, type ObjectStore } from "../../storage/object-store.ts";
import { createUploader, type UploaderOptions, type UploadFailure, type UploadRequest } from "./uploader.ts";

const root = await mkdtemp(join(tmpdir(), "dryapi-upload-"));
after(() => rm(root, { recursive: true, force: true }));

const ID = "request-0001";

async function outputs(texts: Readonly<Record<string, string>>): Promise<{ outDir: string; files: SpoolFile[] }> {
  const outDir = await mkdtemp(join(root, "out-"));
  const files: SpoolFile[] = [];
  for (const [name, text] of Object.entries(texts)) {
    await writeFile(join(outDir, name), text);
    const sha256 = createHash("sha256").update(text).digest("hex");
    files.push({ name, role: "main", contentType: "text/plain", sizeBytes: Buffer.byteLength(text), sha256 });
  }
  return { outDir, files };
}

interface Bench {
  readonly store: ObjectStore;
  readonly folder: string;
  readonly failures: UploadFailure[];
  readonly uploaded: string[];
  readonly delays: number[];
  readonly options: UploaderOptions;
}

/** A real file store that `fault` may make fail: called before each put with its number, from 1. */
async function bench(
  fault: (put: number, key: string) => Promise<void> | void = () => undefined,
  extra: Partial<UploaderOptions> = {},
): Promise<Bench> {
  const folder = await mkdtemp(join(root, "store-"));
  const real = await openObjectStore(pathToFileURL(folder).href);
  let puts = 0;
  const store = new Proxy(real, {
    get(target, name) {
      if (name === "put") {
        return async (...args: Parameters<ObjectStore["put"]>) => {
          await fault((puts += 1), args[0]);
          return target.put(...args);
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  const failures: UploadFailure[] = [];
  const uploaded: string[] = [];
  const delays: number[] = [];
  const options: UploaderOptions = {
    store,
    concurrency: 2,
    random: () => 0,
    sleep: async (ms, signal) => {
      signal?.throwIfAborted();
      delays.push(ms);
    },
    onFailure: (failure) => failures.push(failure),
    onUploaded: ({ key }) => uploaded.push(key),
    ...extra,
  };
  return { store: real, folder, failures, uploaded, delays, options };
}

const request = (made: { outDir: string; files: SpoolFile[] }, signal: AbortSignal = new AbortController().signal): UploadRequest => ({
  id: ID,
  claim: 3,
  ...made,
  signal,
});
const failure = (code: ErrorCode): AppError => new AppError(code, `made to fail: ${code}`);

test("files go to the claim's own keys, whole, in the given order", async () => {
  const { store, options, uploaded } = await bench();
  const made = await outputs({ "a.txt": "one", "b.txt": "two" });
  const results = await createUploader(options).upload(request(made));
  assert.deepEqual(results, [
    { ...made.files[0], key: `outputs/${ID}/3/a.txt` },
    { ...made.files[1], key: `outputs/${ID}/3/b.txt` },
  ]);
  for (const { key, sha256, sizeBytes } of results) {
    const head = await store.head(key);
    assert.equal(head?.sha256, sha256);
    assert.equal(head?.sizeBytes, sizeBytes);
  }
  assert.deepEqual(
    uploaded.toSorted(),
    results.map(({ key }) => key),
  );
});

test("an unavailable store is tried again without end, at growing and capped delays", async () => {
  const { options, delays, failures } = await bench((put) => {
    if (put <= 200) throw failure("STORAGE_UNAVAILABLE");
  });
  await createUploader(options).upload(request(await outputs({ "a.txt": "one" })));
  assert.equal(delays.length, 200);
  assert.deepEqual(delays.slice(0, 3), [500, 1_000, 2_000]);
  assert.equal(Math.max(...delays), 30_000);
  assert.equal(failures.at(-1)?.attempt, 200);
});

test("a refusal is reported and tried again, but slowly", async () => {
  const { options, delays, failures } = await bench((put) => {
    if (put <= 8) throw failure("STORAGE_REJECTED");
  });
  await createUploader(options).upload(request(await outputs({ "a.txt": "one" })));
  assert.deepEqual(delays.slice(0, 2), [15_000, 30_000]);
  assert.equal(delays.at(-1), 300_000);
  assert.ok(failures.every(({ error }) => error.code === "STORAGE_REJECTED"));
});

test("a bad file ends the upload at once and takes back the others", async () => {
  const { options, folder, delays } = await bench();
  const made = await outputs({ "a.txt": "one", "b.txt": "two" });
  await writeFile(join(made.outDir, "b.txt"), "not what its maker said");
  await assert.rejects(
    createUploader(options).upload(request(made)),
    (thrown) => thrown instanceof AppError && thrown.code === "BAD_OUTPUT",
  );
  assert.deepEqual(delays, []);
  assert.deepEqual(await readdir(folder), []);
});

for (const [code, kept] of [
  ["LOCK_LOST", false],
  ["CANCELLED", false],
  ["INTERNAL", true],
] as const) {
  test(`an upload that is aborted with ${code} ${kept ? "keeps" : "takes back"} what it put`, async () => {
    const controller = new AbortController();
    const reason = failure(code);
    const { options, store } = await bench((_put, key) => {
      if (key.endsWith("b.txt")) throw failure("STORAGE_UNAVAILABLE");
    });
    const first = Promise.withResolvers<void>();
    const waiting = Promise.withResolvers<void>();
    const upload = createUploader({
      ...options,
      onUploaded: () => first.resolve(),
      // Waits as long as the signal lets it: for ever.
      sleep: (_ms, signal) =>
        new Promise((_resolve, reject) => {
          signal?.addEventListener("abort", () => reject(signal.reason));
          waiting.resolve();
        }),
    }).upload(request(await outputs({ "a.txt": "one", "b.txt": "two" }), controller.signal));
    await Promise.all([first.promise, waiting.promise]);
    controller.abort(reason);
    await assert.rejects(upload, reason);
    assert.equal((await store.head(`outputs/${ID}/3/a.txt`)) !== null, kept);
  });
}

test("never more transfers at once than allowed, over all jobs, and waiting for a retry takes no place", async () => {
  let running = 0;
  let most = 0;
  const { options } = await bench(async (put) => {
    running += 1;
    most = Math.max(most, running);
    await new Promise(setImmediate);
    running -= 1;
    if (put % 3 === 0) throw failure("STORAGE_UNAVAILABLE");
  });
  const uploader = createUploader(options);
  const made = await outputs({ "a.txt": "1", "b.txt": "2", "c.txt": "3" });
  await Promise.all([1, 2, 3, 4].map((claim) => uploader.upload({ ...request(made), claim })));
  assert.equal(most, 2);
});

test("what earlier claims left is taken away; this claim's, a later one's and another job's stay", async () => {
  const { store, options } = await bench();
  const uploader = createUploader(options);
  const made = await outputs({ "a.txt": "1", "b.txt": "2" });
  for (const claim of [1, 2, 10]) await uploader.upload({ ...request(made), claim });
  const other = `${ID}x`;
  await uploader.upload({ ...request(made), id: other, claim: 1 });
  await uploader.removeEarlier(ID, 2);
  const keys: string[] = [];
  for await (const { key } of store.list("outputs/")) keys.push(key.slice("outputs/".length));
  const expected = [`${ID}/10/a.txt`, `${ID}/10/b.txt`, `${ID}/2/a.txt`, `${ID}/2/b.txt`, `${other}/1/a.txt`, `${other}/1/b.txt`];
  assert.deepEqual(keys, expected.toSorted());
});

test("a store that fails does not fail the removal of what earlier claims left", async () => {
  const { options } = await bench();
  const broken = Object.assign(Object.create(options.store) as ObjectStore, {
    list: () => {
      throw failure("STORAGE_UNAVAILABLE");
    },
  });
  await createUploader({ ...options, store: broken }).removeEarlier(ID, 2);
});
