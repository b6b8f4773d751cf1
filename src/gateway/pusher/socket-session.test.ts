import assert from "node:assert/strict";
import { test } from "node:test";
import { channelAuth, channelOf, PUSHER_CODES, type PusherProblem, type PusherProtocol } from "../../protocol/pusher.ts";
import { ACTIVITY_TIMEOUT_S, MOST_REFUSALS, SocketSession, type Update } from "./socket-session.ts";

const APP = { key: "app", secret: "secret" };

/** A socket whose buffer the test fills and empties. */
function open(
  problem: PusherProblem | null = null,
  protocol: PusherProtocol = 7,
): {
  readonly session: SocketSession;
  readonly sent: string[];
  readonly closed: PusherProblem[];
  readonly joined: string[];
  /** Of the clients whose key was shown, at the end. */
  readonly shown: string[];
  pings: number;
  dropped: number;
  buffer: number;
} {
  const lists = { sent: [] as string[], closed: [] as PusherProblem[], joined: [] as string[], shown: [] as string[] };
  const rig = { ...lists, buffer: 0, dropped: 0, pings: 0 };
  const wire = {
    send: (text: string | Buffer) => void rig.sent.push(text.toString()),
    ping: () => void (rig.pings += 1),
    close: (why: PusherProblem) => void rig.closed.push(why),
    get bufferedBytes() {
      return rig.buffer;
    },
  };
  const session = new SocketSession(
    {
      app: APP,
      socketId: "1.2",
      protocol,
      wire,
      onSubscribe: (client) => {
        rig.joined.push(client);
        return problem;
      },
      onUnsubscribe: (client) => rig.joined.push(`-${client}`),
      onEnded: (clients) => rig.shown.push(...clients),
      onDropped: (count) => (rig.dropped += count),
    },
    0,
  );
  return Object.assign(rig, { session });
}

function update(requestId: string, text: string, kind: "preview" | "progress" | "end" = "progress"): Update {
  return { requestId, seq: 1, frame: Buffer.from(text), hasPreview: kind === "preview", isEnd: kind === "end" };
}

test("a slow socket gets the newest preview and progress of each request only, and every end at once", () => {
  const rig = open();
  rig.sent.length = 0;
  rig.buffer = 1_000_000;
  for (let step = 0; step < 10; step += 1) {
    rig.session.update(update("a", `a preview ${step}`, "preview"));
    rig.session.update(update("a", `a progress ${step}`));
  }
  rig.session.update(update("b", "b0"));
  assert.deepEqual(rig.sent, []);
  assert.equal(rig.dropped, 18);
  rig.session.update(update("b", "b end", "end"));
  assert.deepEqual(rig.sent, ["b end"]);
  assert.equal(rig.dropped, 19);
  rig.buffer = 0;
  rig.session.drained();
  assert.deepEqual(rig.sent, ["b end", "a preview 9", "a progress 9"], "nothing of b follows its end");
});

test("what waits for a slow socket is not overtaken by what is newer", () => {
  const rig = open();
  rig.sent.length = 0;
  rig.buffer = 1_000_000;
  rig.session.update(update("a", "preview", "preview"));
  rig.buffer = 0;
  rig.session.update(update("a", "progress"));
  assert.deepEqual(rig.sent, []);
  rig.session.drained();
  assert.deepEqual(rig.sent, ["preview", "progress"]);
});

test("nothing follows an end, and no end comes twice", () => {
  const rig = open();
  rig.sent.length = 0;
  rig.session.update(update("a", "end", "end"));
  rig.session.update(update("a", "end", "end"));
  rig.session.update(update("a", "late"));
  assert.deepEqual(rig.sent, ["end"]);
});

test("a socket that takes nothing any more is closed and may come back", () => {
  const rig = open();
  rig.buffer = 5 * 1024 * 1024;
  rig.session.update(update("a", "x"));
  assert.deepEqual(rig.closed, [PUSHER_CODES.overCapacity]);
});

test("a silent peer is asked, and closed when it does not answer", () => {
  const rig = open();
  const quiet = ACTIVITY_TIMEOUT_S * 1_000;
  rig.session.check(quiet - 1);
  assert.equal(
    rig.sent.some((text) => text.includes("pusher:ping")),
    false,
  );
  rig.session.check(quiet);
  assert.ok(rig.sent.at(-1)?.includes("pusher:ping"));
  assert.equal(rig.pings, 1, "by the WebSocket, too: the Java, .NET and Swift libraries answer nothing else");
  rig.session.receive(JSON.stringify({ event: "pusher:pong", data: {} }), quiet + 5);
  rig.session.check(2 * quiet);
  assert.deepEqual(rig.closed, []);
  rig.session.check(2 * quiet + 5);
  rig.session.check(3 * quiet + 4);
  assert.deepEqual(rig.closed, []);
  rig.session.check(3 * quiet + 5);
  assert.deepEqual(rig.closed, [PUSHER_CODES.pongMissing]);
});

