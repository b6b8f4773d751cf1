import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { startNotifyManager, type NotifyManager } from "../../test/support/notify-manager.ts";
import { openSdNotify } from "./sd-notify.ts";

async function startManager(t: TestContext): Promise<NotifyManager> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-notify-"));
  const manager = await startNotifyManager(join(dir, "notify"));
  t.after(async () => {
    await manager[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  });
  return manager;
}

test("ready, watchdog and stopping arrive at the service manager's socket", async (t) => {
  const manager = await startManager(t);
  const notify = openSdNotify({ NOTIFY_SOCKET: manager.socket }, { onError: (thrown) => assert.fail(String(thrown)) });
  await notify.ready("serving 2 models\non cpu");
  assert.equal(await manager.next(), "READY=1\nSTATUS=serving 2 models on cpu");
  await notify.watchdog();
  assert.equal(await manager.next(), "WATCHDOG=1");
  await notify.extend(30_000.4);
  assert.equal(await manager.next(), "EXTEND_TIMEOUT_USEC=30000400");
  await notify.stopping("draining", 20_000);
  assert.equal(await manager.next(), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=20000000");
});

test("outside systemd nothing is started", async () => {
  const notify = openSdNotify({ WATCHDOG_USEC: "1000000" }, { command: "/nonexistent", onError: (thrown) => assert.fail(String(thrown)) });
  await notify.ready("x");
  assert.equal(notify.enabled, false);
  assert.equal(notify.watchdogIntervalMs, null);
});

test("the notifier is found with a PATH that has Node's folder alone", async (t) => {
  const manager = await startManager(t);
  const path = process.env["PATH"];
  process.env["PATH"] = "/nonexistent";
  t.after(() => (process.env["PATH"] = path));
  await openSdNotify({ NOTIFY_SOCKET: manager.socket }, { onError: (thrown) => assert.fail(String(thrown)) }).status("found");
  assert.equal(await manager.next(), "STATUS=found");
});

test("the watchdog's interval is half of systemd's, and only for our own process", () => {
  const env = { NOTIFY_SOCKET: "/run/x", WATCHDOG_USEC: "30000000" };
  assert.equal(openSdNotify(env).watchdogIntervalMs, 15_000);
  assert.equal(openSdNotify({ ...env, WATCHDOG_PID: String(process.pid) }).watchdogIntervalMs, 15_000);
  assert.equal(openSdNotify({ ...env, WATCHDOG_PID: "1" }).watchdogIntervalMs, null);
});

test("a notifier that cannot be run is reported and changes nothing", async () => {
  const errors: unknown[] = [];
  await openSdNotify({ NOTIFY_SOCKET: "/run/x" }, { command: "/nonexistent", onError: (thrown) => errors.push(thrown) }).watchdog();
  assert.equal(errors.length, 1);
});
