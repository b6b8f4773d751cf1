import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import type { LookupAddress } from "node:dns";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer, type AddressInfo, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { promisify } from "node:util";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { startReceiver, type Received, type Receiver } from "../../test/support/https-receiver.ts";
import type { Downloaded, DownloadRequest } from "./download-file.ts";
import { FetchFailure } from "./fetch-failure.ts";
import { openGuardedFetch, type GuardedFetch } from "./open-guarded-fetch.ts";
import { MAX_REDIRECTS } from "./redirect.ts";

const run = promisify(execFile);
const MAX_BYTES = 200_000;
const FILE = Buffer.from(Array.from({ length: 50_000 }, (_, index) => (index * 7) % 251));

let dir: string;
let secure: Receiver;
let plain: Receiver;
let fetch: GuardedFetch;
/** The one server that a test speaks bytes with. */
let raw: Server;
let script: readonly Buffer[] = [];

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "download-file-"));
  secure = await startReceiver();
  plain = await startReceiver({ http: true });
  const resolve = async (host: string): Promise<readonly LookupAddress[]> => [
    { address: host === "private.test" ? "10.0.0.5" : "127.0.0.1", family: 4 },
  ];
  fetch = openGuardedFetch({ egressAllow: ["127.0.0.0/8"], allowHttp: true, ca: [secure.ca], resolve, userAgent: "dryapi-worker/1.2.3" });
  raw = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => {
      for (const bytes of script) socket.write(bytes);
      socket.end();
    });
  });
  await new Promise<void>((resolve) => raw.listen(0, "127.0.0.1", resolve));
});
after(async () => {
  await fetch[Symbol.asyncDispose]();
  await secure[Symbol.asyncDispose]();
  await plain[Symbol.asyncDispose]();
  raw.close();
  await rm(dir, { recursive: true, force: true });
});
afterEach(async () => {
  // A download that failed leaves nothing, and no test leaves a file for the next.
  for (const name of await readdir(dir)) await rm(join(dir, name));
});

const path = (): string => join(dir, "file");
const get = (url: string, rest: Partial<DownloadRequest> = {}): Promise<Downloaded> =>
  fetch.download({ url, path: path(), maxBytes: MAX_BYTES, timeoutMs: 60_000, ...rest });

/** Reason and words of a download's failure, of which nothing is left on the disk. */
async function failure(url: string, rest: Partial<DownloadRequest> = {}, what = url): Promise<readonly [string, string]> {
  const thrown = await get(url, rest).then(
    () => assert.fail(`${what} was downloaded`),
    (reason: unknown) => reason,
  );
  assert.ok(thrown instanceof FetchFailure, String(thrown));
  assert.deepEqual(await readdir(dir), []);
  return [thrown.reason, thrown.message];
}

async function bytesOf(url: string): Promise<Buffer> {
  const { sizeBytes } = await get(url);
  const bytes = await readFile(path());
  assert.equal(bytes.length, sizeBytes);
  await rm(path());
  return bytes;
}

/** What `curl -L` makes of the same: its exit code, and the file where it is 0. */
async function curl(url: string, ...more: readonly string[]): Promise<Buffer | number> {
  const out = join(dir, "curl");
  try {
    await run("curl", [
      "-sSL",
      "--fail",
      "--noproxy",
      "*",
      "--max-redirs",
      String(MAX_REDIRECTS),
      "--cacert",
      secure.caFile,
      ...more,
      "-o",
      out,
      url,
    ]);
    return await readFile(out);
  } catch (thrown) {
    return Number((thrown as { readonly code: unknown }).code);
  } finally {
    await rm(out, { force: true });
  }
}

/** Answers by path; 404 otherwise. */
type Site = Readonly<
  Record<string, { readonly status?: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: Buffer | string }>
>;
function serve(receiver: Receiver, site: Site): void {
  receiver.answer = ({ path: asked }, response) => {
    const { status = 200, headers = {}, body = "" } = site[asked] ?? { status: 404 };
    response.writeHead(status, headers).end(body);
  };
}
const to = (location: string, status = 302): Site[string] => ({ status, headers: { location }, body: "<a href>moved</a>" });
const asked = (receiver: Receiver, from: number): readonly string[] => receiver.received.slice(from).map((request) => request.path);

