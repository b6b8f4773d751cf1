import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { packageVersion } from "../../src/config/package-info.ts";
import { pageCommands, packPackage, UnitHost } from "./unit-host.ts";

/** The Debian release to prove it on: bookworm has systemd 252, trixie 257. */
const SUITE = process.env["UNITS_SUITE"] ?? "bookworm";
/** As docs/systemd.md says. */
const INSTALLED = `/opt/dryapi-${packageVersion()}`;
const NODE_PACKAGE = `node-linux-${process.arch}`;
const PAIR = ["dryapi-worker", "dryapi-gateway"] as const;

/** One host from its installation to its reboot: the tests run in order, each on what the one before has left. */
describe(`the shipped units under systemd of ${SUITE}`, () => {
  let host: UnitHost;
  let key: string;

  before(async () => {
    const archive = await packPackage();
    host = await UnitHost.boot(SUITE);
    await host.put(archive, `dryapi-worker-${packageVersion()}.tgz`);
  });
  after(() => host[Symbol.asyncDispose]());

  async function follow(part: string): Promise<string> {
    let printed = "";
    for (const command of await pageCommands(part)) {
      const network = /^(apt-get|(PATH=\S+ )?npm) /.test(command) ? "host" : "own";
      printed = await host.sh(command, { network });
    }
    return printed;
  }

  const isActive = async (unit: string): Promise<boolean> => (await host.property(unit, "ActiveState")) === "active";
  /** Never 0, which `kill` takes for everybody. */
  async function pidOf(unit: string): Promise<string> {
    const pid = await host.property(unit, "MainPID");
    assert.ok(Number(pid) > 1, `${unit} does not run:\n${await host.journal(unit)}`);
    return pid;
  }

  const restartsOf = async (unit: string): Promise<number> => Number(await host.property(unit, "NRestarts"));

  /** systemd has heard of the watchdog three times, and has not restarted the unit. */
  async function isFed(unit: string): Promise<void> {
    const heard = new Set<string>();
    await host.until(`${unit} feeds the watchdog`, async () => {
      heard.add(await host.property(unit, "WatchdogTimestampMonotonic"));
      // The first is that of its start.
      return heard.size > 3;
    });
    assert.equal(await restartsOf(unit), 0, await host.journal(unit));
  }

  test("docs/systemd.md installs it on a bare Debian, and systemctl start returns with the units ready", async (t) => {
    await follow("install");
    await follow("cpu");
    // What an operator edits is edited; the tests' models are asked for, that of the fake family by name.
    await host.sh(
      "for name in worker gateway; do printf 'DRYAPI_TEST_MODELS=on\\nDRYAPI_MODELS=fake,tiny-flux-dev\\n' >>/etc/dryapi/$name.env; done",
    );
    const status = await follow("start");
    t.diagnostic(await host.sh("systemctl --version | head -n 1"));
    for (const unit of PAIR) assert.ok(await isActive(unit), await host.journal(unit));
    assert.match(status, /Status: "serving \d+ models on cpu:0"/);
    assert.match(status, /Status: "listening on http:\/\/127\.0\.0\.1:8080"/);
    key = await follow("key");
    assert.ok(key.length > 20, key);
  });

  test("a job with a picture goes through gateway, store and worker", async () => {
    assert.match(await host.client("picture", key), /"status":"done","resultType":"image\/png"/);
    assert.match(await host.sh("find /var/lib/dryapi/objects -type f"), /objects\/outputs\//);
    assert.equal(
      await host.sh("stat -c '%U %a' /var/lib/dryapi/objects /var/lib/dryapi/worker /var/lib/dryapi/gateway"),
      "dryapi 750\ndryapi 750\ndryapi 750",
    );
  });

  test("systemd-analyze has nothing to say about them where they are installed", async () => {
    await host.sh("install -m 640 -g dryapi -t /etc/dryapi /opt/dryapi-worker/deploy/systemd/courier.env");
    await host.sh("install -m 644 -t /etc/systemd/system /opt/dryapi-worker/deploy/systemd/*.service; systemctl daemon-reload");
    assert.equal(await host.sh("systemd-analyze verify --man=no /etc/systemd/system/dryapi-*.service 2>&1"), "");
    for (const [unit, most] of [
      ["dryapi-worker", 25],
      ["dryapi-gateway", 19],
    ])
      await host.sh(`systemd-analyze security --threshold=${most} ${unit}`);
  });

  test("reload looks for models, without a restart", async () => {
    const pid = await pidOf("dryapi-worker");
    await host.sh("systemctl reload dryapi-worker");
    await host.until("the worker has looked", async () =>
      (await host.journal("dryapi-worker")).includes("looking for new, repaired and removed models"),
    );
    assert.equal(await pidOf("dryapi-worker"), pid);
  });

  for (const unit of PAIR)
    test(`${unit} comes back after kill -9`, async () => {
      const pid = await pidOf(unit);
      await host.sh(`kill -9 ${pid}`);
      await host.until(`${unit} is back`, async () => (await restartsOf(unit)) === 1 && (await isActive(unit)));
      assert.notEqual(await pidOf(unit), pid);
    });

  for (const unit of PAIR)
    test(`${unit}: the watchdog ends one that does not move, and starts it again`, async () => {
      await host.edit(unit, "WatchdogSec=10");
      await host.sh(`systemctl restart ${unit}`);
      await isFed(unit);
      await host.sh(`kill -STOP ${await pidOf(unit)}`);
      await host.until(`${unit} is back`, async () => (await restartsOf(unit)) === 1 && (await isActive(unit)));
      assert.match(await host.journal(unit), /Watchdog timeout/);
      await host.edit(unit);
      await host.sh(`systemctl restart ${unit}`);
    });

  for (const unit of PAIR)
    test(`${unit}: stop drains and ends with 0`, async () => {
      await host.sh(`systemctl stop ${unit}`);
      assert.deepEqual([await host.property(unit, "Result"), await host.property(unit, "ExecMainStatus")], ["success", "0"]);
      assert.match(await host.journal(unit), /worker ended|gateway ending/);
      await host.sh(`systemctl start ${unit}`);
    });

  test("a drain may be longer than TimeoutStopSec: the job that runs ends whole", async () => {
    await host.edit("dryapi-worker", "TimeoutStopSec=10", "Environment=DRYAPI_SHUTDOWN_GRACE_MS=200s");
    await host.sh("systemctl restart dryapi-worker");
    const id = JSON.parse(await host.client("slow", key, "45")) as string;
    await host.until("the job runs", async () => (await host.client("status", key, id)) === '"processing"');
    await host.sh("systemctl stop dryapi-worker");
    assert.deepEqual(
      [await host.property("dryapi-worker", "Result"), await host.property("dryapi-worker", "ExecMainStatus")],
      ["success", "0"],
    );
    assert.match(await host.client("end", key, id), /"status":"done"/);
    await host.edit("dryapi-worker");
  });

  test("a start may be longer than TimeoutStartSec", async () => {
    await host.sh("printf '#!/bin/sh\\nsleep 14\\nexit 9\\n' >/usr/local/bin/nvidia-smi; chmod 755 /usr/local/bin/nvidia-smi");
    await host.edit("dryapi-worker", "TimeoutStartSec=10", "EnvironmentFile=", "EnvironmentFile=/etc/dryapi/auto.env");
    await host.sh("sed 's/^DRYAPI_DEVICE=.*/DRYAPI_DEVICE=auto/' /etc/dryapi/worker.env >/etc/dryapi/auto.env");
    await host.sh("systemctl restart --no-block dryapi-worker");
    await host.until("what it does is told", async () => (await host.property("dryapi-worker", "StatusText")) === "looking for devices");
    await host.until("the worker is ready", async () => isActive("dryapi-worker"));
    assert.equal(await restartsOf("dryapi-worker"), 0, await host.journal("dryapi-worker"));
    await host.edit("dryapi-worker");
    await host.sh("rm /usr/local/bin/nvidia-smi /etc/dryapi/auto.env; systemctl restart dryapi-worker");
  });

  for (const major of [20, 22])
    test(`Node ${major} first in the PATH: the unit runs on Node 24, and so does the launcher when that Node starts it`, async () => {
      await host.sh(`npm install --prefix /opt/node${major} --ignore-scripts --no-audit --no-fund ${NODE_PACKAGE}@${major}`, {
        network: "host",
      });
      const old = `/opt/node${major}/node_modules/${NODE_PACKAGE}/bin`;
      const path = `Environment=PATH=${old}:/usr/bin:/bin`;
      for (const start of [[], ["ExecStart=", "ExecStart=/usr/bin/env node /opt/dryapi-worker/scripts/dryapi.mjs worker"]]) {
        await host.edit("dryapi-worker", path, "WatchdogSec=10", ...start);
        await host.sh("systemctl restart dryapi-worker");
        await isFed("dryapi-worker");
        const exe = await host.sh(`readlink /proc/${await pidOf("dryapi-worker")}/exe`);
        if (start.length === 0) assert.ok(exe.startsWith(INSTALLED), exe);
      }
      await host.edit("dryapi-worker");
    });

  test("a system call outside the filter fails with EPERM instead of killing without a word", async () => {
    const node20 = `/opt/node20/node_modules/${NODE_PACKAGE}/bin/node`;
    const filtered = `systemd-run --quiet --wait --pipe --property=SystemCallFilter=@system-service`;
    // Node 20 asks for memory protection keys (pkey_alloc), which are outside; this is what the setting prevents.
    await assert.rejects(host.sh(`${filtered} ${node20} --eval 0`));
    await host.sh(`${filtered} --property=SystemCallErrorNumber=EPERM ${node20} --eval 0`);
    for (const unit of PAIR) assert.equal(await host.property(unit, "SystemCallErrorNumber"), "1");
  });

  test("without Node 24 anywhere the log says where it was looked for; a drop-in with its PATH mends it", async () => {
    await host.sh(`systemctl stop dryapi-worker; mv ${INSTALLED}/node_modules/${NODE_PACKAGE} /opt/hidden-node`);
    await assert.rejects(host.sh("systemctl start dryapi-worker"), "systemctl start tells that it failed, at once");
    assert.match(await host.journal("dryapi-worker"), /no Node 24 or newer: \/usr\/bin\/node is v\d+\.\S+; looked in PATH=/);
    await host.edit("dryapi-worker", "Environment=PATH=/opt/hidden-node/bin:/usr/bin:/bin");
    await host.until("the worker has come up by itself", async () => isActive("dryapi-worker"));
    await host.edit("dryapi-worker");
    await host.sh(
      `systemctl stop dryapi-worker; mv /opt/hidden-node ${INSTALLED}/node_modules/${NODE_PACKAGE}; systemctl start dryapi-worker`,
    );
  });

  test("a wrong Redis password at eight starts in a row, at growing pauses; once it is right the worker comes up by itself", async () => {
    await host.sh("systemctl stop dryapi-worker; redis-cli config set requirepass right");
    await assert.rejects(host.sh("systemctl start dryapi-worker"));
    await host.until("eight starts have failed", async () =>
      (await host.journal("dryapi-worker")).includes("failed 8 times in a row, the next start is in 60 s"),
    );
    await host.sh("redis-cli -a right config set requirepass ''");
    await host.until("the worker has come up by itself", async () => isActive("dryapi-worker"));
    const pauses = [...(await host.journal("dryapi-worker")).matchAll(/failed (\d) times in a row, the next start is in (\d+) s/g)].slice(
      -8,
    );
    assert.deepEqual(
      pauses.map(([, , pause]) => Number(pause)),
      [1, 2, 4, 8, 16, 32, 60, 60],
    );
  });

  test("an operator who restarts a unit that pauses does not wait", async () => {
    await host.sh("systemctl stop dryapi-worker; redis-cli config set requirepass right");
    await assert.rejects(host.sh("systemctl start dryapi-worker"));
    await host.until("it pauses", async () =>
      (await host.journal("dryapi-worker")).endsWith("the next start is in 16 s; systemctl restart starts at once"),
    );
    await host.sh("redis-cli -a right config set requirepass ''");
    await host.sh("systemctl restart dryapi-worker");
    const [, after = ""] = (await host.journal("dryapi-worker")).split(/the next start is in 16 s(?![^]*the next start is in 16 s)/);
    assert.doesNotMatch(after, /the next start is in/);
    assert.ok(await isActive("dryapi-worker"));
  });

  test("a taken port is waited for as well", async () => {
    await host.sh("systemctl stop dryapi-worker; systemd-run --quiet --unit=thief redis-server --port 9464 --save ''");
    await host.until("the port is taken", async () => (await host.sh("redis-cli -p 9464 ping || true")) === "PONG");
    await host.sh("systemctl start --no-block dryapi-worker");
    await host.until("it was tried twice", async () => (await restartsOf("dryapi-worker")) >= 2);
    await host.sh("systemctl stop thief");
    await host.until("the worker has come up by itself", async () => isActive("dryapi-worker"));
  });

  test("one daemon per GPU, and the courier apart from the gateway", async () => {
    await host.sh("systemctl stop dryapi-worker");
    // Without GPUs: each on the CPU.
    await host.sh(
      "for n in 0 1; do echo DRYAPI_DEVICES= >/etc/dryapi/worker-$n.env; done; systemctl start dryapi-worker@0 dryapi-worker@1 dryapi-courier",
    );
    for (const unit of ["dryapi-worker@0", "dryapi-worker@1", "dryapi-courier"]) assert.ok(await isActive(unit), await host.journal(unit));
    assert.match(await host.client("picture", key), /"status":"done"/);
    const names = await host.sh("redis-cli hkeys '{dryapi}:workers'");
    assert.match(names, /-0$/m);
    assert.match(names, /-1$/m);
    await host.sh("systemctl stop dryapi-worker@0 dryapi-worker@1 dryapi-courier; systemctl start dryapi-worker");
    for (const unit of ["dryapi-worker@0", "dryapi-worker@1", "dryapi-courier"])
      assert.equal(await host.property(unit, "Result"), "success");
  });

  test("an upgrade is a link: what runs stays in its version until it is restarted", async () => {
    await host.sh(`cp -a ${INSTALLED} /opt/dryapi-next; ln -sfnT /opt/dryapi-next/node_modules/dryapi-worker /opt/dryapi-worker`);
    const runs = async (): Promise<string> => host.sh(`tr '\\0' ' ' </proc/${await pidOf("dryapi-worker")}/cmdline`);
    assert.ok((await runs()).startsWith(INSTALLED));
    assert.match(await host.client("picture", key), /"status":"done"/);
    await host.sh("systemctl restart dryapi-worker");
    assert.ok((await runs()).startsWith("/opt/dryapi-next/"));
  });

  test("after a reboot all of it is there again", async () => {
    await host.reboot();
    for (const unit of PAIR) await host.until(`${unit} is up`, async () => isActive(unit).catch(() => false));
    assert.match(await host.client("picture", key), /"status":"done"/);
  });
});
