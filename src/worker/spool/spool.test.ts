import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import { openSpool, type Spool, type SpoolClaim, type SpoolOptions } from "./spool.ts";
import { SPOOL_VERSION, type ClaimRecord, type CompleteRecord } from "./spool-record.ts";

const root = await mkdtemp(join(tmpdir(), "dryapi-spool-"));
after(() => rm(root, { recursive: true, force: true }));

const ID = "request-0001";
const roomy: SpoolOptions = { maxBytes: 1e9, minFreeBytes: 0 };
let spools = 0;

async function openTest(t: TestContext, options: Partial<SpoolOptions> = {}): Promise<Spool> {
  const spool = await openSpool(join(root, `spool-${(spools += 1)}`), { ...roomy, ...options });
  t.after(() => spool[Symbol.asyncDispose]());
  return spool;
}

function claimOf(claim: number, id = ID): ClaimRecord {
  return {
    v: SPOOL_VERSION,
    id,
    queue: "tiny",
    token: `token-${claim}`,
    claim,
  };
}

async function output(entry: SpoolClaim, name: string, text: string): Promise<SpoolFile> {
  await writeFile(join(entry.outDir, name), text);
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { name, role: "main", contentType: "text/plain", sizeBytes: Buffer.byteLength(text), sha256 };
}

function completeOf(files: readonly SpoolFile[]): CompleteRecord {
  const timings = { queueMs: 1, loadMs: 2, inputMs: 3, runMs: 4, encodeMs: 5 };
  return { v: SPOOL_VERSION, files, seed: 7, info: { width: 8 }, timings, device: "cpu:0", completedAt: 2 };
}

async function finished(spool: Spool, claim: number, text: string): Promise<SpoolClaim> {
  const entry = await spool.create(claimOf(claim));
  await spool.complete(entry, completeOf([await output(entry, "o.txt", text)]));
  return entry;
}

const hasCode =
  (code: ErrorCode, ...words: readonly string[]) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof AppError && thrown.code === code, String(thrown));
    for (const word of words) assert.ok(thrown.message.includes(word), `"${thrown.message}" does not name ${word}`);
    return true;
  };

test("a claim survives a restart as what it was: begun or complete", async () => {
  const dir = join(root, "restart");
  const before = await openSpool(dir, roomy);
  const begun = await before.create(claimOf(1, "request-begun"));
  const done = await finished(before, 2, "picture");
  await before[Symbol.asyncDispose]();
  await using again = await openSpool(dir, roomy);
  const entries = await again.scan();
  assert.deepEqual(
    entries.map(({ claim, complete }) => [claim.id, claim.claim, claim.token, complete?.seed]),
    [
      [ID, 2, "token-2", 7],
      ["request-begun", 1, "token-1", undefined],
    ],
  );
  assert.ok(entries.some((entry) => entry.outDir === begun.outDir) && entries.some((entry) => entry.outDir === done.outDir));
});

test("finished outputs of an earlier claim are found, the newest first", async (t) => {
  const spool = await openTest(t);
  assert.equal(await spool.findComplete(ID), null);
  await finished(spool, 1, "one");
  await finished(spool, 10, "ten");
  await spool.create(claimOf(11));
  const found = await spool.findComplete(ID);
  assert.equal(found?.claim.claim, 10);
  assert.ok(found?.complete !== null && found !== null);
  await spool.verify(found, found.complete.files);
});

test("files that are not what their maker said are BAD_OUTPUT and named", async (t) => {
  const spool = await openTest(t);
  const entry = await spool.create(claimOf(1));
  const file = await output(entry, "o.png", "pixels");
  await spool.verify(entry, [file]);
  await assert.rejects(spool.verify(entry, [{ ...file, sizeBytes: 7 }]), hasCode("BAD_OUTPUT", "o.png", "6", "7"));
  await assert.rejects(spool.verify(entry, [{ ...file, sha256: "0".repeat(64) }]), hasCode("BAD_OUTPUT", "o.png", "sha256"));
  await assert.rejects(spool.verify(entry, [file, { ...file, name: "none.png" }]), hasCode("BAD_OUTPUT", "none.png", "does not exist"));
  await mkdir(join(entry.outDir, "folder"));
  await assert.rejects(spool.verify(entry, [{ ...file, name: "folder" }]), hasCode("BAD_OUTPUT", "folder"));
});

test("the same claim again starts from an empty folder", async (t) => {
  const spool = await openTest(t);
  const first = await finished(spool, 1, "old");
  await spool.create(claimOf(1));
  assert.deepEqual(await readdir(first.outDir), []);
  assert.equal(await spool.findComplete(ID), null);
});

