import type { ExpiryRule, ObjectStore, StoreLifecycle } from "../../storage/object-store.ts";
import { fail, ok, warn, type Finding } from "./finding.ts";

const CHECK = "bucket lifecycle";
const DAY_MS = 86_400_000;
/** No upload takes so long: each is tried anew as a whole. */
const ABORT_DAYS = 2;
const FOLDERS = ["inputs/", "outputs/"] as const;

/**
 * Lifecycle rules of the bucket are the second line behind the sweep (DRYAPI_SWEEP_MS): they work also when nothing of ours runs. None for
 * a store without them, and none when it does not answer, which its own check tells.
 */
export async function checkLifecycle(
  open: () => Promise<ObjectStore>,
  retentionMs: number,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  try {
    await using store = await open();
    const found = await store.readLifecycle({ signal });
    return found === null ? [] : [judgeLifecycle(found, retentionMs)];
  } catch {
    return [];
  }
}

export function judgeLifecycle({ bucket, prefix, rules, why }: StoreLifecycle, retentionMs: number): Finding {
  const fix = advice(bucket, prefix, retentionMs);
  if (rules === null) return warn(CHECK, `whether ${bucket} has rules for old objects is not known: ${why ?? "no answer"}`, fix);
  const early = FOLDERS.flatMap((folder) => covering(rules, prefix + folder)).find((days) => days * DAY_MS <= retentionMs);
  if (early !== undefined) {
    const text = `${bucket} deletes objects after ${early} days, DRYAPI_RETENTION_MS is ${formatDays(retentionMs)}: results vanish before their time`;
    return fail(CHECK, text, fix);
  }
  const missing = [
    ...FOLDERS.filter((folder) => covering(rules, prefix + folder).length === 0).map((folder) => `old objects below ${prefix}${folder}`),
    ...(rules.some((rule) => prefix.startsWith(rule.prefix) && rule.abortUploadsDays !== null) ? [] : ["uploads that never end"]),
  ];
  if (missing.length > 0) return warn(CHECK, `${bucket} has no rule for ${missing.join(", ")}`, fix);
  return ok(CHECK, `${bucket} deletes old objects and uploads that never end`);
}

/** After how many days rules delete what lies below a prefix. */
function covering(rules: readonly ExpiryRule[], folder: string): readonly number[] {
  return rules.flatMap(({ prefix, expireDays }) => (folder.startsWith(prefix) && expireDays !== null ? [expireDays] : []));
}

/** Compact: a line break in it would spoil the paste. */
function advice(bucket: string, prefix: string, retentionMs: number): string {
  return `as a second line behind the sweep, set these rules besides those that ${bucket} has (aws s3api put-bucket-lifecycle-configuration --bucket ${bucket} --lifecycle-configuration <rules>): '${JSON.stringify(recommendedRules(prefix, retentionMs))}'`;
}

/** As PutBucketLifecycleConfiguration takes it. A day over the retention: results are younger than their requests. */
export function recommendedRules(prefix: string, retentionMs: number): { readonly Rules: readonly object[] } {
  const Days = Math.ceil(retentionMs / DAY_MS) + 1;
  const rule = (name: string, below: string, more: object): object => ({
    ID: `dryapi-${name}`,
    Status: "Enabled",
    Filter: { Prefix: below },
    ...more,
  });
  return {
    Rules: [
      ...FOLDERS.map((folder) => rule(folder.slice(0, -1), `${prefix}${folder}`, { Expiration: { Days } })),
      rule("uploads", prefix, { AbortIncompleteMultipartUpload: { DaysAfterInitiation: ABORT_DAYS } }),
    ],
  };
}

function formatDays(ms: number): string {
  return `${Math.round((ms / DAY_MS) * 10) / 10} days`;
}
