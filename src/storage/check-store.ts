import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { isNoSpace } from "../lib/errno.ts";
import { AppError } from "../protocol/error.ts";
import type { CallOptions, ListedObject, ObjectStore } from "./object-store.ts";

/** `ObjectStore.check`: one small object written, read back, listed and deleted, over the store's own verbs. */
export async function checkStore(store: ObjectStore, call: CallOptions): Promise<void> {
  const data = randomBytes(1024);
  await withProbe(store, data, call, async (key) => {
    const object = await store.get(key, call);
    const read = object === null ? null : await buffer(object.body);
    if (read === null || !read.equals(data)) {
      throw new AppError(
        "STORAGE_REJECTED",
        `${store.label}: object ${key} was written but ${read === null ? "cannot be found" : "reads back differently"}`,
      );
    }
    if ((await find(store, key, call)) === null)
      throw new AppError("STORAGE_REJECTED", `${store.label}: object ${key} was written but is not listed`);
  });
}

/**
 * The store's own clock, unix milliseconds: that of a fresh object. Ages of objects are differences to it, so that no machine's clock is
 * held against another's. S3 counts in seconds.
 */
export async function storeNow(store: ObjectStore, call: CallOptions = {}): Promise<number> {
  return withProbe(store, randomBytes(16), call, async (key) => {
    const probe = await find(store, key, call);
    if (probe === null) throw new AppError("STORAGE_UNAVAILABLE", `${store.label}: object ${key} was written but is not listed yet`);
    return probe.modifiedAt;
  });
}

async function find(store: ObjectStore, key: string, call: CallOptions): Promise<ListedObject | null> {
  for await (const listed of store.list(key, call)) if (listed.key === key) return listed;
  return null;
}

async function withProbe<T>(store: ObjectStore, data: Buffer, call: CallOptions, work: (key: string) => Promise<T>): Promise<T> {
  const key = `checks/${randomBytes(8).toString("hex")}`;
  try {
    await putBytes(store, key, data, call);
    return await work(key);
  } finally {
    // The work's own failure is the one to tell. What stays is swept.
    await store.delete(key, call).catch(() => undefined);
  }
}

/** Stores a few bytes: a store itself takes files. */
export async function putBytes(store: ObjectStore, key: string, data: Buffer, call: CallOptions): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-put-")).catch((cause: unknown) => {
    if (isNoSpace(cause))
      throw new AppError("STORAGE_UNAVAILABLE", `the temporary folder ${tmpdir()} is full (${String(cause)}); free its disk`, { cause });
    throw new AppError(
      "CONFIG_INVALID",
      `the temporary folder ${tmpdir()} cannot be used: ${String(cause)}; make it and let this user write there, or set TMPDIR to another`,
      { cause },
    );
  });
  try {
    const path = join(dir, "object");
    await writeFile(path, data);
    const sha256 = createHash("sha256").update(data).digest("hex");
    await store.put(key, path, { ...call, contentType: "application/octet-stream", sha256, sizeBytes: data.length });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
