import assert from "node:assert/strict";
import type { LookupAddress } from "node:dns";
import { after, before, test } from "node:test";
import { startReceiver, type Receiver } from "../../test/support/https-receiver.ts";
import { FetchFailure } from "./fetch-failure.ts";
import { openGuardedFetch, type GuardedFetch } from "./open-guarded-fetch.ts";

let secure: Receiver;
let plain: Receiver;
before(async () => {
  secure = await startReceiver();
  plain = await startReceiver({ http: true });
});
after(async () => {
  await secure[Symbol.asyncDispose]();
  await plain[Symbol.asyncDispose]();
});

/** What hostile name servers say; names that are not here are asked of the system. */
const ZONE: Readonly<Record<string, readonly string[]>> = {
  "private.test": ["10.0.0.5"],
  "loopback.test": ["127.0.0.1"],
  "loopback6.test": ["::1"],
  "metadata.test": ["169.254.169.254"],
  "mixed.test": ["93.184.216.34", "127.0.0.1"],
  "mixed-first.test": ["127.0.0.1", "93.184.216.34"],
  "mixed6.test": ["93.184.216.34", "::ffff:127.0.0.1"],
  "mapped.test": ["::ffff:10.1.2.3"],
  "zoned.test": ["fe80::1%eth0"],
  "nat64.test": ["64:ff9b::7f00:1"],
  "nonsense.test": ["not-an-address"],
  "compatible.test": ["::8.8.8.8"],
  "zero.test": ["0.0.0.0"],
  "unspecified6.test": ["::"],
  "sixtofour.test": ["2002:7f00:1::"],
  "teredo.test": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
  "127.0.0.1.nip.test": ["127.0.0.1"],
};

function resolve(host: string): Promise<readonly LookupAddress[]> {
  const known = ZONE[host.replace(/\.$/, "")];
  if (known === undefined) return Promise.resolve(host.startsWith("localhost") ? [{ address: "127.0.0.1", family: 4 }] : []);
  return Promise.resolve(known.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })));
}

/** PORT is that of a server that is really there: whatever got through would be seen. */
const HOSTILE: readonly string[] = [
  // Loopback, in every spelling.
  "https://127.0.0.1:PORT/",
  "https://127.0.0.2:PORT/",
  "https://127.255.255.254:PORT/",
  "https://127.1:PORT/",
  "https://127.0.1:PORT/",
  "https://2130706433:PORT/",
  "https://0x7f000001:PORT/",
  "https://0x7f.0.0.1:PORT/",
  "https://0x7f.1:PORT/",
  "https://0177.0.0.1:PORT/",
  "https://0177.1:PORT/",
  "https://017700000001:PORT/",
  "https://127.0.0.1.:PORT/",
  "https://%31%32%37.0.0.1:PORT/",
  "https://①②⑦.0.0.1:PORT/",
  "https://127。0。0。1:PORT/",
  "https://0:PORT/",
  "https://0.0.0.0:PORT/",
  "https://0x0:PORT/",
  "https://localhost:PORT/",
  "https://LOCALHOST:PORT/",
  "https://localhost.:PORT/",
  "https://loc\talhost:PORT/",
  // IPv6, and IPv4 inside it.
  "https://[::1]:PORT/",
  "https://[0:0:0:0:0:0:0:1]:PORT/",
  "https://[::]:PORT/",
  "https://[::ffff:127.0.0.1]:PORT/",
  "https://[::ffff:7f00:1]:PORT/",
  "https://[0:0:0:0:0:ffff:7f00:0001]:PORT/",
  "https://[::ffff:10.0.0.1]:PORT/",
  "https://[::ffff:169.254.169.254]/",
  "https://[::ffff:0:127.0.0.1]:PORT/",
  "https://[::127.0.0.1]:PORT/",
  "https://[64:ff9b::127.0.0.1]:PORT/",
  "https://[64:ff9b:1::1]/",
  "https://[2002:7f00:1::]:PORT/",
  "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
  "https://[fe80::1]:PORT/",
  "https://[fe80::1%25eth0]:PORT/",
  "https://[fc00::1]:PORT/",
  "https://[fd00:ec2::254]/",
  "https://[fec0::1]:PORT/",
  "https://[ff02::1]:PORT/",
  "https://[100::1]/",
  "https://[2001:db8::1]/",
  "https://[4000::1]/",
  // Private, shared, link-local, metadata, reserved.
  "https://10.0.0.1/",
  "https://10.255.255.255/",
  "https://172.16.0.1/",
  "https://172.31.255.254/",
  "https://192.168.0.1/",
  "https://192.168.255.255/",
  "https://100.64.0.1/",
  "https://100.100.100.200/latest/meta-data/",
  "https://169.254.169.254/latest/meta-data/",
  "https://2852039166/latest/meta-data/",
  "https://0xa9fea9fe/latest/meta-data/",
  "https://169.254.170.2/v2/credentials",
  "https://168.63.129.16/machine",
  "https://192.0.0.192/opc/v2/",
  "https://192.0.2.1/",
  "https://198.18.0.1/",
  "https://198.51.100.1/",
  "https://203.0.113.1/",
  "https://224.0.0.1/",
  "https://240.0.0.1/",
  "https://255.255.255.255/",
  "https://0.1.2.3/",
  // Names whose addresses are none of the above to look at.
  ...Object.keys(ZONE).map((host) => `https://${host}:PORT/`),
  "https://private.test.:PORT/",
  "https://PRIVATE.TEST:PORT/",
  // What looks like another host.
  "https://example.com@127.0.0.1:PORT/",
  "https://user:password@93.184.216.34/",
  "https://user@93.184.216.34/",
  "https://example.com%40127.0.0.1:PORT/",
  "https://127.0.0.1:PORT\\@example.com/",
  "https:127.0.0.1:PORT/",
  "https:/\\127.0.0.1:PORT/",
  "https:\\\\127.0.0.1:PORT/",
  " https://127.0.0.1:PORT/ ",
  "ht\ntps://127.0.0.1:PORT/",
  // Schemes, and no URL at all.
  "http://127.0.0.1:PLAIN/",
  "http://93.184.216.34/",
  "HTTP://93.184.216.34/",
  "ftp://93.184.216.34/",
  "file:///etc/passwd",
  "gopher://127.0.0.1:PORT/_x",
  "data:text/plain,hello",
  "javascript:alert(1)",
  "blob:https://example.com/1",
  "unix:/run/docker.sock",
  "ws://93.184.216.34/",
  "//127.0.0.1:PORT/",
  "127.0.0.1:PORT",
  "https://",
  "https://:443/",
  "https:///",
  "https://[::1/",
  "https://999.1.1.1/",
  "https://93.184.216.34:99999/",
  "https://93.184.216.34:0/",
  "",
  "/etc/passwd",
  `https://93.184.216.34/${"a".repeat(2_048)}`,
];

