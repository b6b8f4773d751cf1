import assert from "node:assert/strict";
import { test } from "node:test";
import PusherServer from "pusher";
import {
  channelAuth,
  channelOf,
  clientOfChannel,
  errorFrame,
  frame,
  isChannelAuth,
  parseClientMessage,
  protocolOf,
  PUSHER_CODES,
} from "./pusher.ts";

const APP = { key: "app-key", secret: "s3cret" };

test("signatures are those of the pusher server SDK", () => {
  const sdk = new PusherServer({ appId: "1", cluster: "x", ...APP });
  for (const socketId of ["1.2", "123456789.987654321"]) {
    for (const client of ["a", "tester", "a_b-c"]) {
      const { auth } = sdk.authorizeChannel(socketId, channelOf(client));
      assert.equal(channelAuth(APP, socketId, channelOf(client)), auth);
      assert.equal(isChannelAuth(APP, socketId, channelOf(client), auth), true);
      for (const wrong of ["", auth.slice(0, -1), `${auth}0`, auth.toUpperCase(), `ü${auth.slice(1)}`])
        assert.equal(isChannelAuth(APP, socketId, channelOf(client), wrong), false, wrong);
    }
  }
});

test("a channel is one client's or nobody's", () => {
  assert.equal(clientOfChannel(channelOf("tester")), "tester");
  for (const channel of [
    "",
    "private-client.",
    "private-client.A",
    "private-client.a\n",
    "private-client.a.b",
    "presence-client.a",
    "client.a",
    "private-client.*",
  ])
    assert.equal(clientOfChannel(channel), null, channel);
});

test("messages of clients are read whatever else they hold", () => {
  const read = (value: unknown): unknown => parseClientMessage(JSON.stringify(value));
  assert.deepEqual(read({ event: "pusher:ping" }), { event: "ping" });
  assert.deepEqual(read({ event: "pusher:pong", data: "{}" }), { event: "pong" });
  assert.deepEqual(read({ event: "pusher:subscribe", data: { channel: "c", auth: "k:s", channel_data: null }, more: 1 }), {
    event: "subscribe",
    channel: "c",
    auth: "k:s",
  });
  assert.deepEqual(read({ event: "pusher:subscribe", data: { channel: 7 } }), { event: "subscribe", channel: "", auth: "" });
  const text = JSON.stringify({ channel: "c", auth: "k:s" });
  assert.deepEqual(read({ event: "pusher:subscribe", data: text }), { event: "subscribe", channel: "c", auth: "k:s" });
  for (const data of ["", "x", "1", "null"]) assert.deepEqual(read({ event: "pusher:ping", data }), { event: "ping" });
  assert.deepEqual(read({ event: "pusher:unsubscribe", data: { channel: "c" } }), { event: "unsubscribe", channel: "c" });
  assert.deepEqual(read({ event: "client-typing", channel: "c", data: {} }), { event: "client" });
  assert.deepEqual(read({ event: "pusher:signin", data: {} }), { event: "unknown" });
  for (const text of ["", "{", "[]", "null", '"pusher:ping"', '{"event":null}']) assert.equal(parseClientMessage(text), null, text);
});

test("data of a frame is a JSON text, of an error an object", () => {
  assert.equal(frame("e", { a: 1 }), '{"event":"e","data":"{\\"a\\":1}"}');
  assert.equal(frame("e", "text", "c"), '{"event":"e","channel":"c","data":"text"}');
  assert.equal(
    errorFrame(PUSHER_CODES.overQuota),
    '{"event":"pusher:error","data":{"code":4004,"message":"Application is over connection quota"}}',
  );
});

test("versions 5, 6 and 7 are spoken, all others refused with the protocol's codes", () => {
  for (const version of [5, 6, 7] as const) assert.equal(protocolOf(String(version)), version);
  assert.equal(protocolOf(null), PUSHER_CODES.noProtocol);
  for (const other of ["0", "4", "8", "70"]) assert.equal(protocolOf(other), PUSHER_CODES.protocolVersion, other);
  for (const wrong of ["", "7.0", "-7", "seven", " 7"]) assert.equal(protocolOf(wrong), PUSHER_CODES.badVersion, wrong);
});
