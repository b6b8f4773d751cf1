import assert from "node:assert/strict";
import { test } from "node:test";
import { handshakeProblem, isSocketUpgrade, socketTarget, type HandshakeRequest } from "./socket-handshake.ts";

/** As a browser sends it. */
const GOOD: HandshakeRequest = {
  method: "GET",
  url: "/app/dryapi?protocol=7&client=js",
  httpVersion: "1.1",
  headers: {
    connection: "keep-alive, Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  },
};

const withHeaders = (headers: HandshakeRequest["headers"]): HandshakeRequest => ({ ...GOOD, headers: { ...GOOD.headers, ...headers } });

test("the path of a socket has one part after /app, in either form of a request's target", () => {
  assert.deepEqual(socketTarget("/app/k?protocol=5&x=1"), { appKey: "k", protocol: "5" });
  assert.deepEqual(socketTarget("/app/k/"), { appKey: "k", protocol: null });
  assert.deepEqual(socketTarget("http://host/app/k?protocol="), { appKey: "k", protocol: "" });
  for (const url of ["/", "/app", "/app/", "/app/k/x", "/apps/k", "/x/app/k", "/app/../../k", "//x:99999/app/k", "http://[", "*"])
    assert.equal(socketTarget(url), null, url);
});

test("a WebSocket handshake on the socket's path upgrades, and nothing else does", () => {
  assert.equal(isSocketUpgrade(GOOD), true);
  assert.equal(isSocketUpgrade(withHeaders({ upgrade: "WebSocket" })), true);
  assert.equal(isSocketUpgrade(withHeaders({ "content-length": "0" })), true);
  for (const upgrade of ["h2c", "TLS/1.0", "h2c, websocket", "websocket, h2c", "websocket/13", "", undefined])
    assert.equal(isSocketUpgrade(withHeaders({ upgrade })), false, upgrade);
  for (const url of ["/", "/api/v1/client/balance", "/app/k/x"]) assert.equal(isSocketUpgrade({ ...GOOD, url }), false, url);
});

test("what is wrong with a handshake has the status that RFC 6455 and RFC 9110 give it", () => {
  assert.equal(handshakeProblem(GOOD), null);
  const statusOf = (request: HandshakeRequest): number | undefined => handshakeProblem(request)?.status;
  assert.equal(statusOf({ ...GOOD, httpVersion: "1.0" }), 426);
  assert.equal(statusOf(withHeaders({ connection: "keep-alive" })), 426);
  for (const version of [undefined, "", "7", "14", "13, 8"])
    assert.equal(statusOf(withHeaders({ "sec-websocket-version": version })), 426, version);
  for (const key of [undefined, "", "x", "dGhlIHNhbXBsZSBub25jZQ"])
    assert.equal(statusOf(withHeaders({ "sec-websocket-key": key })), 400, key);
  assert.equal(statusOf({ ...GOOD, method: "POST" }), 400);
  assert.equal(statusOf(withHeaders({ "content-length": "1" })), 400);
  assert.equal(statusOf(withHeaders({ "transfer-encoding": "chunked" })), 400);
  assert.deepEqual(handshakeProblem({ ...GOOD, headers: {} })?.headers, {
    Upgrade: "websocket",
    Connection: "Upgrade, close",
    "Sec-WebSocket-Version": "13, 8",
  });
});
