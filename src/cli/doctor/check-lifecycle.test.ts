import assert from "node:assert/strict";
import { test } from "node:test";
import type { ExpiryRule } from "../../storage/object-store.ts";
import { judgeLifecycle, recommendedRules } from "./check-lifecycle.ts";

const RETENTION_MS = 72 * 3_600_000;
const rule = (prefix: string, expireDays: number | null, abortUploadsDays: number | null = null): ExpiryRule => ({
  prefix,
  expireDays,
  abortUploadsDays,
});

const judge = (...rules: readonly ExpiryRule[]): ReturnType<typeof judgeLifecycle> =>
  judgeLifecycle({ bucket: "pictures", prefix: "prod/", rules }, RETENTION_MS);

/** What stands between the quotes of an advice. */
function rulesIn(fix: string | undefined): unknown {
  return JSON.parse(/'(\{.*\})'/.exec(fix ?? "")?.[1] ?? "null");
}

test("the rules that it recommends are enough", () => {
  const { Rules } = recommendedRules("prod/", RETENTION_MS) as {
    Rules: {
      Filter: { Prefix: string };
      Expiration?: { Days: number };
      AbortIncompleteMultipartUpload?: { DaysAfterInitiation: number };
    }[];
  };
  const rules = Rules.map(({ Filter, Expiration, AbortIncompleteMultipartUpload: abort }) =>
    rule(Filter.Prefix, Expiration?.Days ?? null, abort?.DaysAfterInitiation ?? null),
  );
  assert.deepEqual(rules, [rule("prod/inputs/", 4), rule("prod/outputs/", 4), rule("prod/", null, 2)]);
  assert.equal(judge(...rules).level, "ok");
});

test("a bucket without rules is told the exact ones, ready to paste", () => {
  const finding = judge();
  assert.equal(finding.level, "warn");
  assert.match(finding.message, /pictures has no rule for old objects below prod\/inputs\/, .*prod\/outputs\/, uploads that never end/);
  assert.deepEqual(rulesIn(finding.fix), recommendedRules("prod/", RETENTION_MS));
  assert.doesNotMatch(/'(\{.*\})'/.exec(finding.fix ?? "")?.[1] ?? " ", /\s/, "no terminal breaks it");
});

test("one rule for the whole bucket counts; one for another folder does not", () => {
  assert.equal(judge(rule("", 30, 7)).level, "ok");
  assert.match(judge(rule("prod/outputs/", 30, 7)).message, /below prod\/inputs\/, uploads that never end$/);
  assert.match(judge(rule("", 30), rule("test/", 1, 1)).message, /no rule for uploads that never end$/);
});

test("a rule that takes results before their retention is over is a failure", () => {
  for (const days of [1, 3]) {
    const finding = judge(rule("", 30, 7), rule("prod/outputs/", days));
    assert.equal(finding.level, "fail");
    assert.match(finding.message, new RegExp(`after ${days} days, DRYAPI_RETENTION_MS is 3 days`));
  }
  assert.equal(judge(rule("prod/", 4, 1)).level, "ok");
});

test("a server that does not tell is quoted, and the rules are recommended all the same", () => {
  const finding = judgeLifecycle({ bucket: "pictures", prefix: "", rules: null, why: "AccessDenied, HTTP 403" }, RETENTION_MS);
  assert.equal(finding.level, "warn");
  assert.match(finding.message, /not known: AccessDenied, HTTP 403/);
  assert.deepEqual(rulesIn(finding.fix), recommendedRules("", RETENTION_MS));
});
