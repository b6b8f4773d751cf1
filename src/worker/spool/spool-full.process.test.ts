import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { onTinyDisk } from "../../../test/support/tiny-disk.ts";

const root = await mkdtemp(join(tmpdir(), "dryapi-full-"));
after(() => rm(root, { recursive: true, force: true }));
const from = (path: string): string => JSON.stringify(import.meta.resolve(path));

test("a full disk is SPOOL_FULL, names the folder, is full whatever the limits say, and room makes it work again", async (t) => {
  const said = await onTinyDisk(
    `import { openSpool } from ${from("./spool.ts")};
     import { rm, writeFile } from "node:fs/promises";
     import { randomBytes } from "node:crypto";
     const dir = process.argv[2] + "/spool";
     const spool = await openSpool(dir, { maxBytes: 1e9, minFreeBytes: 0 });
     await writeFile(process.argv[2] + "/filler", randomBytes(300_000)).catch(() => {});
     const claim = { v: 1, id: "request-0001", queue: "q", token: "t", claim: 1 };
     const code = await spool.create(claim).then(() => "created", (error) => [error.code, error.message.includes(dir)]);
     const partials = (await spool.scan()).length;
     const { fullReason } = await spool.usage();
     await rm(process.argv[2] + "/filler");
     const after = await spool.create(claim).then(() => "created", String);
     const room = (await spool.usage()).fullReason;
     console.log(JSON.stringify({ code, partials, full: fullReason !== null, after, room }));
     process.exit(0);`,
    (reason) => t.skip(reason),
  );
  if (said !== null) assert.deepEqual(said, { code: ["SPOOL_FULL", true], partials: 0, full: true, after: "created", room: null });
});

test("a download that fills the disk is known for a full disk, and no fault of the client's URL", async (t) => {
  const said = await onTinyDisk(
    `import { createServer } from "node:http";
     import { openGuardedFetch } from ${from("../../net/open-guarded-fetch.ts")};
     import { diskFull } from ${from("../../protocol/disk-full.ts")};
     import { fetchSource } from ${from("../claims/fetch-source.ts")};
     const server = createServer((_request, response) => response.end(Buffer.alloc(600_000))).listen(0, "127.0.0.1");
     await new Promise((resolve) => server.once("listening", resolve));
     const fetch = openGuardedFetch({ egressAllow: ["127.0.0.0/8"], allowHttp: true });
     const url = "http://127.0.0.1:" + server.address().port + "/speech.wav";
     const options = { url, path: process.argv[2] + "/source", maxBytes: 1e9, signal: new AbortController().signal };
     const code = await fetchSource(fetch, options).then(() => "fetched", (error) => diskFull(error)?.code ?? error.code);
     console.log(JSON.stringify(code));
     process.exit(0);`,
    (reason) => t.skip(reason),
  );
  if (said !== null) assert.equal(said, "SPOOL_FULL");
});

test("a full disk under a file store is STORAGE_UNAVAILABLE and leaves no partial object", async (t) => {
  const said = await onTinyDisk(
    `import { openObjectStore } from ${from("../../storage/object-store.ts")};
     import { createHash, randomBytes } from "node:crypto";
     import { writeFile, readdir } from "node:fs/promises";
     const data = randomBytes(600_000);
     const file = ${JSON.stringify(root)} + "/big";
     await writeFile(file, data);
     const store = await openObjectStore("file://" + process.argv[2] + "/objects");
     const options = { contentType: "a/b", sizeBytes: data.length, sha256: createHash("sha256").update(data).digest("hex") };
     const code = await store.put("o/big", file, options).then(() => "put", (error) => [error.code, error.message.includes("disk is full")]);
     const left = (await readdir(process.argv[2] + "/objects", { recursive: true })).filter((name) => name.includes("big"));
     console.log(JSON.stringify({ code, left }));
     process.exit(0);`,
    (reason) => t.skip(reason),
  );
  if (said !== null) assert.deepEqual(said, { code: ["STORAGE_UNAVAILABLE", true], left: [] });
});