test("redirects lead to the file as they lead curl to it: every status, relative and absolute, to another host, with a body of their own", async () => {
  serve(secure, {
    "/a": to("/b", 301),
    "/b": to("c/d?e=f", 302),
    "/c/d?e=f": to("../g", 303),
    "/g": to(`https://localhost:${secure.port}/h#part`, 307),
    "/h": to("//receiver.test:PORT/file".replace("PORT", String(secure.port)), 308),
    "/file": { body: FILE },
    "/choices": to("/file", 300),
    "/query": to("?x=%20y"),
    "/query?x=%20y": to("/file"),
    "/dots": to("./../../file"),
    "/spaces": to(" /file "),
  });
  for (const start of ["/a", "/choices", "/query", "/dots", "/spaces"]) {
    const from = secure.received.length;
    assert.deepEqual(await bytesOf(`${secure.url}${start}`), FILE, start);
    const ours = asked(secure, from);
    const resolved = `receiver.test:${secure.port}:127.0.0.1`;
    assert.deepEqual(await curl(`${secure.url}${start}`, "--resolve", resolved), FILE, start);
    assert.deepEqual(asked(secure, from + ours.length), ours, `${start}: curl asks for the same`);
  }
});

test("bytes of a Location that are not ASCII go back to the server as they came", async () => {
  script = [Buffer.from(`HTTP/1.1 302 Found\r\nLocation: ${plain.url}/ü/file\r\nContent-Length: 0\r\n\r\n`)];
  serve(plain, { "/%C3%BC/file": { body: FILE } });
  const url = `http://127.0.0.1:${(raw.address() as AddressInfo).port}/`;
  assert.deepEqual(await bytesOf(url), FILE);
});

test(`${MAX_REDIRECTS} redirects are followed, one more is not, and a circle ends at once`, async () => {
  const chain = Object.fromEntries(Array.from({ length: 7 }, (_, index) => [`/${index + 1}`, to(`/${index}`)]));
  serve(plain, { ...chain, "/0": { body: FILE }, "/self": to("/self#again"), "/ping": to("/pong"), "/pong": to("/ping") });
  assert.deepEqual(await bytesOf(`${plain.url}/${MAX_REDIRECTS}`), FILE);
  assert.deepEqual(await failure(`${plain.url}/${MAX_REDIRECTS + 1}`), ["redirect", "more than 5 redirects lead from it"]);
  // Too many redirects, as curl calls it.
  assert.equal(await curl(`${plain.url}/${MAX_REDIRECTS + 1}`), 47);
  const circle = ["redirect", "a redirect leads back to where it came from"];
  for (const [start, requests] of [
    ["/self", 1],
    ["/ping", 2],
  ] as const) {
    const from = plain.received.length;
    assert.deepEqual(await failure(plain.url + start), circle);
    assert.equal(asked(plain, from).length, requests);
    assert.equal(await curl(plain.url + start), 47);
  }
});

test("a redirect leads nowhere where the URL itself may not lead, and nothing is sent there", async () => {
  const connections = [secure.connections(), plain.connections()];
  for (const [location, message] of [
    ["http://169.254.169.254/latest/meta-data/", /not public/],
    ["https://[::1]:PORT/", /not public/],
    ["https://2852039166/", /not public/],
    ["https://private.test/", /host private\.test has an address that is not public/],
    ["https://user:secret@127.0.0.1:PORT/file", /holds a user name or password/],
    ["file:///etc/passwd", /begins with file:/],
    ["ftp://127.0.0.1/file", /begins with ftp:/],
    ["data:audio/wav;base64,UklGRg==", /begins with data:/],
    ["http://127.0.0.1:PLAIN/file", /from https to http/],
    [`https://127.0.0.1:PORT/${"a".repeat(9_000)}`, /longer than 8192/],
  ] as const) {
    serve(secure, {
      "/start": to(location.replace("PORT", String(secure.port)).replace("PLAIN", String(plain.port))),
      "/file": { body: FILE },
    });
    const from = secure.received.length;
    const [reason, said] = await failure(`${secure.url}/start`);
    assert.equal(reason, "refused", location);
    assert.match(said, message);
    assert.deepEqual(asked(secure, from), ["/start"], location);
  }
  assert.equal(plain.connections(), connections[1]);
});

