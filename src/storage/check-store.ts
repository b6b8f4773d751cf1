import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { AppError } from "../protocol/error.ts";
import type { CallOptions, ObjectStore } from "./object-store.ts";

/** `ObjectStore.check`: one small object written, read back, listed and deleted, over the store's own verbs. */
export async function checkStore(store: ObjectStore, call: CallOptions): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-check-"));
  const key = `checks/${randomBytes(8).toString("hex")}`;
  const data = randomBytes(1024);
  try {
    const path = join(dir, "object");
    await writeFile(path, data);
    const sha256 = createHash("sha256").update(data).digest("hex");
    await store.put(key, path, { ...call, contentType: "application/octet-stream", sha256, sizeBytes: data.length });
    const object = await store.get(key, call);
    const read = object === null ? null : await buffer(object.body);
    if (read === null || !read.equals(data)) {
      throw new AppError(
        "STORAGE_REJECTED",
        `${store.label}: object ${key} was written but ${read === null ? "cannot be found" : "reads back differently"}`,
      );
    }
    for await (const listed of store.list(key, call)) {
      if (listed.key === key) return;
    }
    throw new AppError("STORAGE_REJECTED", `${store.label}: object ${key} was written but is not listed`);
  } finally {
    await rm(dir, { recursive: true, force: true });
    // The check's own failure is the one to tell.
    await store.delete(key, call).catch(() => undefined);
  }
}
