import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { addClient, startGateway } from "../support/gateway.ts";
import { runPythonClient } from "../support/python-client.ts";
import { startSystem } from "../support/system.ts";

const JOB = { model: "fake", prompt: "x", width: 64, height: 64, steps: 1 };

test("a Python receiver with typed models and PyPI's verifier takes tests, both secrets of an overlap, and a request's own URL", async () => {
  await using system = await startSystem();
  const env = { DRYAPI_ALLOW_HTTP_WEBHOOKS: "1", DRYAPI_EGRESS_ALLOW: "127.0.0.0/8", DRYAPI_WEBHOOK_HEADER_PREFIX: "X-DeAPI" };
  await using gateway = await startGateway(system, env);
  const out = await runPythonClient("python", [join(import.meta.dirname, "webhook_receiver.py")], {
    DRYAPI_URL: gateway.url,
    DRYAPI_KEY: await addClient(system),
    DRYAPI_PREFIX: "X-DeAPI",
    JOB: JSON.stringify(JOB),
  });
  const tests = ["webhook.test", "job.processing", "job.completed", "job.failed"];
  assert.deepEqual(JSON.parse(out), { seen: [...tests, ...tests, "job.failed"] });
});
