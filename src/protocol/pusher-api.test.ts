import assert from "node:assert/strict";
import { test } from "node:test";
import PusherServer from "pusher";
import { eventCall, parseRealtime } from "./pusher-api.ts";

test("a target is read from its address", () => {
  assert.deepEqual(parseRealtime("pusher://k:s%40s@host:6001/app1"), { base: "http://host:6001", appId: "app1", key: "k", secret: "s@s" });
  assert.equal(parseRealtime("pushers://k:s@host/app1").base, "https://host");
  for (const text of ["", "x", "pusher://host/app", "pusher://k@host/app", "pusher://k:hidden@host", "pusher://k:hidden@host/a/b"])
    assert.throws(
      () => parseRealtime(text),
      (error: Error & { code: string }) => error.code === "CONFIG_INVALID" && !error.message.includes("hidden"),
      text,
    );
});

test("calls are signed as the pusher server SDK signs them", (t) => {
  const now = 1_700_000_000;
  t.mock.timers.enable({ apis: ["Date"], now: now * 1_000 });
  const target = { base: "http://host:6001", appId: "app1", key: "k", secret: "s" };
  const sdk = new PusherServer({ appId: "app1", key: "k", secret: "s", host: "host", port: "6001" });
  for (const data of ["{}", JSON.stringify({ text: 'Grüße "und" 🎨' }), "x".repeat(30_000)]) {
    const { url, body } = eventCall(target, { name: "request.status.updated", channel: "private-client.a", data }, now);
    assert.deepEqual(JSON.parse(body), { name: "request.status.updated", channels: ["private-client.a"], data });
    const { pathname, host, searchParams } = new URL(url);
    assert.deepEqual([host, pathname], ["host:6001", "/apps/app1/events"]);
    const signed = new URLSearchParams(sdk.createSignedQueryString({ method: "POST", path: pathname, body }));
    assert.deepEqual([...searchParams.entries()].toSorted(), [...signed.entries()].toSorted());
  }
});
