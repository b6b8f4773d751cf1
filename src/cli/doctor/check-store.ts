import { asAppError } from "../../protocol/error.ts";
import type { ObjectStore } from "../../storage/object-store.ts";
import { formatMs } from "../terminal.ts";
import { fail, ok, type Finding } from "./finding.ts";

/** Writes, reads, lists and deletes one object. */
export async function checkObjectStore(open: () => Promise<ObjectStore>, signal: AbortSignal): Promise<Finding> {
  const started = performance.now();
  try {
    await using store = await open();
    await store.check({ signal });
    return ok("object store", `${store.label}: written, read, listed and deleted in ${formatMs(performance.now() - started)}`);
  } catch (thrown) {
    const error = asAppError(thrown, "STORAGE_UNAVAILABLE");
    const fix =
      error.code === "STORAGE_REJECTED"
        ? "check the bucket, the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and their permissions"
        : "check DRYAPI_STORE, DRYAPI_S3_ENDPOINT and the network";
    return fail("object store", error.message, fix);
  }
}