test("a name that turns private between two redirects is refused at the second", async () => {
  let lookups = 0;
  const resolve = async (): Promise<readonly LookupAddress[]> => [{ address: `127.0.0.${(lookups += 1)}`, family: 4 }];
  await using rebound = openGuardedFetch({ egressAllow: ["127.0.0.1/32"], allowHttp: true, resolve });
  serve(plain, { "/start": to("/file"), "/file": { body: FILE } });
  const from = plain.received.length;
  const url = `http://rebind.test:${plain.port}/start`;
  await assert.rejects(rebound.download({ url, path: path(), maxBytes: MAX_BYTES, timeoutMs: 60_000 }), {
    reason: "refused",
    message: "host rebind.test has an address that is not public",
  });
  assert.deepEqual([asked(plain, from), lookups], [["/start"], 2]);
});

test("a redirect that says nothing usable is an answer that cannot be used", async () => {
  serve(plain, { "/none": { status: 302 }, "/bad": to("http://[::1/"), "/empty": to("http://") });
  for (const start of ["/none", "/bad", "/empty"]) assert.equal((await failure(plain.url + start))[0], "answer", start);
  script = [Buffer.from("HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n")];
  assert.equal((await failure(`http://127.0.0.1:${(raw.address() as AddressInfo).port}/`))[0], "answer");
});

test("a redirect whose own body never ends is followed at once", async () => {
  plain.answer = ({ path: where }, response) => {
    if (where === "/file") return void response.end(FILE);
    response.on("error", () => undefined).writeHead(302, { location: "/file" });
    const more = (): void => {
      while (!response.destroyed && response.write("y".repeat(65_536)));
      response.once("drain", more);
    };
    more();
  };
  assert.deepEqual(await bytesOf(`${plain.url}/start`), FILE);
});

test("each request says who asks and that it wants the file as it is; cookies, credentials and referrers are never sent", async () => {
  const from = secure.received.length;
  serve(secure, {
    "/start": { ...to("/file"), headers: { location: "/file", "set-cookie": "session=1; Path=/", "www-authenticate": "Basic" } },
    "/file": { body: FILE },
  });
  await bytesOf(`${secure.url}/start`);
  const seen: readonly Received[] = secure.received.slice(from);
  assert.equal(seen.length, 2);
  serve(secure, { "/file": { body: FILE } });
  for (const { headers } of secure.received.slice(from)) {
    const { host, connection, ...rest } = headers;
    assert.deepEqual([host, connection], [`127.0.0.1:${secure.port}`, "close"]);
    assert.deepEqual(rest, { "user-agent": "dryapi-worker/1.2.3", accept: "*/*", "accept-encoding": "identity" });
  }
});

const EMPTY = gzipSync("");
const ENCODED: readonly (readonly [encoding: string, body: Buffer])[] = [
  ["identity", FILE],
  ["gzip", gzipSync(FILE)],
  ["x-gzip", gzipSync(FILE)],
  ["GZIP", gzipSync(FILE)],
  ["gzip", Buffer.concat([gzipSync(FILE.subarray(0, 100)), gzipSync(FILE.subarray(100))])],
  ["deflate", deflateSync(FILE)],
  ["deflate", deflateRawSync(FILE)],
  ["br", brotliCompressSync(FILE)],
  ["zstd", zstdCompressSync(FILE)],
  ["gzip, br", brotliCompressSync(gzipSync(FILE))],
  ["deflate,identity , gzip", gzipSync(deflateSync(FILE))],
];

test("a file that comes encoded all the same is decoded, as curl does it", async () => {
  const { stdout } = await run("curl", ["--version"]);
  const known = ["identity", "gzip", "deflate", ...(stdout.includes("brotli") ? ["br"] : []), ...(stdout.includes("zstd") ? ["zstd"] : [])];
  for (const [encoding, body] of ENCODED) {
    serve(plain, { "/file": { headers: { "content-encoding": encoding }, body } });
    assert.deepEqual(await bytesOf(`${plain.url}/file`), FILE, encoding);
    // curl reads one member of gzip alone, and no x-gzip in some versions.
    const codings = encoding.split(/\s*,\s*/);
    if (codings.every((coding) => known.includes(coding)) && !body.equals(ENCODED[4]?.[1] ?? FILE))
      assert.deepEqual(await curl(`${plain.url}/file`, "--compressed"), FILE, `curl, ${encoding}`);
  }
  const gzip = gzipSync(FILE);
  script = [
    Buffer.from(`HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n${gzip.length.toString(16)}\r\n`),
    gzip,
    Buffer.from("\r\n0\r\n\r\n"),
  ];
  assert.deepEqual(await bytesOf(`http://127.0.0.1:${(raw.address() as AddressInfo).port}/`), FILE, "as a coding of the transfer");
});

