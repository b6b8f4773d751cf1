import { GetBucketLifecycleConfigurationCommand, type LifecycleRule, type S3Client } from "@aws-sdk/client-s3";
import type { ExpiryRule, StoreLifecycle } from "./object-store.ts";
import type { S3Config } from "./s3-config.ts";
import { asStorageError } from "./s3-error.ts";

/** Asks the bucket for its lifecycle rules. A server that has none of them, or a key that may not read them, is an answer, not a failure. */
export async function readLifecycle(client: S3Client, config: S3Config, signal: AbortSignal | undefined): Promise<StoreLifecycle> {
  const { bucket, prefix, endpoint } = config;
  try {
    const send = signal === undefined ? {} : { abortSignal: signal };
    const { Rules } = await client.send(new GetBucketLifecycleConfigurationCommand({ Bucket: bucket }), send);
    return { bucket, prefix, rules: (Rules ?? []).flatMap(asExpiryRule) };
  } catch (thrown) {
    signal?.throwIfAborted();
    if (thrown instanceof Error && thrown.name === "NoSuchLifecycleConfiguration") return { bucket, prefix, rules: [] };
    const error = asStorageError(thrown, { verb: "read the lifecycle rules of", bucket, key: "", endpoint });
    // The server does not know the call, or the key lacks s3:GetLifecycleConfiguration.
    if (error.code === "STORAGE_REJECTED") return { bucket, prefix, rules: null, why: error.message };
    throw error;
  }
}

/** Only rules that hold for every object below their prefix, on their current versions. */
function asExpiryRule(rule: LifecycleRule): readonly ExpiryRule[] {
  const { Status, Filter, Expiration, AbortIncompleteMultipartUpload } = rule;
  // oxlint-disable-next-line typescript/no-deprecated -- rules of before 2018 have it, and servers still answer them
  const { Prefix } = rule;
  const isNarrower = [Filter?.And, Filter?.Tag, Filter?.ObjectSizeGreaterThan, Filter?.ObjectSizeLessThan].some(
    (each) => each !== undefined,
  );
  if (Status !== "Enabled" || isNarrower) return [];
  return [
    {
      prefix: Filter?.Prefix ?? Prefix ?? "",
      expireDays: Expiration?.Days ?? null,
      abortUploadsDays: AbortIncompleteMultipartUpload?.DaysAfterInitiation ?? null,
    },
  ];
}
