import assert from "node:assert/strict";
import { test } from "node:test";
import { fakeSession } from "../../../test/support/fake-session.ts";
import { ParkableSession } from "./parkable-session.ts";
import { StagedGraphs } from "./staged-graphs.ts";

test("a stage whose parts are awake has the others parked where its runs need their room", async () => {
  const needs = {
    partBytes: { small: 1, large: 5 },
    stages: [
      { stage: "small", parts: ["small"], activationBytes: 8 },
      { stage: "large", parts: ["large"], activationBytes: 1 },
    ],
  };
  const graphs = new StagedGraphs({ needs, budgetBytes: 10 });
  const open = (part: string) =>
    graphs.open(part, () => ParkableSession.open(part, async () => fakeSession({ inputs: [], outputs: [], run: () => ({}) })));
  const small = await open("small");
  const large = await open("large");
  const woken: string[] = [];
  await graphs.enter("large", (stage) => woken.push(stage));
  assert.deepEqual([small.awake, large.awake], [true, true]);
  await graphs.enter("small", (stage) => woken.push(stage));
  assert.deepEqual([small.awake, large.awake, woken], [true, false, []]);
  await graphs.enter("large", (stage) => woken.push(stage));
  assert.deepEqual([small.awake, large.awake, woken], [true, true, ["load:large"]]);
});
