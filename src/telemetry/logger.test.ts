import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import { createLogger, jobLogger, type Logger, type LoggerOptions } from "./logger.ts";

function capture(options: Partial<LoggerOptions> = {}): { readonly log: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const log = createLogger({ level: "info", ...options, destination: { write: (line) => void lines.push(line) } });
  return { log, lines };
}

function only(lines: readonly string[]): Record<string, unknown> {
  assert.equal(lines.length, 1);
  return JSON.parse(lines[0] ?? "") as Record<string, unknown>;
}

test("a job's line carries job, model, claim and the base fields", () => {
  const { log, lines } = capture({ base: { worker: "gpu-7" } });
  jobLogger(log, { job: "job-1", model: "tiny", claim: 2 }).info({ stage: "run" }, "started");
  const line = only(lines);
  assert.partialDeepStrictEqual(line, {
    level: "info",
    worker: "gpu-7",
    job: "job-1",
    model: "tiny",
    claim: 2,
    stage: "run",
    msg: "started",
  });
  assert.match(String(line["time"]), /^\d{4}-\d\d-\d\dT/);
});

test("an error is logged with code, black box and its whole chain of causes", () => {
  const { log, lines } = capture();
  const cause = new Error("connect refused", { cause: "plain text" });
  log.error({ err: new AppError("RUNNER_CRASHED", "runner died", { cause, blackBox: { signal: "SIGSEGV" } }) }, "failed");
  assert.partialDeepStrictEqual(only(lines)["err"], {
    type: "AppError",
    code: "RUNNER_CRASHED",
    blackBox: { signal: "SIGSEGV" },
    cause: { message: "connect refused", cause: { type: "string", message: "plain text" } },
  });
});

test("an error that causes itself does not hang the log", () => {
  const { log, lines } = capture();
  const error = new Error("loop");
  error.cause = error;
  log.error({ err: error }, "failed");
  assert.equal(lines.length, 1);
});

test("secrets vanish from messages, fields, stacks and causes", () => {
  const { log, lines } = capture({ secrets: ["hunter2222"] });
  const cause = new Error("login redis://u:other-pass@h with hunter2222 failed");
  log.child({ password: "abc" }).error({ err: new AppError("REDIS_UNAVAILABLE", "hunter2222", { cause }) }, "url redis://u:other-pass@h");
  assert.doesNotMatch(lines.join(""), /hunter2222|other-pass|"abc"/);
  assert.equal(only(lines)["password"], "[redacted]");
});

test("the text format is one readable line with the error below it", () => {
  const { log, lines } = capture({ format: "text", secrets: ["hunter2222"] });
  log.warn({ model: "tiny flux", step: 2, err: new AppError("INTERNAL", "hunter2222 broke", { cause: new Error("inner") }) }, "careful");
  assert.match(
    lines[0] ?? "",
    /^\d\d:\d\d:\d\d\.\d{3} WARN {2}careful model="tiny flux" step=2\n {4}\[INTERNAL\] AppError: \[redacted\] broke\n/,
  );
  assert.match(lines[0] ?? "", /caused by:\n\s+Error: inner/);
});

test("lines below the level are not written", () => {
  const { log, lines } = capture({ level: "warn" });
  log.info("quiet");
  assert.deepEqual(lines, []);
});