test("only a right signature of this very socket and channel subscribes, once; leaving leaves", () => {
  const rig = open();
  const subscribe = subscriber(rig.session);
  const channel = channelOf("me");
  subscribe(channel, channelAuth(APP, "9.9", channel));
  subscribe("private-client.", channelAuth(APP, "1.2", "private-client."));
  subscribe("public", "");
  assert.deepEqual(rig.joined, []);
  assert.equal(rig.sent.filter((text) => text.includes("subscription_error")).length, 3);
  subscribe(channel, channelAuth(APP, "1.2", channel));
  subscribe(channel, channelAuth(APP, "1.2", channel));
  assert.deepEqual(rig.joined, ["me"]);
  rig.session.receive(JSON.stringify({ event: "pusher:unsubscribe", data: { channel } }), 2);
  subscribe(channel, channelAuth(APP, "1.2", channel));
  assert.deepEqual(rig.shown, []);
  rig.session.ended();
  assert.deepEqual(rig.joined, ["me", "-me", "me", "-me"]);
  assert.deepEqual(rig.shown, ["me"]);
});

test("version 7 is told after how many silent seconds to ask, older ones are not", () => {
  for (const protocol of [5, 6, 7] as const) {
    const [established = ""] = open(null, protocol).sent;
    const { event, data } = JSON.parse(established) as { event: string; data: string };
    assert.equal(event, "pusher:connection_established");
    const fields = protocol === 7 ? { socket_id: "1.2", activity_timeout: ACTIVITY_TIMEOUT_S } : { socket_id: "1.2" };
    assert.deepEqual(JSON.parse(data), fields);
  }
});

test("a refusal comes under the name that the .NET library (version 5) waits for, too", () => {
  for (const protocol of [5, 6, 7] as const) {
    const rig = open(null, protocol);
    subscriber(rig.session)(channelOf("me"), "app:wrong");
    const events = rig.sent.slice(1).map((text) => (JSON.parse(text) as { event: string }).event);
    assert.deepEqual(events, ["pusher:subscription_error", ...(protocol === 5 ? ["pusher_internal:subscription_error"] : [])]);
  }
});

test("a peer that tries signature after signature is closed as unauthorised", () => {
  const rig = open();
  const subscribe = subscriber(rig.session);
  for (let tries = 0; tries < MOST_REFUSALS; tries += 1) subscribe(channelOf("me"), `app:${tries}`);
  assert.deepEqual(rig.closed, []);
  subscribe(channelOf("me"), "app:x");
  assert.deepEqual(rig.closed, [PUSHER_CODES.unauthorized]);
});

test("a subscription over the quota closes the connection and is not left again", () => {
  const rig = open(PUSHER_CODES.overQuota);
  subscriber(rig.session)(channelOf("me"), channelAuth(APP, "1.2", channelOf("me")));
  assert.deepEqual(rig.closed, [PUSHER_CODES.overQuota]);
  rig.session.ended();
  assert.deepEqual(rig.joined, ["me"]);
});

test("what is no message is answered, not obeyed", () => {
  for (const text of ["", "x", "1", "null", "[]", "{}", '{"event":1}', '{"data":{}}']) {
    const rig = open();
    rig.session.receive(text, 1);
    assert.deepEqual(JSON.parse(rig.sent.at(-1) ?? ""), { event: "pusher:error", data: PUSHER_CODES.badMessage }, text);
    assert.deepEqual(rig.closed, []);
  }
  const rig = open();
  rig.sent.length = 0;
  for (const data of [null, 1, "x", [], { channel: 1 }]) rig.session.receive(JSON.stringify({ event: "pusher:unsubscribe", data }), 1);
  rig.session.receive(JSON.stringify({ event: "pusher:signin", data: {} }), 1);
  assert.deepEqual(rig.sent, []);
});

function subscriber(session: SocketSession): (channel: string, auth: string) => void {
  return (channel, auth) => session.receive(JSON.stringify({ event: "pusher:subscribe", data: { channel, auth } }), 1);
}
