import assert from "node:assert/strict";
import { it } from "node:test";
import { DeviceMemory } from "./device-memory.ts";

const MIB = 1024 * 1024;
const OWN = String(process.pid);

it("what this process uses is summed over the GPUs, and asked for at most every ten seconds", async () => {
  const clock = { ms: 0 };
  let asked = 0;
  const query = () => {
    asked += 1;
    return Promise.resolve([
      [OWN, "100"],
      ["1", "7000"],
      [OWN, String(asked)],
    ]);
  };
  const memory = new DeviceMemory("cuda", query, () => clock.ms);
  assert.equal(await memory.read(), 101 * MIB);
  clock.ms = 9_999;
  assert.equal(await memory.read(), 101 * MIB);
  clock.ms = 10_000;
  assert.equal(await memory.read(), 102 * MIB);
});

it("where the driver does not list this process nothing is made up, and it is not asked again", async () => {
  let asked = 0;
  const query = () => {
    asked += 1;
    return Promise.resolve([["1", "7000"]]);
  };
  const memory = new DeviceMemory("cuda", query, () => asked * 60_000);
  assert.deepEqual([await memory.read(), await memory.read(), asked], [null, null, 1]);
});

it("cpu and webgpu have no such number", async () => {
  const never = () => assert.fail("there is nothing to ask");
  assert.deepEqual([await new DeviceMemory("cpu", never).read(), await new DeviceMemory("webgpu", never).read()], [null, null]);
});