test("an encoding that is not known, too often used, or not what it says is refused with the reason", async () => {
  const gzip = gzipSync(FILE);
  for (const [encoding, body, message] of [
    ["compress", FILE, /encoding "compress", which is not known/],
    ["constructor", FILE, /encoding "constructor", which is not known/],
    ["gzip, gzip, gzip, gzip", FILE, /4 times/],
    ["gzip", FILE, /cannot be decoded/],
    ["deflate", FILE, /cannot be decoded/],
    ["br", FILE, /cannot be decoded/],
    ["zstd", FILE, /cannot be decoded/],
    ["gzip", gzip.subarray(0, gzip.length - 20), /cannot be decoded/],
    ["br", brotliCompressSync(FILE).subarray(0, 200), /cannot be decoded/],
    ["zstd", zstdCompressSync(FILE).subarray(0, 200), /cannot be decoded/],
    ["gzip, br", brotliCompressSync(FILE), /cannot be decoded/],
  ] as const) {
    serve(plain, { "/file": { headers: { "content-encoding": encoding }, body } });
    const [reason, said] = await failure(`${plain.url}/file`);
    assert.equal(reason, "answer", encoding);
    assert.match(said, message);
  }
});

test("a small answer that unfolds to a huge file ends at the limit, whichever coding unfolds it", async () => {
  const zeros = Buffer.alloc(4 * 1024 * 1024);
  // What lies between two codings counts as well: this one holds megabytes of nothing at all.
  const nothing = gzipSync(Buffer.concat(Array.from({ length: 200_000 }, () => EMPTY)));
  for (const [encoding, body] of [
    ["gzip", gzipSync(zeros)],
    ["deflate", deflateSync(zeros)],
    ["br", brotliCompressSync(zeros)],
    ["zstd", zstdCompressSync(zeros)],
    ["gzip, gzip", gzipSync(gzipSync(zeros))],
    ["gzip, gzip", nothing],
  ] as const) {
    assert.ok(body.length < MAX_BYTES, `${encoding}: ${body.length}`);
    serve(plain, { "/file": { headers: { "content-encoding": encoding }, body } });
    assert.deepEqual(await failure(`${plain.url}/file`), ["too-large", "the file is larger than the allowed 200000 bytes"], encoding);
  }
});

test("which successes are a file", async () => {
  const body = FILE;
  for (const [status, headers] of [
    [200, {}],
    [203, {}],
    [206, { "content-range": `bytes 0-${FILE.length - 1}/${FILE.length}` }],
  ] as const) {
    serve(plain, { "/file": { status, headers, body } });
    assert.deepEqual(await bytesOf(`${plain.url}/file`), FILE, String(status));
  }
  for (const [status, headers, reason] of [
    [201, {}, "status"],
    [202, {}, "status"],
    [204, {}, "answer"],
    [206, {}, "answer"],
    [206, { "content-range": `bytes 0-99/${FILE.length}` }, "answer"],
    [206, { "content-range": "bytes 0-99/*" }, "answer"],
    [226, {}, "status"],
    [304, {}, "status"],
    [404, {}, "status"],
    [500, {}, "status"],
  ] as const) {
    serve(plain, { "/file": { status, headers, body } });
    assert.equal((await failure(`${plain.url}/file`))[0], reason, `${status} ${JSON.stringify(headers)}`);
  }
  serve(plain, { "/file": {} });
  assert.deepEqual(await failure(`${plain.url}/file`), ["answer", "the server sent an empty file"]);
});

const HTTP = "HTTP/1.1 200 OK\r\n";

