import assert from "node:assert/strict";
import { test } from "node:test";
import { runSchemathesis } from "./schemathesis.ts";

/** One of each kind: files, languages, several models, a list of texts; and all that is no task. */
const SOME = "/(requests|request-status|models|balance|settings|img2img|txt2audio|txt2img|broadcasting|r/|healthz|docs|openapi|console)";

test("what OpenAPI allows is accepted and what it refuses is refused; answers, headers and methods are as it says", async () => {
  const report = await runSchemathesis(["--generation-deterministic", "--max-examples", "2", "--include-path-regex", SOME]);
  const [, cases = "0"] = /(\d+) generated, \d+ passed/.exec(report) ?? [];
  assert.ok(Number(cases) > 500, report.slice(-2_000));
});
