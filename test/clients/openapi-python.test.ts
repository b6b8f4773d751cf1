import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { addClient, ApiClient, startGateway } from "../support/gateway.ts";
import { runPythonClient } from "../support/python-client.ts";
import { startSystem } from "../support/system.ts";

test("a client that openapi-python-client makes of all operations compiles and uses the API", async () => {
  await using system = await startSystem({ DRYAPI_MODELS: "tiny-flux-schnell,tiny-flux-dev" });
  await using gateway = await startGateway(system);
  const client = join(system.dir, "dryapi_client");
  const generate = ["generate", "--url", `${gateway.url}/openapi.json`, "--output-path", client, "--meta", "none", "--fail-on-warning"];
  const config = fileURLToPath(new URL("openapi-python.yaml", import.meta.url));
  await runPythonClient("openapi-python-client", [...generate, "--config", config]);
  await runPythonClient("python", ["-W", "error", "-m", "compileall", "-q", client]);

  const key = await addClient(system);
  const picture = fileURLToPath(new URL("init-128.png", FLUX_FIXTURES));
  const script = join(import.meta.dirname, "generated_client.py");
  const told = JSON.parse(await runPythonClient("python", [script, gateway.url, key, picture], { PYTHONPATH: system.dir })) as Readonly<
    Record<string, unknown>
  >;
  const { id, listed, uploaded, ...rest } = told;
  assert.deepEqual(listed, [id]);
  assert.deepEqual(rest, {
    refused: { prompt: ["The prompt field is required."] },
    price: 0,
    models: ["tiny-flux-dev", "tiny-flux-schnell"],
    status: "pending",
    prompt: "a fox",
    cancelled: ["error", "CANCELLED"],
  });
  assert.equal((await new ApiClient(gateway.url, key).status(String(uploaded)))["status"], "pending");
});
