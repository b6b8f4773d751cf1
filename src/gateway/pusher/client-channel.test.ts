import assert from "node:assert/strict";
import { test } from "node:test";
import { ClientChannel, RECENT_END_MS } from "./client-channel.ts";
import type { PresentUpdate } from "./request-updates.ts";
import { SocketSession, type Update } from "./socket-session.ts";
import { toUpdate, type UpdatePayload } from "./update-payload.ts";

const NOW = 1_000_000;

interface Reading {
  readonly since: number;
  answer(present: readonly PresentUpdate[]): Promise<void>;
  fail(): Promise<void>;
}

/** A channel whose readings of the present state the test answers. */
function open(active: Promise<void> = Promise.resolve()): { readonly channel: ClientChannel; readonly readings: Reading[] } {
  const readings: Reading[] = [];
  const channel = new ClientChannel({
    client: "a",
    active,
    now: () => NOW,
    onSent: () => undefined,
    present: (since) => {
      const { promise, resolve, reject } = Promise.withResolvers<readonly PresentUpdate[]>();
      readings.push({
        since,
        answer: async (present) => {
          resolve(present);
          await settled();
        },
        fail: async () => {
          reject(new Error("Redis is away"));
          await settled();
        },
      });
      return promise;
    },
  });
  return { channel, readings };
}

/** After all that is due in this turn of the event loop. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function session(): { readonly session: SocketSession; readonly told: string[] } {
  const told: string[] = [];
  const wire = {
    send: (frame: string | Buffer) => {
      const { event, data } = JSON.parse(frame.toString()) as { event: string; data: string };
      if (event !== "request.status.updated") return;
      const { request_id: id, status, progress } = JSON.parse(data) as UpdatePayload;
      told.push(`${id} ${status} ${progress}`);
    },
    ping: () => undefined,
    close: () => undefined,
    bufferedBytes: 0,
  };
  const listeners = { onSubscribe: () => null, onUnsubscribe: () => undefined, onEnded: () => undefined };
  const options = { app: { key: "k", secret: "s" }, socketId: "1.2", protocol: 7, wire, ...listeners } as const;
  return { session: new SocketSession(options, NOW), told };
}

function payload(id: string, status: UpdatePayload["status"], progress: number): UpdatePayload {
  return { request_id: id, status, progress: progress.toFixed(2), preview: null, result_url: null };
}

function update(id: string, seq: number, status: UpdatePayload["status"] = "in_progress"): Update {
  return toUpdate("a", payload(id, status, seq), seq);
}

function present(id: string, seq: number, status: UpdatePayload["status"] = "in_progress"): PresentUpdate {
  return { payload: payload(id, status, seq), seq };
}

test("the present state comes first, then what came meanwhile and is newer", async () => {
  const { channel, readings } = open();
  const one = session();
  channel.add(one.session);
  await settled();
  for (const seq of [4, 5, 6]) channel.publish(update("x", seq));
  channel.publish(update("y", 1));
  assert.equal(one.told.length, 0);
  await readings[0]?.answer([present("x", 5)]);
  assert.deepEqual(one.told, ["x in_progress 5.00", "x in_progress 6.00", "y in_progress 1.00"]);
  channel.publish(update("x", 7));
  assert.equal(one.told.at(-1), "x in_progress 7.00");
  assert.equal(readings[0]?.since, NOW - RECENT_END_MS);
});

test("an end that was read is not told again when its event comes", async () => {
  const { channel, readings } = open();
  const one = session();
  channel.add(one.session);
  await settled();
  await readings[0]?.answer([present("x", 5, "done")]);
  channel.publish(update("x", 6, "done"));
  assert.deepEqual(one.told, ["x done 5.00"]);
});

test("nothing is read before the events are subscribed to", async () => {
  const { promise: active, resolve } = Promise.withResolvers<void>();
  const { channel, readings } = open(active);
  channel.add(session().session);
  await settled();
  assert.equal(readings.length, 0);
  resolve();
  await settled();
  assert.equal(readings.length, 1);
});

test("sessions that join together share a reading; one that joins later gets its own, and others are not held up", async () => {
  const { channel, readings } = open();
  const [one, two, three] = [session(), session(), session()];
  channel.add(one.session);
  channel.add(two.session);
  await settled();
  channel.add(three.session);
  await readings[0]?.answer([present("x", 1)]);
  assert.deepEqual([one.told.length, two.told.length, three.told.length], [1, 1, 0]);
  channel.publish(update("x", 2));
  assert.deepEqual([one.told.length, two.told.length, three.told.length], [2, 2, 0]);
  assert.equal(readings.length, 2);
  await readings[1]?.answer([present("x", 1)]);
  assert.deepEqual(three.told, ["x in_progress 1.00", "x in_progress 2.00"]);
});

test("a session that left and came back waits for a reading that began after it", async () => {
  const { channel, readings } = open();
  const one = session();
  channel.add(one.session);
  await settled();
  channel.delete(one.session);
  channel.add(one.session);
  await readings[0]?.answer([present("x", 1)]);
  assert.deepEqual(one.told, []);
  await readings[1]?.answer([present("x", 2)]);
  assert.deepEqual(one.told, ["x in_progress 2.00"]);
});

test("after a gap all are told what ended in it", async () => {
  const { channel, readings } = open();
  const one = session();
  channel.add(one.session);
  await settled();
  await readings[0]?.answer([]);
  channel.gap(NOW - 60_000);
  await settled();
  assert.ok((readings[1]?.since ?? NOW) < NOW - 60_000);
  await readings[1]?.answer([present("x", 9, "error")]);
  assert.deepEqual(one.told, ["x error 9.00"]);
});

test("a reading that fails holds nothing back, and is done again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { channel, readings } = open();
  const one = session();
  channel.add(one.session);
  await settled();
  channel.publish(update("x", 1));
  await readings[0]?.fail();
  assert.deepEqual(one.told, ["x in_progress 1.00"]);
  t.mock.timers.tick(10_000);
  await settled();
  await readings[1]?.answer([present("y", 1, "done")]);
  assert.equal(one.told.at(-1), "y done 1.00");
  assert.equal(readings[1]?.since, readings[0]?.since);
});
