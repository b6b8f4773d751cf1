import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { urlPattern, urlProblem } from "./url-syntax.ts";

test("a URL is absolute, its host in ASCII, the rest as people paste it: the pattern and the check are of one mind", () => {
  for (const good of [
    "https://example.org",
    "https://example.org/",
    "https://a_b.internal:8443/x/y.mp3?a=b&c=%20#t",
    "https://127.0.0.1:65535/hook",
    "https://[2001:db8::1]/x",
    "https://[::]",
    "https://[1::]:1/",
    "https://[1:2:3:4:5:6:7:8]",
    "https://[1:2:3:4:5:6::8]",
    "https://xn--mller-kva.example/M%C3%BCller.mp3",
    "https://example.org/Müller.mp3",
    "https://example.org/a b [live].mp3?x[]=1|2",
    "https://example.org/%zz",
    "https://example.org?q=<x>#größe",
  ]) {
    assert.equal(urlProblem(good, { allowHttp: false }), null, good);
    assert.match(good, new RegExp(urlPattern({ allowHttp: false })));
  }
  for (const [bad, problem] of [
    ["http://example.org/", "must begin with https://."],
    ["ftp://example.org/", "must begin with https://."],
    ["https://me:pw@example.org/", "must not hold a user name or password."],
    ["https://müller.example/a.mp3", "must be a valid URL: the host's name is written in ASCII, as in xn--mller-kva.example."],
    ["https://example.org\\a", "must be a valid URL."],
    ["https://example.org/a\nb", "must be a valid URL."],
    ["https://[e]", "must be a valid URL."],
    ["https://[1:2:3:4:5:6:7:8:9]", "must be a valid URL."],
    ["https://[1::2::3]", "must be a valid URL."],
    ["https://a.256/", "must be a valid URL."],
    ["https://example.org:65536/", "must be a valid URL."],
    ["https://", "must be a valid URL."],
    ["example.org", "must be a valid URL."],
  ] as const)
    assert.equal(urlProblem(bad, { allowHttp: false }), problem, bad);
  assert.equal(urlProblem("http://example.org/", { allowHttp: true }), null);
});

test("what the pattern allows of a name, `new URL` reads", () => {
  const pattern = new RegExp(urlPattern({ allowHttp: false }));
  fc.assert(
    fc.property(fc.webUrl({ validSchemes: ["https"], withQueryParameters: true, withFragments: true }), (url) => {
      if (pattern.test(url)) assert.equal(urlProblem(url, { allowHttp: false }), null, url);
    }),
  );
});

test("whatever the pattern allows after the host, `new URL` reads", () => {
  const pattern = new RegExp(urlPattern({ allowHttp: false }));
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (rest) => {
      const url = `https://example.org/${rest}`;
      if (pattern.test(url)) assert.equal(urlProblem(url, { allowHttp: false }), null, url);
    }),
  );
});

test("every IPv6 address that the pattern allows, `new URL` reads", () => {
  const pattern = new RegExp(urlPattern({ allowHttp: false }));
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("0", "a", ":", ":", ":"), maxLength: 16 }), (address) => {
      const url = `https://[${address}]`;
      if (pattern.test(url)) assert.notEqual(URL.parse(url), null, url);
    }),
    { numRuns: 5_000 },
  );
});
