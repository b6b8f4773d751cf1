import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { asAppError, type AppError } from "../../protocol/error.ts";
import { putBytes } from "../../storage/check-store.ts";
import type { CallOptions, ObjectStore } from "../../storage/object-store.ts";
import { formatMs } from "../terminal.ts";
import { fail, ok, type Finding } from "./finding.ts";

interface Right {
  readonly verb: "write" | "read" | "list" | "delete" | "clean";
  /** As S3 calls it. */
  readonly permission: string;
  /** Which programs need it and what for. */
  readonly needed: string;
}

const RIGHTS: readonly Right[] = [
  { verb: "write", permission: "s3:PutObject", needed: "workers write outputs, gateways inputs" },
  { verb: "read", permission: "s3:GetObject", needed: "workers read inputs, gateways results" },
  { verb: "list", permission: "s3:ListBucket", needed: "the gateways' sweep of old objects" },
  { verb: "clean", permission: "s3:ListBucketMultipartUploads", needed: "the gateways' sweep of uploads that never ended" },
  { verb: "delete", permission: "s3:DeleteObject", needed: "workers and gateways remove what nobody needs any more" },
];

/**
 * One object written, read back, listed and deleted, each by itself: a right that is missing does not hide another. A store that does not
 * answer at all is told once.
 */
export async function checkObjectStore(open: () => Promise<ObjectStore>, signal: AbortSignal): Promise<readonly Finding[]> {
  const started = performance.now();
  const findings: Finding[] = [];
  try {
    await using store = await open();
    const work = steps(store, { signal });
    for (const right of RIGHTS) {
      const error = await work[right.verb]().then(() => null, failure);
      if (error === null) continue;
      if (error.code !== "STORAGE_REJECTED") return [fail("object store", error.message, elsewhere(store.label))];
      findings.push(fail(`object store, ${right.verb}`, `${error.message} (${right.needed})`, advice(store.label, right)));
    }
    if (findings.length > 0) return findings;
    return [ok("object store", `${store.label}: written, read, listed and deleted in ${formatMs(performance.now() - started)}`)];
  } catch (thrown) {
    return [fail("object store", failure(thrown).message, elsewhere(""))];
  }
}

const failure = (thrown: unknown): AppError => asAppError(thrown, "STORAGE_UNAVAILABLE");

/** What of them needs another's success finds out by itself: without an object there is nothing to compare. */
function steps(store: ObjectStore, call: CallOptions): Readonly<Record<Right["verb"], () => Promise<void>>> {
  const key = `checks/${randomBytes(8).toString("hex")}`;
  const data = randomBytes(1024);
  let written = false;
  return {
    write: async () => {
      await putBytes(store, key, data, call);
      written = true;
    },
    read: async () => {
      const object = await store.get(key, call);
      const bytes = object === null ? null : await buffer(object.body);
      if (written && bytes?.equals(data) !== true) throw wrong(store, key, bytes === null ? "cannot be found" : "reads back differently");
    },
    list: async () => {
      let listed = false;
      for await (const found of store.list("checks/", call)) listed ||= found.key === key;
      if (written && !listed) throw wrong(store, key, "is not listed");
    },
    // Older than the epoch: none is removed.
    clean: async () => void (await store.removeUnfinished(0, call)),
    delete: async () => {
      await store.delete(key, call);
      if (written && (await store.head(key, call).catch(() => null)) !== null) throw wrong(store, key, "was deleted and is still there");
    },
  };
}

function wrong(store: ObjectStore, key: string, what: string): AppError {
  return asAppError(new Error(`${store.label}: object ${key} was written but ${what}`), "STORAGE_REJECTED");
}

function advice(label: string, { permission }: Right): string {
  if (label.startsWith("s3:"))
    return `give the keys ${permission} on this bucket, or correct the bucket's name and the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)`;
  return "give the folder to the user that runs dryapi, on a file system that is mounted for writing; under systemd also name it in ReadWritePaths";
}

function elsewhere(label: string): string {
  return label.startsWith("file") ? "check DRYAPI_STORE and the disk below it" : "check DRYAPI_STORE, DRYAPI_S3_ENDPOINT and the network";
}
