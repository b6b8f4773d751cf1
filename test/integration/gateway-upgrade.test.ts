import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { WebSocket } from "ws";
import { openPusher } from "../support/pusher-client.ts";
import { addClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const run = promisify(execFile);
const PICTURE = JSON.stringify({ model: "fake", prompt: "x", width: 64, height: 64, steps: 1 });
const HANDSHAKE = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"];

interface Reply {
  readonly status: number;
  readonly headers: string;
  readonly body: string;
}

/** Requests that offer another protocol, to real gateways with sockets of their own and without. */
describe("Upgrade", () => {
  let system: TestSystem;
  let key: string;
  const gateways: { readonly what: string; readonly gateway: GatewayProcess }[] = [];
  before(async () => {
    system = await startSystem();
    key = await addClient(system);
    const env = { DRYAPI_MODELS: "fake", DRYAPI_RATE_PER_MINUTE: "0" };
    const [own, forwarding] = await Promise.all([
      startGateway(system, { ...env, DRYAPI_ADMIN_PORT: "0" }),
      startGateway(system, { ...env, DRYAPI_REALTIME: "pusher://k:s@127.0.0.1:9/app" }),
    ]);
    gateways.push({ what: "with its own sockets", gateway: own }, { what: "that forwards events", gateway: forwarding });
  });
  after(async () => {
    for (const { gateway } of gateways) await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });
  const own = (): GatewayProcess => gateways[0]?.gateway as GatewayProcess;

  /** What a request of these lines and bytes is answered. */
  async function raw(url: string, lines: readonly string[], body = ""): Promise<Reply> {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    let text = "";
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.write(`${lines.join("\r\n")}\r\n\r\n${body}`);
    await once(socket, "close");
    const final = text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, "");
    const [headers = "", ...rest] = final.split("\r\n\r\n");
    return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(headers)?.[1]), headers, body: rest.join("\r\n\r\n") };
  }

  const curl = async (...args: readonly string[]): Promise<Reply> => {
    const { stdout } = await run("curl", ["-s", "--http2", "-w", "\n%{http_code} %{http_version}", ...args]);
    const [, body = "", status, version] = /^([\s\S]*)\n(\d+) (\S+)$/.exec(stdout) ?? [];
    assert.equal(version, "1.1");
    return { status: Number(status), headers: "", body };
  };

  test("curl --http2 gets from every listener what it gets without", async () => {
    const auth = ["-H", `Authorization: Bearer ${key}`];
    for (const { what, gateway } of gateways) {
      assert.equal((await curl(`${gateway.url}/healthz`)).body, '{"ok":true}', what);
      assert.equal((await curl(`${gateway.url}/api/v1/client/balance`)).status, 401, what);
      const balance = await curl(...auth, `${gateway.url}/api/v1/client/balance`);
      assert.match(balance.body, /"balance"/, what);
      const submit = await curl(...auth, "-H", "Content-Type: application/json", "-d", PICTURE, `${gateway.url}/api/v1/client/txt2img`);
      assert.match(submit.body, /"request_id"/, what);
      const form = await curl(...auth, "-F", "model=fake", "-F", `prompt=${"x".repeat(100)}`, `${gateway.url}/api/v1/client/txt2img`);
      assert.equal(form.status, 422, what);
      assert.equal((await curl(`${gateway.url}/nowhere`)).status, 404, what);
      const admin = gateway.lines.find(({ msg }) => msg === "metrics and health");
      assert.match((await curl(`${String(admin?.["admin"])}/metrics`)).body, /dryapi_build_info/, what);
    }
  });

  test("whatever is offered, the route answers", async () => {
    const offers = ["h2c", "TLS/1.0", "websocket", "WebSocket, h2c", "h2c, websocket", "x", "HTTP/2.0, SHTTP/1.3, IRC/6.9, RTA/x11"];
    for (const { what, gateway } of gateways) {
      for (const upgrade of offers) {
        const head = [
          "Host: x",
          "Connection: close, Upgrade, HTTP2-Settings",
          `Upgrade: ${upgrade}`,
          "HTTP2-Settings: AAMAAABk",
          ...HANDSHAKE,
        ];
        const about = `${upgrade} to a gateway ${what}`;
        assert.equal((await raw(gateway.url, ["GET /healthz HTTP/1.1", ...head])).body, '{"ok":true}', about);
        const bodies = [
          { lines: [`Content-Length: ${PICTURE.length}`], body: PICTURE },
          { lines: ["Transfer-Encoding: chunked"], body: `${PICTURE.length.toString(16)}\r\n${PICTURE}\r\n0\r\n\r\n` },
          { lines: [`Content-Length: ${PICTURE.length}`, "Expect: 100-continue"], body: PICTURE },
        ];
        for (const { lines, body } of bodies) {
          const submit = [
            "POST /api/v1/client/txt2img HTTP/1.1",
            ...head,
            `Authorization: Bearer ${key}`,
            "Content-Type: application/json",
          ];
          const reply = await raw(gateway.url, [...submit, ...lines], body);
          assert.match(reply.body, /"request_id"/, `${about}: ${reply.headers}`);
        }
      }
    }
  });

  test("a connection goes on after an offer that was passed over", async () => {
    const { hostname, port } = new URL(own().url);
    const socket = connect(Number(port), hostname);
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    assert.match(String((await once(socket, "data"))[0]), /^HTTP\/1\.1 200 /);
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert.match(String((await once(socket, "data"))[0]), /^HTTP\/1\.1 200 /);
    await once(socket, "close");
  });

  test("a handshake that cannot be is answered with what is wrong with it", async () => {
    const offer = ["Host: x", "Connection: Upgrade, close", "Upgrade: websocket"];
    const [, sign = "", version = ""] = ["", ...HANDSHAKE];
    const cases: readonly (readonly [status: number, lines: readonly string[]])[] = [
      [426, ["GET /app/dryapi HTTP/1.1", "Host: x", "Connection: close"]],
      [426, ["GET /app/dryapi/ HTTP/1.1", "Host: x", "Connection: close"]],
      [426, ["GET /app/dryapi HTTP/1.0", "Connection: Upgrade", "Upgrade: websocket", sign, version]],
      [426, ["GET /app/dryapi HTTP/1.1", "Host: x", "Connection: Upgrade, close", "Upgrade: h2c"]],
      [426, ["GET /app/dryapi HTTP/1.1", ...offer, sign]],
      [426, ["GET /app/dryapi HTTP/1.1", ...offer, sign, "Sec-WebSocket-Version: 99"]],
      [400, ["GET /app/dryapi HTTP/1.1", ...offer, version]],
      [400, ["GET /app/dryapi HTTP/1.1", ...offer, version, "Sec-WebSocket-Key: short"]],
      [400, ["GET /app/dryapi HTTP/1.1", ...offer, sign, version, "Content-Length: 1"]],
      [404, ["GET /app/other HTTP/1.1", "Host: x", "Connection: close"]],
      [404, ["GET /app/ HTTP/1.1", ...offer, sign, version]],
      [404, ["GET /app/dryapi/x HTTP/1.1", ...offer, sign, version]],
      [404, ["GET /nowhere HTTP/1.1", ...offer, sign, version]],
    ];
    for (const [status, lines] of cases) {
      const reply = await raw(own().url, lines, lines.includes("Content-Length: 1") ? "x" : "");
      assert.equal(reply.status, status, `${lines.join(" | ")}: ${reply.headers}`);
      assert.equal(typeof (JSON.parse(reply.body) as { message: unknown }).message, "string");
      if (status !== 426) continue;
      assert.match(reply.headers, /^upgrade: websocket$/im, lines[0]);
      assert.match(reply.headers, /^connection: upgrade, close$/im, lines[0]);
      assert.match(reply.headers, /^sec-websocket-version: 13, 8$/im, lines[0]);
    }
  });

  test("a WebSocket handshake on the socket's path still becomes a socket, elsewhere and without sockets it does not", async () => {
    const client = openPusher({ url: own().url, key });
    await system.until("a connection", () => (client.connection.state === "connected" ? true : undefined));
    client.disconnect();
    for (const url of [`${own().url}/elsewhere`, `${gateways[1]?.gateway.url ?? ""}/app/dryapi?protocol=7`]) {
      const [error] = (await once(new WebSocket(url.replace("http", "ws")), "error")) as [Error];
      assert.match(error.message, /404/);
    }
  });
});
