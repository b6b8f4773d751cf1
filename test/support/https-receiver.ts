import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server } from "node:https";
import type { IncomingHttpHeaders, IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generate } from "selfsigned";
import { until } from "./redis-rig.ts";

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Names as they came over the wire. */
  readonly rawHeaders: readonly string[];
  readonly body: string;
  /** Unix milliseconds, of the machine's clock. */
  readonly at: number;
}

/** A real server on 127.0.0.1 with a certificate for 127.0.0.1 and localhost. Answers as `answer` says; 200 by default. */
export interface Receiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** The certificate (PEM): whoever is to connect trusts it; undefined over plain http. */
  readonly ca: string;
  /** The same in a file, for NODE_EXTRA_CA_CERTS. */
  readonly caFile: string;
  readonly received: readonly Received[];
  /** Connections so far, with or without a request. */
  readonly connections: () => number;
  answer: (request: Received, response: ServerResponse) => void;
  /** The first that passes, past or to come. */
  request(matches: (request: Received) => boolean): Promise<Received>;
}

export async function startReceiver(options: { readonly http?: boolean } = {}): Promise<Receiver> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-receiver-"));
  const pems = await certificate();
  const caFile = join(dir, "ca.pem");
  await writeFile(caFile, pems.cert);
  const received: Received[] = [];
  let connections = 0;
  const onRequest: RequestListener = (request, response) => {
    void readAll(request).then((body) => {
      const { method = "", url: path = "", headers, rawHeaders } = request;
      const seen: Received = { method, path, headers, rawHeaders, body, at: Date.now() };
      received.push(seen);
      receiver.answer(seen, response);
    });
  };
  const server = options.http === true ? createHttpServer(onRequest) : createServer({ key: pems.private, cert: pems.cert }, onRequest);
  server.on("connection", () => (connections += 1));
  const port = await listen(server as Server);
  const receiver: Receiver = {
    url: `${options.http === true ? "http" : "https"}://127.0.0.1:${port}`,
    port,
    ca: pems.cert,
    caFile,
    received,
    connections: () => connections,
    answer: (_request, response) => void response.end("ok"),
    request: (matches) => until(`a request for which ${matches.toString()}`, () => received.find(matches) ?? null),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true, force: true });
    },
  };
  return receiver;
}

/** For 127.0.0.1, localhost and receiver.test. */
export function certificate(): ReturnType<typeof generate> {
  return generate([{ name: "commonName", value: `receiver-${randomUUID()}` }], {
    keyType: "ec",
    algorithm: "sha256",
    notAfterDate: new Date(Date.now() + 7 * 86_400_000),
    extensions: [
      { name: "basicConstraints", cA: true },
      {
        name: "subjectAltName",
        altNames: [
          { type: 2, value: "localhost" },
          { type: 2, value: "receiver.test" },
          { type: 7, ip: "127.0.0.1" },
        ],
      },
    ],
  });
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return (server.address() as AddressInfo).port;
}

async function readAll(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
