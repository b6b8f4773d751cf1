import assert from "node:assert/strict";
import { test } from "node:test";
import { EVENT_VERSION, type JobEvent } from "../protocol/event.ts";
import { EventOrder } from "./event-order.ts";

function event(type: JobEvent["type"], seq: number, claim = 1, id = "a"): JobEvent {
  return { v: EVENT_VERSION, id, seq, claim, type, at: 1, progress: 0 };
}

function told(events: readonly JobEvent[], order = new EventOrder()): readonly string[] {
  return events.flatMap((each) => {
    const taken = order.take(each);
    return taken === null ? [] : [`${taken.type} ${taken.seq}`];
  });
}

test("events come once and in order", () => {
  const events = [event("processing", 1), event("progress", 2), event("progress", 2), event("preview", 4), event("progress", 3)];
  assert.deepEqual(told(events), ["processing 1", "progress 2", "preview 4"]);
});

test("a claim that is over is not heard any more", () => {
  const events = [event("processing", 1), event("requeued", 2), event("progress", 3, 2), event("progress", 4, 1), event("done", 5, 2)];
  assert.deepEqual(told(events), ["processing 1", "requeued 2", "progress 3", "done 5"]);
});

test("only the first claim's beginning is a beginning", () => {
  const events = [event("processing", 1), event("requeued", 2), event("processing", 3, 2)];
  assert.deepEqual(told(events), ["processing 1", "requeued 2", "progress 3"]);
});

test("a claim after one that never began is a beginning", () => {
  assert.deepEqual(told([event("requeued", 1), event("processing", 2, 2)]), ["requeued 1", "processing 2"]);
});

test("a beginning with events before it that nobody heard is none", () => {
  assert.deepEqual(told([event("processing", 7, 2)]), ["progress 7"]);
});

test("what was heard of longest ago is forgotten first", () => {
  const order = new EventOrder(2);
  told(
    [event("processing", 1, 1, "a"), event("processing", 1, 1, "b"), event("progress", 2, 1, "a"), event("processing", 1, 1, "c")],
    order,
  );
  assert.deepEqual(told([event("progress", 2, 1, "a"), event("processing", 1, 1, "b")], order), ["processing 1"]);
});
