import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import { openSdNotify } from "./sd-notify.ts";

/** A service manager's end of NOTIFY_SOCKET: prints each datagram and closes the descriptors that a barrier hands over, as systemd does. */
const LISTENER = `
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print(json.dumps("bound"), flush=True)
while True:
    data, fds, _, _ = socket.recv_fds(s, 4096, 4)
    for fd in fds: os.close(fd)
    print(json.dumps(data.decode()), flush=True)
`;

interface Manager {
  readonly socket: string;
  readonly next: () => Promise<string>;
}

async function startManager(t: TestContext): Promise<Manager> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-notify-"));
  const socket = join(dir, "notify");
  const child: ChildProcess = spawn("python3", ["-c", LISTENER, socket], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(async () => {
    child.kill("SIGKILL");
    await rm(dir, { recursive: true });
  });
  assert.ok(child.stdout);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => JSON.parse((await lines.next()).value as string) as string;
  assert.equal(await next(), "bound");
  return { socket, next };
}

/** The next message that is not the barrier that systemd-notify sends behind each one. */
async function nextState(manager: Manager): Promise<string> {
  for (;;) {
    const message = await manager.next();
    if (message !== "BARRIER=1") return message.trimEnd();
  }
}

test("ready, watchdog and stopping arrive at the service manager's socket", async (t) => {
  const manager = await startManager(t);
  const notify = openSdNotify({ NOTIFY_SOCKET: manager.socket }, { onError: (thrown) => assert.fail(String(thrown)) });
  await notify.ready("serving 2 models\non cpu");
  assert.equal(await nextState(manager), "READY=1\nSTATUS=serving 2 models on cpu");
  await notify.watchdog();
  assert.equal(await nextState(manager), "WATCHDOG=1");
  await notify.extend(30_000.4);
  assert.equal(await nextState(manager), "EXTEND_TIMEOUT_USEC=30000400");
  await notify.stopping("draining", 20_000);
  assert.equal(await nextState(manager), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=20000000");
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
  assert.equal(await nextState(manager), "STATUS=found");
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