/** Answers as no server should give them; curl's exit code where it, too, finds them wrong. */
const ODD: readonly (readonly [what: string, answer: string, end: string, curl: number | "whole"])[] = [
  ["nothing at all", "", "network", 52],
  ["fewer bytes than it says", `${HTTP}Content-Length: 100\r\n\r\nabc`, "network", 18],
  ["a chunk that breaks off", `${HTTP}Transfer-Encoding: chunked\r\n\r\n5\r\nabc`, "network", 18],
  ["no last chunk", `${HTTP}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`, "network", 18],
  ["a chunk without a size", `${HTTP}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n`, "answer", 56],
  ["two lengths", `${HTTP}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc`, "answer", 8],
  ["a length below zero", `${HTTP}Content-Length: -3\r\n\r\nabc`, "answer", 8],
  ["another protocol", "SSH-2.0-OpenSSH_9.2\r\n", "answer", 1],
  ["many headers", `${HTTP}${"X-Long: abcdefghijklmnopqrstuvwxyz\r\n".repeat(1_000)}Content-Length: 3\r\n\r\nabc`, "abc", "whole"],
  ["too many headers", `${HTTP}${"X-Long: abcdefghijklmnopqrstuvwxyz\r\n".repeat(3_000)}Content-Length: 3\r\n\r\nabc`, "answer", "whole"],
  ["lines that end in LF alone", "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "abc", "whole"],
  ["a length beside chunks", `${HTTP}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`, "abc", "whole"],
  ["a switch of protocols", `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nabc`, "answer", "whole"],
  ["a header that is huge", `${HTTP}X-Huge: ${"a".repeat(400_000)}\r\n\r\nabc`, "answer", 56],
  ["the end of headers missing", `${HTTP}Content-Length: 3\r\n`, "network", 52],
  ["more bytes than it says", `${HTTP}Content-Length: 3\r\n\r\nabcdef`, "abc", "whole"],
  ["no length, ended by closing", "HTTP/1.0 200 OK\r\n\r\nabc", "abc", "whole"],
  [
    "interim answers first",
    `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${HTTP}Content-Length: 3\r\n\r\nabc`,
    "abc",
    "whole",
  ],
];

test("odd servers end a download with the right reason, or not at all", async () => {
  const url = `http://127.0.0.1:${(raw.address() as AddressInfo).port}/`;
  for (const [what, answer, end, theirs] of ODD) {
    script = [Buffer.from(answer)];
    if (end === "abc") assert.equal((await bytesOf(url)).toString(), "abc", what);
    else assert.equal((await failure(url, {}, what))[0], end, what);
    const found = await curl(url);
    if (theirs === "whole") assert.ok(typeof found !== "number", `${what}: curl ends with ${String(found)}`);
    else assert.ok(typeof found === "number" && found !== 0, `${what}: curl takes it`);
  }
});

test("a server that answers late, or drips, ends at the limit for signs of life, and all of it at its own", async () => {
  plain.answer = () => undefined;
  assert.equal((await failure(`${plain.url}/silent`, { stallMs: 50 }))[0], "timeout");
  plain.answer = (_request, response) => {
    response.writeHead(200).write("x");
    const timer = setInterval(() => response.write("x"), 5);
    response.on("close", () => clearInterval(timer));
  };
  assert.equal((await failure(`${plain.url}/drip`, { stallMs: 200 }))[0], "timeout");
  assert.deepEqual(await failure(`${plain.url}/drip`, { timeoutMs: 200 }), ["timeout", "it was not there within 0.2 s"]);
  // A redirect is a sign of life, but no more time in all.
  plain.answer = ({ path: where }, response) => {
    if (where !== "/third") response.writeHead(302, { location: where === "/first" ? "/second" : "/third" }).end();
  };
  assert.equal((await failure(`${plain.url}/first`, { timeoutMs: 200 }))[0], "timeout");
});

test("a certificate that nobody vouches for, or that is another host's, is no answer", async () => {
  await using strict = openGuardedFetch({ egressAllow: ["127.0.0.0/8"], allowHttp: true });
  const one = { path: path(), maxBytes: 1, timeoutMs: 60_000 };
  await assert.rejects(strict.download({ ...one, url: `${secure.url}/` }), { reason: "certificate" });
  await assert.rejects(get(`https://other.test:${secure.port}/`), { reason: "certificate" });
  // A server that speaks no TLS proves nothing either way.
  await assert.rejects(get(plain.url.replace("http:", "https:")), { reason: "network" });
});
