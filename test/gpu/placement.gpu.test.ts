/** Every family is loaded as the daemon does it, in a runner of its own: where do the nodes of its graphs go? */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { firstDevice, placeModel } from "../../src/cli/verify-placement.ts";
import { scanModels } from "../../src/models/scan-models.ts";
import { EXECUTION_PROVIDERS, type GraphPlacement } from "../../src/protocol/ipc.ts";
import { leftOver } from "../../src/worker/runners/node-placement.ts";
import { TEST_DEVICE } from "../support/test-device.ts";
import { report } from "./report.ts";

/** The arithmetic of a network: on a GPU none of it may be left to the CPU, which is to get numbers about shapes alone. */
const HEAVY =
  /^(Fused)?(MatMul\w*|Gemm|Conv|ConvTranspose|NhwcConv|LSTM|GRU|RNN|\w*Attention|(Simplified|Skip|Instance|Group|Batch|Layer)\w*Normalization|Softmax|Gelu|FastGelu|BiasGelu|QuickGelu|Erf|Resize|Upsample)$/;

function heavyElsewhere(graph: GraphPlacement): readonly string[] {
  return Object.entries(leftOver(graph, TEST_DEVICE.kind)).flatMap(([provider, operators]) =>
    Object.entries(operators)
      .filter(([operator]) => HEAVY.test(operator))
      .map(([operator, count]) => `${count} ${operator} on ${provider}`),
  );
}

test("every node with a network's arithmetic runs on the device, in every graph of every family", async () => {
  const { models } = await scanModels({ shippedDir: join(import.meta.dirname, "..", "..", "models"), modelDirs: [] });
  const device = await firstDevice(TEST_DEVICE.kind, process.env);
  const provider = EXECUTION_PROVIDERS[TEST_DEVICE.kind];
  const found: Record<string, unknown> = {};
  const wrong: string[] = [];
  const tiny = [...models.values()].filter(({ slug, state }) => slug.startsWith("tiny-") && state === "available");
  assert.deepEqual([...new Set(tiny.map(({ manifest }) => manifest.family))].toSorted(), [
    "flux",
    "kokoro",
    "ltx-video",
    "musicgen",
    "vits",
    "whisper",
  ]);
  for (const model of tiny) {
    const { loadMs, graphs } = await placeModel(model, device, { ...process.env, ORT_DISABLE_TELEMETRY: "1" });
    assert.ok(graphs.length > 0, `${model.slug}: the library named no graph`);
    for (const graph of graphs) {
      const name = `${model.slug}/${graph.path}`;
      assert.ok(Object.values(graph.operators[provider] ?? {}).length > 0, `${name}: no node runs on ${provider}`);
      wrong.push(...heavyElsewhere(graph).map((text) => `${name}: ${text}`));
    }
    found[model.slug] = { loadMs, graphs };
  }
  report("placement", found);
  assert.deepEqual(wrong, []);
});
