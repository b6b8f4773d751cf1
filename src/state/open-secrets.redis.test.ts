import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { openSecrets } from "./open-secrets.ts";

let rig: RedisRig;
before(async () => {
  rig = await startRedisRig();
});
after(() => rig[Symbol.asyncDispose]());

test("gateways that start at the same time agree on one secret, for good", async () => {
  const keys = rig.namespace();
  const gateways = await Promise.all(Array.from({ length: 5 }, async () => openSecrets({ redis: await rig.connect("producer"), keys })));
  const found = new Set(await Promise.all(gateways.map((secrets) => secrets.get("result-links"))));
  assert.equal(found.size, 1);
  const [secret = ""] = found;
  assert.match(secret, /^[0-9a-f]{64}$/);
  const later = openSecrets({ redis: await rig.connect(), keys });
  assert.equal(await later.get("result-links"), secret);
  assert.notEqual(await later.get("app-secret"), secret);
});
