import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { watch, type Started } from "../support/start-rig.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");
const REDIS_PASSWORD = "red1s-pa55w0rd";
const AWS_SECRET = "aws/s3cret+K3Y/0123456789";

describe("a worker that cannot start", () => {
  let dir: string;
  const processes: Started[] = [];

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "dryapi-start-"));
  });
  after(async () => {
    for (const { kill } of processes) kill("SIGTERM");
    await Promise.all(processes.map(({ ended }) => ended));
    await rm(dir, { recursive: true, force: true });
  });

  /** A worker with secrets in its settings and a Redis that nobody answers at, unless `env` says otherwise. */
  function start(env: Readonly<Record<string, string>>): Started {
    const full = {
      PATH: process.env["PATH"] ?? "",
      HOME: dir,
      REDIS_URL: `redis://user:${REDIS_PASSWORD}@127.0.0.1:1/0`,
      AWS_ACCESS_KEY_ID: "AKIDEXAMPLE",
      AWS_SECRET_ACCESS_KEY: AWS_SECRET,
      DRYAPI_STATE_DIR: join(dir, "state"),
      DRYAPI_STORE: pathToFileURL(join(dir, "objects")).href,
      DRYAPI_DEVICE: "cpu",
      // One that serves nothing has no queue to look at.
      DRYAPI_MODELS: "fake",
      DRYAPI_ADMIN_PORT: "0",
      DRYAPI_LOG_LEVEL: "trace",
      DRYAPI_SPOOL_MIN_FREE_BYTES: "0",
      ...env,
    };
    const started = watch(spawn(process.execPath, [CLI, "worker"], { env: full, stdio: ["ignore", "pipe", "pipe"] }));
    processes.push(started);
    return started;
  }

  async function refuses(env: Readonly<Record<string, string>>, code: number, ...messages: readonly RegExp[]): Promise<void> {
    const { code: exitCode, text } = await start(env).ended;
    assert.equal(exitCode, code, text);
    for (const message of messages) assert.match(text, message);
    assertNoSecret(text);
    assert.doesNotMatch(text, /^\s+at .*\(?file:/m, "an expected failure needs no stack");
  }

  test("without REDIS_URL: exit 2, says what to set", () => refuses({ REDIS_URL: "" }, 2, /REDIS_URL is unset/, /dryapi up/));

  test("wrong settings: exit 2, all of them at once, each with its value and what was expected", () =>
    refuses(
      { DRYAPI_LOCK_MS: "soon", DRYAPI_DEVICE: "tpu", DRYAPI_STORE: "ftp://somewhere", REDIS_URL: `http://user:${REDIS_PASSWORD}@host` },
      2,
      /DRYAPI_LOCK_MS is "soon", expected /,
      /DRYAPI_DEVICE is "tpu", expected .*cuda/,
      /DRYAPI_STORE is "ftp:\/\/somewhere", expected /,
      /REDIS_URL is "http:\/\/user:\[redacted\]@host", expected /,
    ));

  test("a store that cannot be written: exit 3, names the folder", async () => {
    await writeFile(join(dir, "a-file"), "no folder");
    const folder = join(dir, "a-file/objects");
    await refuses({ DRYAPI_STORE: pathToFileURL(folder).href }, 3, new RegExp(`object store folder ${folder} cannot be used: .*ENOTDIR`));
  });

  test("a spool that cannot be written: exit 2, names the folder", async () => {
    await writeFile(join(dir, "another-file"), "no folder");
    const folder = join(dir, "another-file/spool");
    await refuses({ DRYAPI_SPOOL_DIR: folder }, 2, new RegExp(`spool folder ${folder} cannot be used: .*ENOTDIR`));
  });

  test("cuda where there is none: exit 3, names what is missing and never takes the cpu", async () => {
    // No nvidia-smi in the PATH: no driver, on any machine.
    const empty = join(dir, "empty");
    await mkdir(empty, { recursive: true });
    await refuses(
      { DRYAPI_DEVICE: "cuda", PATH: empty },
      3,
      /device cuda was asked for, but nvidia-smi is missing/,
      /install the NVIDIA driver/,
    );
  });

  test("an admin port that is taken: exit 2, names address and setting", async () => {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    try {
      const { port } = server.address() as AddressInfo;
      await refuses({ DRYAPI_ADMIN_PORT: String(port) }, 2, new RegExp(`127\\.0\\.0\\.1:${port}`), /DRYAPI_ADMIN_PORT/);
    } finally {
      server.close();
    }
  });

  test("Redis away at the start: the worker waits for it, says so, and is not ready; a second one is refused its spool; SIGTERM ends it", async () => {
    const worker = start({});
    const [, admin] = await worker.until(/"admin":"([^"]+)".*"msg":"worker ready"/);
    await worker.until(/"level":"error".*"redis":"redis:\/\/user:\[redacted\]@127\.0\.0\.1:1\/0","msg":"Redis does not answer/);
    const ready = await fetch(`${admin}/readyz`);
    assert.equal(ready.status, 503);
    const report = (await ready.json()) as { checks: Record<string, { ok: boolean }> };
    assert.equal(report.checks["redis"]?.ok, false);
    assert.equal((await fetch(`${admin}/healthz`)).status, 200);
    const spool = join(dir, "state/spool");
    await refuses({}, 2, new RegExp(`spool folder ${spool} is used by another daemon \\(pid \\d+ on `), /give this one its own folder/);
    worker.kill("SIGTERM");
    const { code, text } = await worker.ended;
    assert.equal(code, 0, text);
    assertNoSecret(text);
  });

  test("an S3 store that is not there: the worker starts, since finished work waits for it; no secret is told", async () => {
    const state = join(dir, "state-s3");
    const worker = start({ DRYAPI_STORE: "s3://bucket?endpoint=http://127.0.0.1:1", DRYAPI_STATE_DIR: state });
    await worker.until(/"store":"[^"]*s3:\/\/bucket[^"]*".*"msg":"worker ready"/);
    worker.kill("SIGTERM");
    const { code, text } = await worker.ended;
    assert.equal(code, 0, text);
    assertNoSecret(text);
  });
});

function assertNoSecret(text: string): void {
  for (const secret of [REDIS_PASSWORD, AWS_SECRET, encodeURIComponent(AWS_SECRET)])
    assert.equal(text.includes(secret), false, `a secret was told:\n${text.split("\n").find((line) => line.includes(secret))}`);
}