function fill(url: string): string {
  return url.replace("PORT", String(secure.port)).replace("PLAIN", String(plain.port));
}

function fetchGuarded(options: { readonly egressAllow?: readonly string[]; readonly allowHttp?: boolean } = {}): GuardedFetch {
  return openGuardedFetch({ egressAllow: [], allowHttp: false, resolve, ca: [secure.ca], ...options });
}

async function reasonOf(fetch: GuardedFetch, url: string): Promise<string> {
  try {
    const { status } = await fetch.send({ url, headers: {}, body: "{}", timeoutMs: 60_000, maxAnswerBytes: 100 });
    return `answered ${status}`;
  } catch (thrown) {
    return thrown instanceof FetchFailure ? thrown.reason : `threw ${String(thrown)}`;
  }
}

test(`${HOSTILE.length} hostile URLs are refused and not one connection is made`, async (t) => {
  assert.ok(HOSTILE.length >= 60);
  assert.equal(new Set(HOSTILE).size, HOSTILE.length);
  await using fetch = fetchGuarded();
  const before = [secure.connections(), plain.connections()];
  for (const url of HOSTILE)
    await t.test(JSON.stringify(url.slice(0, 80)), async () => assert.equal(await reasonOf(fetch, fill(url)), "refused"));
  assert.deepEqual([secure.connections(), plain.connections()], before);
});

test("the same servers answer once the operator has opened their range: the refusals above are the guard's", async () => {
  await using fetch = fetchGuarded({ egressAllow: ["127.0.0.0/8"], allowHttp: true });
  for (const url of ["https://127.0.0.1:PORT/", "https://localhost:PORT/", "https://2130706433:PORT/", "http://127.0.0.1:PLAIN/"])
    assert.equal(await reasonOf(fetch, fill(url)), "answered 200", url);
  assert.equal(await reasonOf(fetch, fill("https://[::1]:PORT/")), "refused");
});

test("a name that turns private: a kept connection stays with the address that was judged, for less than 30 s; a new one is refused", async () => {
  let asked = 0;
  let now = 0;
  const rebinding = async (): Promise<readonly LookupAddress[]> => {
    asked += 1;
    return [{ address: asked === 1 ? "127.0.0.1" : "127.0.0.2", family: 4 }];
  };
  await using fetch = openGuardedFetch({ egressAllow: ["127.0.0.1/32"], allowHttp: true, resolve: rebinding, now: () => now });
  const url = `http://rebind.test:${plain.port}/`;
  const connections = plain.connections();
  for (now of [0, 10_000, 25_999]) assert.equal(await reasonOf(fetch, url), "answered 200");
  assert.deepEqual([asked, plain.connections() - connections], [1, 1]);
  // It may be idle for 4 s more: it would be used when its look-up is no longer fresh, so this request is its last.
  now = 26_001;
  assert.equal(await reasonOf(fetch, url), "answered 200");
  assert.equal(await reasonOf(fetch, url), "refused");
  assert.deepEqual([asked, plain.connections() - connections], [2, 1]);
});

test("a connection is used again for its own host name alone, whatever address that name has", async () => {
  const toLoopback = async (): Promise<readonly LookupAddress[]> => [{ address: "127.0.0.1", family: 4 }];
  await using fetch = openGuardedFetch({ egressAllow: ["127.0.0.1/32"], allowHttp: true, ca: [secure.ca], resolve: toLoopback });
  const connections = secure.connections();
  const post = (host: string): Promise<string> => reasonOf(fetch, `https://${host}:${secure.port}/`);
  // The certificate is good for the first two.
  assert.deepEqual(
    [await post("receiver.test"), await post("localhost"), await post("receiver.test")],
    ["answered 200", "answered 200", "answered 200"],
  );
  assert.equal(secure.connections() - connections, 2);
  assert.equal(await post("another.test"), "certificate");
});

test("each connection is made with the one answer that was judged", async () => {
  let asked = 0;
  const rebinding = async (): Promise<readonly LookupAddress[]> => {
    asked += 1;
    return [{ address: asked === 1 ? "10.0.0.1" : "127.0.0.1", family: 4 }];
  };
  await using fetch = openGuardedFetch({ egressAllow: ["127.0.0.0/8"], allowHttp: true, resolve: rebinding });
  assert.equal(await reasonOf(fetch, `http://rebind.test:${plain.port}/`), "refused");
  assert.equal(asked, 1);
});
