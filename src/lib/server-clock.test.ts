import assert from "node:assert/strict";
import { test } from "node:test";
import { sampledClock } from "./server-clock.ts";

test("a clock follows its server's, whatever its own says, and asks it every ten seconds at most", async () => {
  let [steady, server, asked] = [1_000, 9_000_000, 0];
  const clock = sampledClock(
    async () => {
      asked += 1;
      return server;
    },
    () => steady,
  );
  assert.deepEqual(await Promise.all([clock(), clock()]), [9_000_000, 9_000_000]);
  steady += 10_000;
  assert.equal(await clock(), 9_010_000);
  assert.equal(asked, 1);
  steady += 1;
  server = 5_000_000;
  assert.equal(await clock(), 5_000_000, "a server that was set back, or another one after a failover");
});

test("half of the way to the server and back is taken off", async () => {
  let steady = 1_000;
  const clock = sampledClock(
    async () => {
      steady += 100;
      return 5_050;
    },
    () => steady,
  );
  assert.equal(await clock(), 5_100);
});

test("a server that does not answer is asked again", async () => {
  let answers = 0;
  const clock = sampledClock(
    async () => {
      answers += 1;
      if (answers === 1) throw new Error("away");
      return 7_000;
    },
    () => 0,
  );
  await assert.rejects(clock(), { message: "away" });
  assert.equal(await clock(), 7_000);
});
