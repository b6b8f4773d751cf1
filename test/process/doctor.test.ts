import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { createInterface } from "node:readline";
import { after, before, describe, test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { findOrtLibrary, packagedOrt } from "../../src/lib/ort-files.ts";
import { makeAuthority, type Authority, type Certificate } from "../support/certificates.ts";
import { until } from "../support/redis-rig.ts";
import { startRedisServer } from "../support/redis-server.ts";
import { freePort } from "../support/free-port.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const CLI = join(ROOT, "src", "cli.ts");
/** By name: it is looked for in the PATH. */
const REDIS_SERVER = "redis-server";
const exec = promisify(execFile);

interface Check {
  readonly check: string;
  readonly level: string;
  readonly message: string;
  readonly fix?: string;
}

type Env = Readonly<Record<string, string>>;

/** What `dryapi doctor` finds, whatever its exit code; `wrap` is a command in front of it, by default one that does nothing. */
async function doctor(dir: string, env: Env, wrap: readonly [string, ...string[]] = ["env"]): Promise<readonly Check[]> {
  const [file, ...args] = [...wrap, process.execPath, CLI, "doctor", "--json", "--no-probe"];
  const options = {
    env: { PATH: process.env["PATH"] ?? "", HOME: dir, DRYAPI_STATE_DIR: join(dir, "state"), DRYAPI_DEVICE: "cpu", ...env },
  };
  const { stdout } = await exec(file, args, options).catch((thrown: { readonly stdout: string }) => thrown);
  return (JSON.parse(stdout) as { readonly checks: readonly Check[] }).checks;
}

const about = (checks: readonly Check[], start: string): readonly Check[] => checks.filter(({ check }) => check.startsWith(start));
const levels = (checks: readonly Check[]): readonly string[] => checks.map(({ check, level }) => `${check}: ${level}`);

/** As much of S3 as doctor asks for, over TLS; methods in `denied` are answered as S3 answers who may not. */
async function startS3(t: TestContext, certificate: Certificate, denied: readonly string[]): Promise<string> {
  const objects = new Map<string, { readonly bytes: Buffer; readonly headers: Readonly<Record<string, string>> }>();
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "https://s3");
    const verb = searchParams.has("list-type") ? "LIST" : searchParams.has("uploads") ? "UPLOADS" : (request.method ?? "");
    const body = await buffer(request);
    if (denied.includes(verb)) {
      return void response.writeHead(403).end(verb === "HEAD" ? "" : "<Error><Code>AccessDenied</Code><Message>no</Message></Error>");
    }
    const found = objects.get(pathname);
    const keys = [...objects.keys()].map((path) => `<Contents><Key>${path.replace(/^\/bucket\//, "")}</Key><Size>1</Size></Contents>`);
    if (verb === "LIST") return void response.end(`<ListBucketResult>${keys.join("")}</ListBucketResult>`);
    if (verb === "UPLOADS") return void response.end("<ListMultipartUploadsResult></ListMultipartUploadsResult>");
    if (verb === "DELETE") return void response.writeHead(objects.delete(pathname) ? 204 : 204).end();
    if (verb === "PUT") {
      const kept = Object.entries(request.headers).filter(([name]) => name.startsWith("x-amz-meta-") || name === "content-type");
      objects.set(pathname, { bytes: body, headers: Object.fromEntries(kept) as Record<string, string> });
      return void response.writeHead(200, { etag: '"1"' }).end();
    }
    if (found === undefined) return void response.writeHead(404).end(verb === "HEAD" ? "" : "<Error><Code>NoSuchKey</Code></Error>");
    response.writeHead(200, { ...found.headers, etag: '"1"', "content-length": String(found.bytes.length) });
    return void response.end(verb === "HEAD" ? "" : found.bytes);
  };
  const pems = { key: await readFile(certificate.keyFile), cert: await readFile(certificate.certFile) };
  const server = createHttps(pems, (request, response) => void answer(request, response));
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("dryapi doctor", () => {
  let dir: string;
  let authority: Authority;
  let good: Certificate;
  let late: Certificate;
  let foreign: Certificate;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "dryapi-doctor-"));
    authority = await makeAuthority(dir);
    good = await authority.issue("good", { san: "IP:127.0.0.1", days: 30 });
    late = await authority.issue("late", { san: "IP:127.0.0.1", days: -1 });
    foreign = await authority.issue("foreign", { san: "DNS:redis.example.org", days: 30 });
  });
  after(() => rm(dir, { recursive: true, force: true }));

  const s3 = (endpoint: string): Env => ({
    DRYAPI_STORE: "s3://bucket/",
    DRYAPI_S3_ENDPOINT: endpoint,
    DRYAPI_S3_REGION: "us-east-1",
    DRYAPI_S3_FORCE_PATH_STYLE: "on",
    AWS_ACCESS_KEY_ID: "key",
    AWS_SECRET_ACCESS_KEY: "secret",
    AWS_MAX_ATTEMPTS: "1",
  });
  const trusting = (): Env => ({ NODE_EXTRA_CA_CERTS: authority.certFile });

  const tlsRedis = async (t: TestContext, { certFile, keyFile }: Certificate): Promise<Env> => {
    const port = await freePort();
    const files = [`tls-cert-file ${certFile}`, `tls-key-file ${keyFile}`, `tls-ca-cert-file ${authority.certFile}`];
    const server = await startRedisServer(`tls-port ${port}`, "tls-auth-clients no", ...files);
    t.after(() => server[Symbol.asyncDispose]());
    return { REDIS_URL: `rediss://127.0.0.1:${port}` };
  };

  test("a Redis with a certificate of the company's own authority: NODE_EXTRA_CA_CERTS is named, and is all that it takes", async (t) => {
    const url = await tlsRedis(t, good);
    const [redis] = about(await doctor(dir, url), "redis");
    assert.match(redis?.message ?? "", /certificate is from an authority that Node does not know/);
    assert.match(redis?.fix ?? "", /NODE_EXTRA_CA_CERTS/);
    assert.deepEqual(levels(about(await doctor(dir, { ...url, ...trusting() }), "redis write")), ["redis write: ok"]);
  });

  test("a Redis whose certificate has expired, or is for another name", async (t) => {
    const [expired] = about(await doctor(dir, { ...(await tlsRedis(t, late)), ...trusting() }), "redis");
    assert.match(`${expired?.message} -> ${expired?.fix}`, /certificate has expired.* -> renew it/);
    const [other] = about(await doctor(dir, { ...(await tlsRedis(t, foreign)), ...trusting() }), "redis");
    assert.match(`${other?.message} -> ${other?.fix}`, /certificate is for another host name.*127\.0\.0\.1 is not in.* -> use a name/);
  });

  test("an object store over https: the same three", async (t) => {
    const at = async (certificate: Certificate, env: Env): Promise<string> => {
      const found = about(await doctor(dir, { ...s3(await startS3(t, certificate, [])), ...env }), "object store");
      return found.map(({ level, message }) => `${level} ${message}`).join("\n");
    };
    assert.match(await at(good, {}), /^fail .*from an authority that Node does not know: .*NODE_EXTRA_CA_CERTS/);
    assert.match(await at(late, trusting()), /^fail .*certificate has expired.*: renew it/);
    assert.match(await at(foreign, trusting()), /^fail .*certificate is for another host name/);
    assert.match(await at(good, trusting()), /^ok .*written, read, listed and deleted/);
  });

  test("each right that is missing in a bucket is named by itself", async (t) => {
    const found = async (...denied: readonly string[]): Promise<readonly Check[]> =>
      about(await doctor(dir, { ...s3(await startS3(t, good, denied)), ...trusting() }), "object store");
    const one = await found("DELETE");
    assert.deepEqual(levels(one), ["object store, delete: fail"]);
    assert.match(`${one[0]?.message} -> ${one[0]?.fix}`, /AccessDenied.*workers and gateways remove.* -> give the keys s3:DeleteObject/);
    assert.deepEqual(levels(await found("LIST", "UPLOADS")), ["object store, list: fail", "object store, clean: fail"]);
    assert.deepEqual(levels(await found("PUT", "GET", "DELETE")), [
      "object store, write: fail",
      "object store, read: fail",
      "object store, delete: fail",
    ]);
  });

  test("a folder on a read-only file system", { skip: process.getuid?.() === 0 ? false : "only root can mount one" }, async () => {
    const store = join(dir, "read-only");
    await mkdir(store);
    const mounted: readonly [string, ...string[]] = [
      "unshare",
      "--mount",
      "sh",
      "-c",
      'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"',
      store,
    ];
    const found = about(await doctor(dir, { DRYAPI_STORE: `file://${store}` }, mounted), "object store");
    assert.deepEqual(levels(found), ["object store, write: fail"]);
    assert.match(
      `${found[0]?.message} -> ${found[0]?.fix}`,
      /EROFS.*workers write outputs.* -> give the folder to the user .*ReadWritePaths/,
    );
  });

  test("a node of a cluster: what holds our slot serves with a warning, what does not is refused", async (t) => {
    const server = await startRedisServer("cluster-enabled yes");
    t.after(() => server[Symbol.asyncDispose]());
    const [refused] = about(await doctor(dir, { REDIS_URL: server.url }), "redis");
    assert.match(`${refused?.level} ${refused?.message} -> ${refused?.fix}`, /^fail .*cluster.*CLUSTERDOWN.* -> look at the nodes/);
    const redis = new Redis(server.url.replace(/^unix:/, ""));
    t.after(() => redis.disconnect());
    await redis.cluster("ADDSLOTSRANGE", 0, 16_383);
    await until("the cluster", async () => (await redis.cluster("INFO")).includes("cluster_state:ok"));
    const found = about(await doctor(dir, { REDIS_URL: server.url }), "redis");
    assert.ok(levels(found).includes("redis write: ok"), JSON.stringify(found));
    const cluster = found.find(({ check }) => check === "redis cluster");
    assert.equal(cluster?.level, "warn");
    assert.match(`${cluster.message} -> ${cluster.fix}`, /cluster_enabled.* -> use a Redis that is not a cluster/);
  });

  test("which onnxruntime runs, how it is called, and what is wrong with the one of DRYAPI_ORT_DIR", async () => {
    const found = async (env: Env): Promise<string> =>
      about(await doctor(dir, env), "onnxruntime")
        .map(({ level, message, fix }) => `${level} ${message} -> ${fix}`)
        .join("\n");
    const { dir: packaged, version } = packagedOrt();
    const library = findOrtLibrary(packaged) ?? "";
    const known = "it knows .*CPUExecutionProvider";
    assert.match(await found({}), new RegExp(`^ok ${version} through its C API \\(koffi [\\d.]+\\): ${library}; ${known}`));
    assert.match(
      await found({ DRYAPI_RUNTIME: "node" }),
      new RegExp(`^ok ${version} through onnxruntime-node's own API: ${library}; it knows cpu`),
    );
    const linked = join(dir, "linked");
    await mkdir(linked);
    await symlink(library, join(linked, `libonnxruntime.so.${version}`));
    assert.match(
      await found({ DRYAPI_ORT_DIR: linked }),
      new RegExp(`^ok ${version} .*: ${linked}/libonnxruntime\\.so\\.${version} of DRYAPI_ORT_DIR; ${known}`),
    );
    assert.match(
      await found({ DRYAPI_ORT_DIR: linked, DRYAPI_RUNTIME: "node" }),
      /^fail DRYAPI_RUNTIME=node: .* link it to libonnxruntime\.so\.1/,
    );
    assert.match(
      await found({ DRYAPI_ORT_DIR: join(dir, "none") }),
      /^fail DRYAPI_ORT_DIR is .*none, which holds no onnxruntime .* -> correct DRYAPI_ORT_DIR/,
    );
  });

  test("a library that takes its process down takes down none of doctor's", async () => {
    const broken = join(dir, "broken");
    await mkdir(broken);
    // Cut short: the loader maps what is not in the file, and the first touch of it is a SIGBUS.
    const path = join(broken, "libonnxruntime.so.1");
    await copyFile(findOrtLibrary(packagedOrt().dir) ?? "", path);
    await truncate(path, 2 ** 20);
    const [first] = about(await doctor(dir, { DRYAPI_ORT_DIR: broken }), "onnxruntime");
    assert.match(`${first?.level} ${first?.message}`, /^fail the process that proves device cpu:0 ended with SIG(BUS|SEGV)/);
  });

  test("a sentinel is not taken for an old Redis", async (t) => {
    const port = await freePort();
    const config = join(dir, "sentinel.conf");
    await writeFile(config, `port ${port}\nbind 127.0.0.1\ndir ${dir}\nsentinel monitor main 127.0.0.1 1 1\n`);
    const sentinel = spawn(REDIS_SERVER, [config, "--sentinel"], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => sentinel.kill("SIGKILL"));
    const lines = createInterface({ input: sentinel.stdout });
    for await (const line of lines) if (line.includes("+monitor master main")) break;
    sentinel.stdout.resume();
    const [redis] = about(await doctor(dir, { REDIS_URL: `redis://127.0.0.1:${port}` }), "redis");
    assert.match(redis?.message ?? "", /leads to a sentinel.*redis\+sentinel:\/\//);
  });
});

test("a job that is submitted straight to Redis is queued", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-direct-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const server = await startRedisServer();
  t.after(() => server[Symbol.asyncDispose]());
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: dir,
    DRYAPI_STATE_DIR: join(dir, "state"),
    REDIS_URL: server.url,
    DRYAPI_TEST_MODELS: "on",
  };
  const fields = ["model=tiny-flux-schnell", "prompt=fox"];
  const { stdout } = await exec(process.execPath, [CLI, "submit", "txt2img", ...fields, "--no-wait"], { env });
  const status = await exec(process.execPath, [CLI, "status", stdout.trim(), "--json"], { env });
  assert.match(status.stdout, /"status": ?"pending"/);
});