test("removing a claim takes the earlier ones along and leaves a later one, which may be under way again", async (t) => {
  const spool = await openTest(t);
  await finished(spool, 1, "one");
  await finished(spool, 2, "two");
  await spool.create(claimOf(3));
  await spool.removeUpTo(ID, 2);
  assert.deepEqual(
    (await spool.scan()).map(({ claim }) => claim.claim),
    [3],
  );
  await spool.removeUpTo(ID, 3);
  await spool.removeUpTo(ID, 3);
  assert.deepEqual(await readdir(spool.dir), ["lock"]);
  await assert.rejects(spool.removeUpTo("../..", 1), hasCode("INTERNAL"));
});

test("of a claim that is given up only whole outputs stay", async (t) => {
  const spool = await openTest(t);
  await finished(spool, 1, "one");
  await spool.create(claimOf(2));
  await spool.removeUnfinished(ID, 1);
  await spool.removeUnfinished(ID, 2);
  assert.deepEqual(
    (await spool.scan()).map(({ claim }) => claim.claim),
    [1],
  );
});

test("one more run of a claim starts from an empty folder and keeps its inputs", async (t) => {
  const spool = await openTest(t);
  const entry = await spool.create(claimOf(1));
  await mkdir(entry.inDir);
  await writeFile(join(entry.inDir, "0"), "input");
  await writeFile(join(entry.outDir, "half.png"), "half");
  await spool.emptyOutputs(entry);
  assert.deepEqual(await readdir(entry.outDir), []);
  assert.deepEqual(await readdir(entry.inDir), ["0"]);
});

test("a damaged record is reported, and the rest goes on", async (t) => {
  const problems: string[] = [];
  const spool = await openTest(t, { onProblem: (message) => problems.push(message) });
  const cut = await finished(spool, 1, "one");
  await writeFile(join(cut.dir, "complete.json"), '{"v":1,"fil');
  const broken = await spool.create(claimOf(2));
  await writeFile(join(broken.dir, "claim.json"), JSON.stringify({ ...claimOf(2), token: 5 }));
  const moved = await spool.create(claimOf(3));
  await writeFile(join(moved.dir, "claim.json"), JSON.stringify(claimOf(4)));
  const entries = await spool.scan();
  assert.deepEqual(
    entries.map(({ claim, complete }) => [claim.claim, complete]),
    [[1, null]],
  );
  assert.equal(problems.length, 3);
  for (const word of ["complete.json", "token", "belongs to"])
    assert.ok(
      problems.some((text) => text.includes(word)),
      word,
    );
});

test("it is full at its own limit and at the disk's, and says which", async (t) => {
  const small = await openTest(t, { maxBytes: 2_000 });
  const empty = await small.usage();
  assert.equal(empty.fullReason, null);
  assert.equal(empty.roomBytes, 2_000 - empty.usedBytes);
  await finished(small, 1, "x".repeat(2_000));
  const usage = await small.usage();
  assert.ok(usage.usedBytes >= 2_000);
  assert.match(usage.fullReason ?? "", /its limit is 2000/);
  assert.equal(usage.roomBytes, 0);
  const crowded = await openTest(t, { minFreeBytes: Number.MAX_SAFE_INTEGER });
  const noRoom = await crowded.usage();
  assert.match(noRoom.fullReason ?? "", /must stay free/);
  assert.equal(noRoom.roomBytes, 0);
});

test("a sweep takes what no claim owns once it is old, and nothing else", async (t) => {
  const spool = await openTest(t);
  await finished(spool, 1, "kept");
  await mkdir(join(spool.dir, "request-none", "1", "out"), { recursive: true });
  await mkdir(join(spool.dir, ID, "2"));
  await mkdir(join(spool.dir, "request-empty"));
  await mkdir(join(spool.dir, "request-young", "1"), { recursive: true });
  await mkdir(join(spool.dir, "somebody.else"));
  await writeFile(join(spool.dir, "lock.abc"), "");
  const old = new Date(Date.now() - 3_600_000);
  for (const path of ["request-none/1", "request-none", `${ID}/2`, "request-empty", "lock.abc", ID, `${ID}/1`]) {
    await utimes(join(spool.dir, path), old, old);
  }
  await spool.sweep(60_000);
  assert.deepEqual((await readdir(spool.dir)).toSorted(), ["lock", ID, "request-young", "somebody.else"].toSorted());
  assert.deepEqual(await readdir(join(spool.dir, ID)), ["1"]);
  assert.equal((await spool.findComplete(ID))?.claim.claim, 1);
});

test("a second daemon is refused while the first holds the folder, and let in after", async () => {
  const dir = join(root, "locked");
  const first = await openSpool(dir, roomy);
  await assert.rejects(openSpool(dir, roomy), hasCode("CONFIG_INVALID", dir, String(process.pid)));
  await first[Symbol.asyncDispose]();
  const second = await openSpool(dir, roomy);
  await second[Symbol.asyncDispose]();
  assert.deepEqual(await readdir(dir), []);
});

test("a folder that cannot be made is CONFIG_INVALID", async () => {
  await writeFile(join(root, "plain-file"), "");
  await assert.rejects(openSpool(join(root, "plain-file", "spool"), roomy), hasCode("CONFIG_INVALID", "plain-file"));
});
