import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { WebSocket, type ClientOptions } from "ws";
import { certificate } from "../support/https-receiver.ts";
import { addClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, WAIT_MS, type TestSystem } from "../support/system.ts";
import { freePort } from "../support/free-port.ts";

const PAGE = join(import.meta.dirname, "..", "..", "docs", "deployment.md");

interface Proxy extends AsyncDisposable {
  readonly port: number;
  readonly ca: string;
}

/** A real nginx with the configuration that docs/deployment.md shows; only addresses and certificates are this test's. */
async function startNginx(gateway: string, port: number): Promise<Proxy> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-nginx-"));
  const pems = await certificate();
  await writeFile(join(dir, "key.pem"), pems.private);
  await writeFile(join(dir, "cert.pem"), pems.cert);
  const shown = /```nginx\n([\s\S]*?)```/.exec(await readFile(PAGE, "utf8"))?.[1];
  assert.ok(shown !== undefined, `${PAGE} shows no nginx configuration`);
  const changes: readonly (readonly [string, string])[] = [
    ["listen 443 ssl", `listen 127.0.0.1:${port} ssl`],
    ["/etc/ssl/api.example.org.crt", join(dir, "cert.pem")],
    ["/etc/ssl/api.example.org.key", join(dir, "key.pem")],
    ["http://127.0.0.1:8080", gateway],
  ];
  let server = shown;
  for (const [from, to] of changes) {
    assert.ok(server.includes(from), `the configuration of ${PAGE} no longer has ${from}`);
    server = server.replace(from, to);
  }
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${join(dir, name)};`);
  const http = ["access_log off;", ...temporary, server].join("\n");
  const config = `pid ${join(dir, "pid")};\nerror_log stderr warn;\nuser root;\nevents {}\nhttp {\n${http}\n}\n`;
  await writeFile(join(dir, "nginx.conf"), config);
  const nginx = spawn("nginx", ["-e", "stderr", "-c", join(dir, "nginx.conf"), "-g", "daemon off;"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let words = "";
  nginx.stderr.setEncoding("utf8").on("data", (each: string) => (words += each));
  const exited = once(nginx, "exit");
  const answers = async (): Promise<boolean> =>
    send({ port, ca: pems.cert, path: "/healthz" }).then(
      () => true,
      () => false,
    );
  for (const until = performance.now() + WAIT_MS; !(await answers());) {
    assert.ok(nginx.exitCode === null && performance.now() < until, `nginx does not answer: ${words}`);
  }
  return {
    port,
    ca: pems.cert,
    [Symbol.asyncDispose]: async () => {
      nginx.kill("SIGTERM");
      await exited;
      await rm(dir, { recursive: true, force: true });
    },
  };
}

interface Sent {
  readonly port: number;
  readonly ca: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

async function send({ port, ca, path, headers = {}, body }: Sent): Promise<{ readonly status: number; readonly text: string }> {
  const method = body === undefined ? "GET" : "POST";
  const asked = request({ host: "127.0.0.1", port, path, method, headers, ca, checkServerIdentity: () => undefined });
  asked.end(body);
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, text: await text(answer) };
}

describe("nginx as docs/deployment.md shows it", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let proxy: Proxy;
  let key: string;

  before(async () => {
    system = await startSystem();
    const port = await freePort();
    gateway = await startGateway(system, { DRYAPI_PUBLIC_URL: `https://127.0.0.1:${port}`, DRYAPI_TRUST_PROXY: "on" });
    [proxy, key] = await Promise.all([startNginx(gateway.url, port), addClient(system), system.startWorker()]);
  });
  after(async () => {
    await proxy?.[Symbol.asyncDispose]();
    await gateway?.[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });
  const asked = (path: string, body?: object): Promise<{ readonly status: number; readonly text: string }> =>
    send({
      ...proxy,
      path,
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });

  test("a job is submitted, and its result fetched by the link, all through the proxy", async () => {
    const fields = { model: "fake", prompt: "x", width: 64, height: 64 };
    const { status, text: submitted } = await asked("/api/v1/client/txt2img", fields);
    assert.equal(status, 200, submitted);
    const id = (JSON.parse(submitted) as { readonly data: { readonly request_id: string } }).data.request_id;
    await system.ended("fake", id);
    const answer = await asked(`/api/v1/client/request-status/${id}`);
    const url = new URL((JSON.parse(answer.text) as { readonly data: { readonly result_url: string } }).data.result_url);
    assert.equal(url.origin, `https://127.0.0.1:${proxy.port}`);
    assert.equal((await asked(`${url.pathname}${url.search}`)).status, 200);
  });

  test("a body of 70 MB comes through and is judged by the gateway", async () => {
    const image = `data:image/png;base64,${"A".repeat(70_000_000)}`;
    const { text: answer } = await asked("/api/v1/client/img2img", { model: "tiny-flux-dev", prompt: "x", image });
    // nginx itself answers with a page.
    assert.match(answer, /^\{"message":/);
  });

  test("sockets are upgraded", async () => {
    const options = { ca: proxy.ca, checkServerIdentity: () => false } satisfies ClientOptions;
    const socket = new WebSocket(`wss://127.0.0.1:${proxy.port}/app/dryapi?protocol=7`, options);
    const [message] = (await once(socket, "message")) as [Buffer];
    assert.match(message.toString(), /pusher:connection_established/);
    socket.close();
  });
});
